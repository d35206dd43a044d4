"""Features of frozen encoders: computed once, the same as computing them anew, and dropped when anything changes."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clef import features, methods, networks
from clef.cells import records
from clef.cells.feature_tables import FeatureTable, feature_table, frozen_inputs, needed_tables, tables_of
from clef.cells.identity import write_config
from clef.config import CellConfig
from clef.data.dataset import CellDataset
from clef.data.loader import BatchLoader, to_device
from clef.data.shards import SplitShards
from clef.engine import feature_cache, run
from clef.engine.feature_cache import FrozenFeatures
from clef.errors import SetupError
from clef.models.context_branch import ContextBranch
from clef.models.encoders import make_encoder
from clef.models.frozen import FEATURES, FrozenEncoder
from clef.yaml_config import to_yaml
from tests.conftest import WITH_BRANCH
from tests.engine.factories import train_cell

Make = Callable[..., CellConfig]
FROZEN = {"method.context_branch.trainable": False, "inputs.context.flip": False}
CPU = torch.device("cpu")


def setting(config: CellConfig) -> tuple[ContextBranch, FrozenFeatures, SplitShards, list[str]]:
    said: list[str] = []
    method = methods.build(config, [1] * 7, 7, lambda load: pytest.fail("a dictionary"))
    kept = FrozenFeatures(config, method, CPU, said.append)
    return method.context_branch, kept, SplitShards(config.shards, "val"), said


def batch_of(split: SplitShards, inputs: Any, places: list[int]) -> dict[str, Any]:
    dataset = CellDataset(split, inputs, 0, augment=False)
    return next(iter(BatchLoader(dataset, [[(0, place) for place in places]], 0)))


def test_kept_features_are_those_of_the_encoder(tiny: Make) -> None:
    config = tiny(**FROZEN)
    branch, kept, split, _ = setting(config)
    places = [3, 0, len(split) - 1]
    batch = kept.add_features(batch_of(split, config.inputs.present, places), split)
    images = to_device(batch, config.inputs.present, CPU)["context"]
    expected = branch.frozen_encoders()[0].network()(images)
    torch.testing.assert_close(batch[FEATURES]["context_branch"], expected, atol=1e-5, rtol=1e-4)


def test_they_are_computed_once_for_all_cells(tiny: Make) -> None:
    first, second = (setting(tiny(**FROZEN, backbone=name)) for name in ("emot_net", "caer_net"))
    for branch, kept, split, _ in (first, second):
        kept.add_features({"index": torch.tensor([0])}, split)
        assert branch is not None
    assert ["computing" in text for text in first[3]] == [True]
    assert second[3] == [], "another backbone, the same features"


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"inputs.context.size": [32, 32]}, {"method.context_branch.width": 0.125},
     {"method.context_branch.input": "scene_without_face"}, {"inputs.context.mean": [0.5, 0.5, 0.5]}],
)  # fmt: skip
def test_whatever_changes_them_makes_others(tiny: Make, change: dict[str, Any]) -> None:
    def key(config: CellConfig) -> str:
        [frozen] = frozen_inputs(config)
        return feature_table(frozen, config, SplitShards(config.shards, "val").manifest, "val").path.name

    assert key(tiny(**FROZEN)) != key(tiny(**FROZEN | change))


def test_cells_of_another_precision_share_them(tiny: Make) -> None:
    _, kept, split, _ = setting(tiny(**FROZEN))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = kept.add_features({"index": torch.arange(20)}, split)[FEATURES]["context_branch"]
    assert not torch.equal(rows, rows.bfloat16().float()), "computed in float32 whatever is around"


def test_the_frame_itself_is_not_decoded_then(tiny: Make) -> None:
    assert "context" not in setting(tiny(**FROZEN))[1].decoded_inputs
    assert "context" in setting(tiny(**FROZEN, backbone="cd_net"))[1].decoded_inputs, "the backbone reads it"
    augmented = tiny(**FROZEN, **{"inputs.context.jitter": 0.2})
    assert "context" in setting(augmented)[1].decoded_inputs, "colors differ by epoch"
    assert "context" in setting(tiny())[1].decoded_inputs


@pytest.mark.slow
@pytest.mark.parametrize("method", WITH_BRANCH)
def test_a_cell_trains_on_them_and_leaves_the_encoder_alone(tiny: Make, tmp_path: Path, method: str) -> None:
    from safetensors.torch import load_file

    config = tiny(method=method, **FROZEN)
    write_config(tmp_path / "cell", config)
    result = run.run_cell(tmp_path / "cell")
    assert set(result["splits"]) == {"test", "test_shift"}
    weights = load_file(tmp_path / "cell/checkpoints/best.safetensors")
    branch = [name for name in weights if name.startswith("context_branch.")]
    assert branch == ["context_branch.classifier.bias", "context_branch.classifier.weight"], "it is in no checkpoint"
    assert len(list((tmp_path / "cache/features").glob("*.npy"))) == 4


def test_the_dictionary_is_built_once_from_the_train_frames(tiny: Make) -> None:
    said: list[str] = []

    def made(**settings: Any) -> Any:
        config = tiny(method="ccim", **settings)
        split = SplitShards(config.shards, "train")
        return feature_cache.cached_dictionary(config, lambda encoder, network: None, split, CPU, said.append)

    first, again, other = made(), made(backbone="caer_net", seed=3), made(**{"method.dictionary.size": 5})
    assert (len(first.centers), len(other.centers)) == (8, 5)
    assert torch.equal(first.centers, again.centers), "one dictionary for every backbone and seed"
    assert len(said) == 1, "the features were computed once, for all three"
    assert first.prior.sum().item() == pytest.approx(1)


def test_a_table_that_was_cut_short_is_not_trusted(tiny: Make) -> None:
    config = tiny(**FROZEN)
    _, kept, split, _ = setting(config)
    kept.add_features({"index": torch.tensor([0])}, split)
    [path] = Path(config.runtime.features).glob("features/*.npy")
    np.save(path, np.load(path)[:5])
    with pytest.raises(SetupError, match="5 rows"):
        setting(config)[1].add_features({"index": torch.tensor([0])}, split)


# ---- Encoders of the backbone ----

FROZEN_STREAM = {"network": "resnet18", "width": 0.0625, "weights": "none", "trainable": False}
STREAMS: dict[str, Any] = {
    "inputs": {"body": {"size": [24, 24], "flip": True}, "context": {"size": [32, 24], "flip": True}},
    "backbone.encoders": {"body": FROZEN_STREAM, "context": FROZEN_STREAM},
}


def built(config: CellConfig) -> FrozenFeatures:
    method = methods.build(config, [1] * 7, 7, lambda load: pytest.fail("a dictionary"))
    return FrozenFeatures(config, method, CPU, lambda _: None)


def test_features_of_augmented_batches_are_those_of_the_pictures(tiny: Make) -> None:
    config = tiny(backbone="encoders", method="vanilla", **STREAMS)
    kept, split = built(config), SplitShards(config.shards, "train")
    items = [(epoch, index) for epoch, index in zip([0, 0, 0, 1, 1, 1, 2], [5, 1, 7, 5, 1, 7, 5], strict=True)]
    [plain] = kept.batches(split, [items], augment=True)
    assert set(plain) == {"index", "target"}, "nothing is decoded"
    batch = kept.add_features(plain, split, np.array([epoch for epoch, _ in items]))
    pictures = CellDataset(split, config.inputs.present, config.seed, augment=True)
    [seen] = BatchLoader(pictures, [items], 0)
    assert torch.equal(seen["target"], batch["target"])
    seen = to_device(seen, config.inputs.present, CPU)
    for role, (_, encoder) in kept.kept.items():
        assert torch.equal(batch["valid"][role], seen["valid"][role])
        torch.testing.assert_close(batch[FEATURES][role], encoder.network()(seen[role]), atol=1e-5, rtol=1e-4)
    rows = batch[FEATURES]["body"][[0, 3, 6]]
    assert not torch.equal(rows[0], rows[1]) or not torch.equal(rows[0], rows[2]), "some epoch mirrors sample 5"


def test_half_precision_is_kept_and_read_as_float32(tiny: Make) -> None:
    encoders = dict.fromkeys(STREAMS["inputs"], FROZEN_STREAM | {"features": "fp16"})
    config = tiny(backbone="encoders", method="vanilla", **STREAMS | {"backbone.encoders": encoders})
    whole, half = built(tiny(backbone="encoders", method="vanilla", **STREAMS)), built(config)
    index, split = {"index": torch.tensor([4, 0])}, SplitShards(config.shards, "val")
    rows = half.add_features(index, split)[FEATURES]["body"]
    expected = whole.add_features(index, split)[FEATURES]["body"]
    assert torch.equal(rows, expected.half().float())
    assert rows.dtype == torch.float32


def test_a_changed_file_of_weights_is_another_table(tiny: Make, tmp_path: Path) -> None:
    def path(change: float) -> str:
        network = make_encoder("resnet18", 0.0625)
        torch.nn.init.constant_(network.bn1.bias, change)
        torch.save(network.state_dict(), tmp_path / f"{change}.pth")
        stream = FROZEN_STREAM | {"weights": str(tmp_path / f"{change}.pth")}
        config = tiny(backbone="encoders", method="vanilla", **STREAMS | {"backbone.encoders": {"body": stream}})
        manifest = SplitShards(config.shards, "val").manifest
        return feature_table(frozen_inputs(config)[0], config, manifest, "val").path.name

    assert path(0.0) != path(1.0)


def test_another_version_of_the_library_is_another_table(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(backbone="encoders", method="vanilla", **STREAMS)
    manifest, frozen = SplitShards(config.shards, "val").manifest, frozen_inputs(config)[0]
    published = frozen.encoder.model_copy(update={"network": "torchvision:resnet18"})

    def name() -> str:
        return feature_table(replace(frozen, encoder=published), config, manifest, "val").path.name

    now = name()
    monkeypatch.setattr(networks, "version", lambda library: "0.1")
    assert name() != now


@pytest.mark.parametrize(
    "change", [{"size": [24, 32]}, {"interpolation": "lanczos"}, {"fit": "letterbox"}, {"std": [0.5, 0.5, 0.5]}]
)
def test_another_way_to_see_a_picture_is_another_table(tiny: Make, change: dict[str, Any]) -> None:
    def names(**body: Any) -> set[str]:
        inputs = {"inputs": STREAMS["inputs"] | {"body": STREAMS["inputs"]["body"] | body}}
        config = tiny(backbone="encoders", method="vanilla", **STREAMS | inputs)
        return {table.path.name for table in tables_of(config, SplitShards(config.shards, "val").manifest)}

    assert len(names() & names(**change)) == 5, "those of the other input alone: 4 splits, and train mirrored"


def test_a_mirrored_table_is_made_for_inputs_that_flip_alone(tiny: Make) -> None:
    config = tiny(
        backbone="encoders", method="clef", **FROZEN | {"inputs.body.flip": False, "inputs.body.size": [24, 24]}
    )
    tables = tables_of(config, SplitShards(config.shards, "val").manifest)
    assert not [table for table in tables if table.mirrored]
    needed = needed_tables([config, config])
    assert list(needed) == list({table.path: table for table in tables})
    assert {cells for _, _, cells in needed.values()} >= {2}


@pytest.mark.slow
def test_a_cell_whose_features_are_kept_opens_no_picture(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(backbone="encoders", method="vanilla", **STREAMS)
    first = records.read_json(train_cell(config) / "result.json")
    monkeypatch.setattr(SplitShards, "read", lambda *_: pytest.fail("a member of a shard is read"))
    config = config.model_copy(update={"seed": 1, "runtime": config.runtime.model_copy(update={"predictions": "none"})})
    again = records.read_json(train_cell(config) / "result.json")
    assert set(again["splits"]) == set(first["splits"])


# ---- Files ----


def table_and_encoder(config: CellConfig) -> tuple[FeatureTable, FrozenEncoder, SplitShards]:
    split = SplitShards(config.shards, "train")
    kept = built(config)
    frozen, encoder = kept.kept["body"]
    return feature_table(frozen, config, split.manifest, "train"), encoder, split


def test_a_computation_that_was_interrupted_goes_on_where_it_was(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(backbone="encoders", method="vanilla", **STREAMS)
    table, encoder, split = table_and_encoder(config)
    monkeypatch.setattr(feature_cache, "BATCH_SIZE", 16)
    monkeypatch.setattr(feature_cache, "SAVE_SECONDS", -1.0)
    seen: list[int] = []

    def compute(stop_at: int | None = None) -> np.ndarray:
        def progress(done: int, total: int) -> None:
            seen.append(done)
            if done == stop_at:
                raise KeyboardInterrupt

        return feature_cache.computed_table(table, encoder, split, config, CPU, lambda _: None, progress)

    with pytest.raises(KeyboardInterrupt):
        compute(stop_at=48)
    assert table.state == "partial"
    rows = compute()
    assert seen[:5] == [16, 32, 48, 48, 64], "the batch that was not yet noted is computed again, and no other"
    images = to_device(
        batch_of(split, {"body": config.inputs.body}, list(range(len(split)))), {"body": config.inputs.body}, CPU
    )
    torch.testing.assert_close(torch.from_numpy(rows), encoder.network()(images["body"]).detach(), atol=1e-5, rtol=1e-4)
    assert [path.suffix for path in sorted(table.path.parent.glob("*body*"))] == [".json", ".lock", ".npy"]


def test_a_computation_whose_file_was_cut_short_begins_anew(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(backbone="encoders", method="vanilla", **STREAMS)
    table, encoder, split = table_and_encoder(config)
    monkeypatch.setattr(feature_cache, "SAVE_SECONDS", -1.0)

    def interrupt(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        feature_cache.computed_table(table, encoder, split, config, CPU, lambda _: None, interrupt)
    os.truncate(table.partial, table.partial.stat().st_size // 4)
    rows = feature_cache.computed_table(table, encoder, split, config, CPU, lambda _: None)
    assert rows.any(axis=1).all(), "no row of zeros"


@pytest.mark.parametrize("damage", ["a byte", "cut", "header", "record", "another's record"])
def test_damage_is_found_and_named(tiny: Make, damage: str) -> None:
    config = tiny(backbone="encoders", method="vanilla", **STREAMS)
    table, encoder, split = table_and_encoder(config)
    feature_cache.computed_table(table, encoder, split, config, CPU, lambda _: None)
    content = bytearray(table.path.read_bytes())
    if damage == "a byte":
        content[-5] ^= 1
        table.path.write_bytes(content)
    elif damage == "cut":
        table.path.write_bytes(content[:-100])
    elif damage == "header":
        table.path.write_bytes(b"\0" * 10 + content[10:])
    elif damage == "record":
        table.record.unlink()
    else:
        record = records.read_json(table.record)
        records.write_json(table.record, record | {"facts": record["facts"] | {"network": "another"}})
    with pytest.raises(SetupError, match=table.path.name):
        table.check()


def test_the_command_lists_computes_and_verifies(tiny: Make, run_of: Callable[..., Any], shards: Path) -> None:
    settings = {
        "backbone.encoders": {"body": FROZEN_STREAM, "context": None},
        "inputs": {"body": {"size": [24, 24], "flip": False}},
        "runtime": {"shards": str(shards), "num_workers": 0, "device": "cpu"},
    }
    grid = {"datasets": ["caer_s_demo"], "backbones": ["encoders"], "methods": ["vanilla"], "seeds": [0, 1]}
    Path("grid.yaml").write_text(to_yaml(grid | {"overrides": [{"set": settings}]}), encoding="utf-8")
    command = run_of(features.main)
    code, _, said = command("--grid", "grid.yaml", "--verify")
    assert code == 5
    assert "4 of 4 tables are missing" in said
    code, listed, _ = command("--grid", "grid.yaml", "--dry-run")
    assert code == 0
    assert listed.count("missing") == 4 + 1, "four splits, and the line below"
    code, listed, said = command("--grid", "grid.yaml")
    assert (code, listed.count("here"), listed.count("missing")) == (0, 4, 0)
    assert "resnet18 body" in said
    code, listed, _ = command("--grid", "grid.yaml", "--verify")
    assert (code, listed.count("whole")) == (0, 4)
    path = next(Path("cache/features").glob("*train*.npy"))
    path.write_bytes(path.read_bytes()[:-1])
    code, listed, said = command("--grid", "grid.yaml", "--verify")
    assert (code, listed.count("damaged")) == (5, 1)
    assert path.name in said
