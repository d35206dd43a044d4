"""The signature: equal for what can't change the result, different for everything else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from clef.cells.identity import check_shards, folder_of, signature_of
from clef.config import CellConfig, CustomMethodConfig, resolve
from clef.data import manifest as manifests
from clef.data.manifest import Manifest
from clef.errors import ConfigError, ShardError
from clef.yaml_config import merge, read_yaml, resource

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


def own_card(folder: Path, text: str = "") -> str:
    """A copy of the demo set's card with some changes; its path."""
    folder.mkdir(exist_ok=True)
    content = merge(read_yaml(resource("shards/caer_s_demo.yaml")), yaml.safe_load(text) or {})
    (folder / "caer_s_demo.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "caer_s_demo.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "classes: [Disgust, Anger, Fear, Happy, Sad, Surprise, Neutral]",
        "classes: [Anger, Disgust, Fear, Happy, Sad, Surprise, Neutral, Awe]",
        "metric: macro F1", "test_splits: [test]", "block: 3",
    ],
)  # fmt: skip
def test_what_a_card_says_of_learning_and_scoring_counts(
    tiny: Make, manifest: Manifest, tmp_path: Path, text: str
) -> None:
    changed = tiny(own_card(tmp_path / "cards", text))
    assert signature_of(changed, manifest) != signature_of(tiny(), manifest)


def test_other_words_and_places_of_a_card_do_not(
    tiny: Make, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_card(tmp_path / "cards", "title: Other words\nsource: elsewhere")
    monkeypatch.chdir(tmp_path)
    for spelled in (path, "cards/caer_s_demo.yaml", "./cards/../cards/caer_s_demo.yaml"):
        assert signature_of(tiny(spelled), manifest) == signature_of(tiny(), manifest)


def test_weights_count_by_their_bytes_however_their_file_is_called(
    tiny: Make, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names = ["./w.pth", "~/w.pth", str(tmp_path / "w.pth"), f"{tmp_path}/../{tmp_path.name}/w.pth", "./copy.pth"]
    for name in ("w.pth", "copy.pth"):
        (tmp_path / name).write_bytes(b"the same")
    for key in ("backbone.weights.body", "method.context_branch.weights"):
        assert len({signature_of(tiny(**{key: name}), manifest) for name in names}) == 1
    both = [tiny(**{key: "./w.pth"}) for key in ("backbone.weights.body", "backbone.weights.context")]
    assert len({signature_of(config, manifest) for config in [*both, tiny()]}) == 3, "which encoder has them counts"


def test_shards_of_another_card_are_refused_with_what_differs(tiny: Make, manifest: Manifest, tmp_path: Path) -> None:
    swapped = "classes: [Disgust, Anger, Fear, Happy, Sad, Surprise, Neutral]"
    with pytest.raises(ShardError, match=r"classes: \['Anger', 'Disgust', .* there, \['Disgust', 'Anger', .* here"):
        check_shards(tiny(own_card(tmp_path, swapped)), manifest)
    with pytest.raises(ShardError, match=r"storage: .*'frame': 64.* there, .*'frame': 48.* here.*--out FOLDER"):
        check_shards(tiny(own_card(tmp_path, "storage: {frame: 48}")), manifest)
    check_shards(tiny(own_card(tmp_path, "storage: {samples_per_shard: 7}")), manifest)
    earlier = manifest.model_copy(update={"storage": None})  # of an earlier version, which didn't record them
    check_shards(tiny(own_card(tmp_path, "storage: {frame: 48}")), earlier)


def test_a_resolved_config_trains_again_unless_the_card_has_changed(tiny: Make, tmp_path: Path) -> None:
    config = tiny(own_card(tmp_path))
    assert resolve.resolve(config.model_dump(mode="json")) == config
    own_card(tmp_path, "metric: macro F1")
    with pytest.raises(ConfigError, match=r"card: not what .* says now \(metric: accuracy, not macro F1\)"):
        resolve.resolve(config.model_dump(mode="json"))


PINNED = "b4b7d8c1fbb94e20"


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


def test_a_card_without_the_split_that_it_tests_on_is_refused_before_training(tiny: Make, manifest: Manifest) -> None:
    config = tiny()
    card = config.card.model_copy(update={"test_splits": ("test", "probe")})
    with pytest.raises(ShardError, match="no split probe"):
        check_shards(config.model_copy(update={"card": card}), manifest)


def test_the_folder_says_which_cell_it_is(tiny: Make) -> None:
    config = tiny(**{"runtime.output_dir": "runs"})
    assert folder_of(config, "paper", "0123") == Path("runs/paper/caer_s_demo-emot_net-clef-s0-0123")
