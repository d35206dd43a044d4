"""CCIM: contextual causal intervention (Yang et al., CVPR 2023). Equation numbers are the paper's.

Backdoor adjustment P(Y | do(X)): the joint feature is joined by the expectation over a dictionary of confounders,
prototypes of what contexts look like, each weighed by attention and by how often it occurs. The dictionary is built
once for a dataset and a network (`clef.engine.feature_cache`).
"""

import math

import torch
from torch import Tensor, nn

from clef.config import CcimConfig
from clef.data.batch_memory import Batch
from clef.methods.method import Method, Parts, Prediction
from clef.models import BackboneOutput


class Ccim(Method):
    """Scores are the logits of classifier(W_h h + W_g E_z[g(z)]) (equations 4 and 5); the backbone's own is not built.

    E_z[g(z)] = sum_i lambda_i z_i P(z_i), as printed: the products are not normalized again, W_g takes up the scale.
    The authors' code divides the dot product by sqrt(2048) whatever the keys' size; here it is the root of that size.
    """

    centers: Tensor
    """z_i, N,d."""
    prior: Tensor
    """P(z_i), N."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.config.method
        assert isinstance(config, CcimConfig)
        self.backbone = parts.make_backbone(False)
        dictionary = parts.dictionary(parts.load)
        self.register_buffer("centers", dictionary.centers)
        self.register_buffer("prior", dictionary.prior)
        feature, confounder = self.backbone.feature_dim, dictionary.centers.shape[1]
        self.query = nn.Linear(feature, config.key_dim, bias=False)  # W_q
        self.key = nn.Linear(confounder, config.key_dim, bias=False)  # W_k
        self.similarity = nn.Linear(config.key_dim, 1, bias=False) if config.attention == "additive" else None  # w
        self.from_feature = nn.Linear(feature, config.hidden_dim)  # W_h
        self.from_context = nn.Linear(confounder, config.hidden_dim, bias=False)  # W_g
        self.classifier = nn.Linear(config.hidden_dim, parts.classes)

    def predict(self, output: BackboneOutput | None, context: Tensor | None, batch: Batch) -> Prediction:
        """Return the logits after the intervention, B,K, and their task loss."""
        assert output is not None
        assert output.feature is not None
        joint = self.from_feature(output.feature) + self.from_context(self.expectation(output.feature))
        logits: Tensor = self.classifier(joint)
        return Prediction(logits, {"categories": self.task_loss(logits, batch["target"])}, {"Y_e": logits})

    def expectation(self, feature: Tensor) -> Tensor:
        """Return E_z[g(z)], B,d, for the joint features B,feature_dim."""
        weights = self.attention(feature) * self.prior
        return weights @ self.centers

    def attention(self, feature: Tensor) -> Tensor:
        """Return lambda, B,N: the softmax of scaled dot products (equation 6), or of w tanh(q + k) (equation 7)."""
        query, key = self.query(feature), self.key(self.centers)
        if self.similarity is None:
            return (query @ key.T / math.sqrt(key.shape[1])).softmax(dim=1)
        similarity: Tensor = self.similarity(torch.tanh(query[:, None] + key[None])).squeeze(-1)
        return similarity.softmax(dim=1)
