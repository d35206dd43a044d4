"""The scene adversary: what it learns, what the backbone gets of it, and where its labels come from."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clef import load
from clef.config import CellConfig
from clef.data.shards import SplitShards
from clef.engine import feature_cache
from clef.methods.scene_adversary import SceneAdversary
from tests.engine.factories import train_cell
from tests.methods.fakes import FixedBackbone, parts


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_the_adversary_learns_and_the_backbone_unlearns(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    backbone = FixedBackbone(torch.zeros(4, 3), feature=torch.randn(4, 5, generator=generator))
    settings = {"method.alpha": alpha, "method.hidden_layers": 1}
    method = SceneAdversary(parts(backbone, {"name": "scene_adversary"}, True, [1] * 3, **settings))
    batch = {"target": torch.tensor([0, 1, 2, 0]), "index": torch.tensor([7, 0, 5, 2])}
    loss = method(batch).losses["scene"]
    first, _, last = method.adversary
    hidden = torch.relu(backbone.feature @ first.weight.T + first.bias)  # type: ignore[operator]
    expected = F.cross_entropy(hidden @ last.weight.T + last.bias, batch["index"] % 3)  # clusters of the fake parts
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    wanted = [backbone.feature, *method.adversary.parameters()]
    found = torch.autograd.grad(loss, wanted)  # type: ignore[arg-type]
    plain = torch.autograd.grad(expected, wanted)  # type: ignore[arg-type]
    torch.testing.assert_close(found[0], -alpha * plain[0])
    torch.testing.assert_close(found[1:], plain[1:])
    assert "scene" not in method.eval()(batch).losses, "elsewhere an index is of another split"


@pytest.mark.slow
def test_its_labels_are_the_nearest_centers_and_a_cell_is_read_back(tiny: Callable[..., CellConfig]) -> None:
    config = tiny("caer_s_demo", "emot_net", "scene_adversary", **{"method.dictionary.components": None})
    folder = train_cell(config)
    split = SplitShards(config.shards, "train")
    dictionary = feature_cache.cached_dictionary(config, lambda *_: None, split, torch.device("cpu"), lambda _: None)
    table = next(path for path in (folder.parents[2] / "cache/features").glob("*.npy"))
    features = np.load(table)
    distances = ((features[:, None] - dictionary.centers.numpy()[None]) ** 2).sum(2)
    assert (distances.argmin(1) == dictionary.clusters.numpy()).mean() > 0.99
    model = load(folder)
    assert model.predict(next(model.batches("test"))).scores.isfinite().all()
