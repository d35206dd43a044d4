"""Fake networks with given outputs, and the parts that a method under test is made of."""

from typing import Any

import torch
from torch import Tensor, nn

from clef.config import resolve
from clef.methods import ConfounderDictionary, Parts
from clef.models import BackboneOutput
from clef.yaml_config import merge, nest
from tests.conftest import TINY_BRANCH, WITH_BRANCH


class FixedBackbone(nn.Module):
    """A backbone that always returns the given outputs; `feature_dim` is that of the given feature."""

    def __init__(self, logits: Tensor, vad: Tensor | None = None, feature: Tensor | None = None) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())
        self.vad = None if vad is None else nn.Parameter(vad.clone())
        self.feature = None if feature is None else nn.Parameter(feature.clone())
        self.feature_dim = 0 if feature is None else feature.shape[1]

    def encoder_rates(self) -> dict[nn.Parameter, float]:
        return {}

    def frozen_encoders(self) -> list[Any]:
        return []

    def forward(self, batch: dict[str, Any]) -> BackboneOutput:
        return BackboneOutput(self.logits, self.vad, feature=self.feature)


class FixedBranch(nn.Module):
    """A context branch that always returns the given logits."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, batch: dict[str, Any]) -> Tensor:
        return self.logits


def parts(backbone: Any, method: dict[str, Any], single: bool, counts: list[int], **settings: Any) -> Parts:
    """Parts whose backbone is given; `method` holds its settings, the others are those of a cell."""
    base = {
        "dataset": "caer_s" if single else "emotic",
        "backbone": "emot_net",
        "method": method,
        "loss": {"categories": "cross_entropy" if single else "bce", "categories_weight": 1.0, "vad_weight": 0.0},
    }
    layer = merge(base, nest(settings))
    if method["name"] in WITH_BRANCH and method.get("context_branch", ...) is not None:
        layer = merge({"method": {"context_branch": TINY_BRANCH}}, layer)
    dictionary = ConfounderDictionary(torch.eye(3), torch.tensor([0.5, 0.3, 0.2]), torch.arange(10) % 3)
    return Parts(
        resolve.resolve(layer),
        torch.tensor(counts),
        sum(counts),
        lambda classifier: backbone,
        lambda encoder, network: None,
        lambda load: dictionary,
    )
