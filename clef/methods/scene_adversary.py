"""The scene adversary of "Why Can't I Dance in the Mall?" (SDN; Choi et al., NeurIPS 2019)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clef.config import SceneAdversaryConfig
from clef.data.batch_memory import Batch
from clef.methods.baselines import Vanilla
from clef.methods.method import Parts, Prediction
from clef.models import BackboneOutput


class SceneAdversary(Vanilla):
    """The joint feature is not to tell the kind of scene: an adversary reads it from there, by a reversed gradient.

    Kinds of scenes are the clusters of CCIM's dictionary, where the paper takes the classes of a Places365 network.
    Scores are Y_e.
    """

    centers: Tensor
    """The clusters' centers, N,d, and their shares, N (`prior`): for a cell that is read back."""
    prior: Tensor

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.config.method
        assert isinstance(config, SceneAdversaryConfig)
        assert self.backbone is not None
        dictionary = parts.dictionary(parts.load)
        self.register_buffer("centers", dictionary.centers)
        self.register_buffer("prior", dictionary.prior)
        self.register_buffer("clusters", dictionary.clusters, persistent=False)
        self.alpha = config.alpha
        dim = self.backbone.feature_dim
        hidden = [layer for _ in range(config.hidden_layers) for layer in (nn.Linear(dim, dim), nn.ReLU())]
        self.adversary = nn.Sequential(*hidden, nn.Linear(dim, len(dictionary.prior)))

    def predict(self, output: BackboneOutput | None, context: Tensor | None, batch: Batch) -> Prediction:
        """Return Y_e as scores, B,K, the task loss, and in training the adversary's cross-entropy."""
        assert output is not None
        assert output.feature is not None
        prediction = super().predict(output, context, batch)
        if self.training:  # an index is one of train's only there
            clusters: Any = self.clusters
            guessed = self.adversary(_reverse_gradient(output.feature, self.alpha))
            prediction.losses["scene"] = F.cross_entropy(guessed, clusters[batch["index"]])
        return prediction


def _reverse_gradient(feature: Tensor, alpha: float) -> Tensor:
    """Return `feature`, whose gradient will be multiplied by -alpha."""
    result: Tensor = _Reversed.apply(feature, alpha)
    return result


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, feature: Tensor, alpha: float) -> Tensor:
        ctx.alpha = alpha
        return feature.view_as(feature)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.alpha * gradient, None
