"""The loss terms. Every one is a mean over the batch and a sum over the classes, computed in float32."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits B,K and targets (B,K float, or B int) to one number."""
ABSENT = 1e-4
"""The weight of a class without a positive in the batch (the common port of EMOT-Net)."""


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Softmax cross-entropy of single-label targets, B int."""
    return F.cross_entropy(logits, target)


def bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of each class."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1).mean()


def weighted_l2(logits: Tensor, target: Tensor) -> Tensor:
    """EMOT-Net's discrete loss, sum_k w_k (sigmoid(z_k) - y_k)^2 with w_k = 1 / ln(1.2 + n_k) (TPAMI, equation 2).

    n_k counts the positives of class k in the global batch, over all ranks.
    """
    counts = target.sum(0)
    if dist.is_initialized():
        dist.all_reduce(counts)
    weights = torch.where(counts > 0, 1 / torch.log(1.2 + counts), torch.full_like(counts, ABSENT))
    return (weights * (logits.sigmoid() - target) ** 2).sum(1).mean()


def vad(predicted: Tensor, target: Tensor) -> Tensor:
    """EMOT-Net's continuous loss: smooth L1 with threshold 1 on the 1-10 scale; unknown (NaN) values count nothing."""
    known = ~target.isnan()
    errors = F.smooth_l1_loss(predicted, target.nan_to_num(), reduction="none", beta=1.0)
    return (errors * known).sum(1).mean()


def categorical_kl(factual: Tensor, counterfactual: Tensor) -> Tensor:
    """KL(softmax(factual) || softmax(counterfactual)); both B,K."""
    return F.kl_div(counterfactual.log_softmax(1), factual.log_softmax(1), reduction="batchmean", log_target=True)


def bernoulli_kl(factual: Tensor, counterfactual: Tensor) -> Tensor:
    """The sum over classes of KL(Bernoulli(sigmoid(factual_k)) || Bernoulli(sigmoid(counterfactual_k)))."""
    positive = factual.sigmoid() * (F.logsigmoid(factual) - F.logsigmoid(counterfactual))
    negative = (-factual).sigmoid() * (F.logsigmoid(-factual) - F.logsigmoid(-counterfactual))
    return (positive + negative).sum(1).mean()


CATEGORIES: dict[str, Loss] = {"cross_entropy": cross_entropy, "bce": bce, "weighted_l2": weighted_l2}
