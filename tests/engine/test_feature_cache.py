"""Features of frozen encoders: computed once, the same as computing them anew, and dropped when anything changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clef import methods
from clef.cells.identity import write_config
from clef.config import CellConfig
from clef.data.dataset import CellDataset
from clef.data.loader import BatchLoader, to_device
from clef.data.shards import SplitShards
from clef.engine import feature_cache, run
from clef.engine.feature_cache import FrozenFeatures
from clef.errors import SetupError
from clef.models.context_branch import ContextBranch
from clef.models.frozen import FEATURES
from tests.conftest import WITH_BRANCH

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
        branch = config.method.branch
        assert branch is not None
        recipe = feature_cache.FeatureRecipe(
            branch, "context_branch", branch.input, config.inputs.images[branch.input], config.seed
        )
        return recipe.key(config, SplitShards(config.shards, "val").manifest, "val")

    assert key(tiny(**FROZEN)) != key(tiny(**FROZEN | change))


def test_cells_of_another_precision_share_them(tiny: Make) -> None:
    _, kept, split, _ = setting(tiny(**FROZEN))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = kept.add_features({"index": torch.arange(20)}, split)[FEATURES]["context_branch"]
    assert not torch.equal(rows, rows.bfloat16().float()), "computed in float32 whatever is around"


def test_the_frame_itself_is_not_decoded_then(tiny: Make) -> None:
    assert "context" not in setting(tiny(**FROZEN))[1].decoded_inputs
    assert "context" in setting(tiny(**FROZEN, backbone="cd_net"))[1].decoded_inputs, "the backbone reads it"
    augmented = tiny(**{"method.context_branch.trainable": False})
    assert "context" in setting(augmented)[1].decoded_inputs, "flips differ by epoch"
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
