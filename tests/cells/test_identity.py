"""The signature: equal for what can't change the result, different for everything else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clef.cells.identity import check_shards, folder_of, signature_of
from clef.config import CellConfig, CustomMethodConfig
from clef.data import manifest as manifests
from clef.data.manifest import Manifest
from clef.datasets import cards
from clef.errors import ShardError

Make = Callable[..., CellConfig]


@pytest.fixture
def manifest(shards: Path) -> Manifest:
    return manifests.load(shards / "caer_s_demo")


@pytest.mark.parametrize(
    "settings",
    [{"runtime.num_workers": 7}, {"runtime.log_every": 1}, {"runtime.output_dir": "elsewhere"}, {"resources.gpus": 4}],
)
def test_what_cannot_change_the_result_is_no_part_of_it(
    tiny: Make, manifest: Manifest, settings: dict[str, Any]
) -> None:
    assert signature_of(tiny(**settings), manifest) == signature_of(tiny(), manifest)


def test_what_is_said_of_a_method_of_ones_own_changes_no_signature(tiny: Make, manifest: Manifest) -> None:
    silent, says = (CustomMethodConfig(name="mine:Own", probabilities=said) for said in (False, True))
    marks = {signature_of(tiny().model_copy(update={"method": method}), manifest) for method in (silent, says)}
    assert len(marks) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1}, {"epochs": 3}, {"batch_size": 18}, {"optimizer.lr": 0.02}, {"mixed_precision": "bf16"},
        {"inputs.body.flip": False}, {"method.context_branch.lr_multiplier": 0.5}, {"method": {"name": "vanilla"}},
    ],
)  # fmt: skip
def test_everything_else_is(tiny: Make, manifest: Manifest, settings: dict[str, Any]) -> None:
    vanilla = settings.pop("method", None)
    changed = tiny(method="vanilla") if vanilla else tiny(**settings)
    assert signature_of(changed, manifest) != signature_of(tiny(), manifest)


def changed_content(manifest: Manifest, kind: str) -> Manifest:
    train = manifest.splits["train"]
    new = train.model_copy(update={"content": train.content | {kind: "0" * 64}})
    return manifest.model_copy(update={"splits": manifest.splits | {"train": new}})


def test_only_the_members_that_a_cell_reads_count(tiny: Make, manifest: Manifest) -> None:
    vanilla = tiny(method="vanilla")  # EMOT-Net: scene and body
    assert signature_of(vanilla, changed_content(manifest, "context.jpg")) == signature_of(vanilla, manifest)
    assert signature_of(vanilla, changed_content(manifest, "face.jpg")) == signature_of(vanilla, manifest)
    for kind in ("scene.jpg", "body.jpg", "meta.json"):
        assert signature_of(vanilla, changed_content(manifest, kind)) != signature_of(vanilla, manifest)
    assert signature_of(tiny(), changed_content(manifest, "context.jpg")) != signature_of(tiny(), manifest)


def test_pre_trained_weights_count_by_their_bytes(tiny: Make, manifest: Manifest, tmp_path: Path) -> None:
    marks = []
    for content in (b"one", b"two"):
        path = tmp_path / content.decode() / "weights.pth"
        path.parent.mkdir()
        path.write_bytes(content)
        marks.append(signature_of(tiny(**{"backbone.weights.body": str(path)}), manifest))
    assert marks[0] != marks[1]


def test_the_signature_is_pinned(tiny: Make) -> None:
    # Whoever changes what is hashed must raise SCHEMA: results on users' disks are found by these digits.
    from clef.cells.identity import compute_signature

    config = tiny(**{"runtime.shards": "shards"})
    assert compute_signature(config, {"train/body.jpg": "ab"}, {"scene": "cd"}) == PINNED


PINNED = "96a81a9e9a22bb79"


def test_a_cell_without_its_cue_is_refused_before_training(tiny: Make, manifest: Manifest) -> None:
    check_shards(tiny(backbone="caer_net"), manifest)
    test = manifest.splits["test"]
    faceless = test.model_copy(update={"members": test.members | {"face.jpg": 0}})
    without = manifest.model_copy(update={"splits": manifest.splits | {"test": faceless}})
    check_shards(tiny(), without)
    with pytest.raises(ShardError, match=r"nobody in test has a face\.jpg, which caer_net reads as 'face'"):
        check_shards(tiny(backbone="caer_net"), without)


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_a_split_without_labels_is_refused_before_training(tiny: Make, manifest: Manifest, name: str) -> None:
    split = manifest.splits[name]
    unlabeled = split.model_copy(update={"classes": dict.fromkeys(split.classes, 0)})
    without = manifest.model_copy(update={"splits": manifest.splits | {name: unlabeled}})
    with pytest.raises(ShardError, match=f"nobody in {name} has any label, so accuracy can't be computed"):
        check_shards(tiny(), without)
    one = split.model_copy(update={"classes": unlabeled.classes | {manifest.classes[-1]: 1}})
    check_shards(tiny(), manifest.model_copy(update={"splits": manifest.splits | {name: one}}))


def test_a_card_without_the_split_that_it_tests_on_is_refused_before_training(
    tiny: Make, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = cards.load("caer_s_demo").model_copy(update={"test_splits": ("test", "probe")})
    monkeypatch.setattr("clef.datasets.cards.load", lambda *_: card)
    with pytest.raises(ShardError, match="no split probe"):
        check_shards(tiny(), manifest)


def test_the_folder_says_which_cell_it_is(tiny: Make) -> None:
    config = tiny(**{"runtime.output_dir": "runs"})
    assert folder_of(config, "paper", "0123") == Path("runs/paper/caer_s_demo-emot_net-clef-s0-0123")
