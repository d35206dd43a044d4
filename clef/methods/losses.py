"""The loss terms. Every one is a mean over the batch and a sum over the classes, computed in float32.

Logits are B,K. Targets are B,K float, 0 or 1, for several labels, and B int for a single one.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from clef.config import LossConfig

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits B,K and targets (B,K float, or B int) to one number."""
ABSENT_WEIGHT = 1e-4
"""The weight of a class without a positive in the batch (the common port of EMOT-Net)."""


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the softmax cross-entropy of single-label targets, B int."""
    return F.cross_entropy(logits, target)


def shared_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the softmax cross-entropy over all classes; a sample's labels share its target; no label: no loss."""
    return F.cross_entropy(logits, target / target.sum(1, keepdim=True).clamp(min=1))


def bce(logits: Tensor, target: Tensor) -> Tensor:
    """Return the binary cross-entropy of each class, targets B,K."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1).mean()


def soft_margin(logits: Tensor, target: Tensor) -> Tensor:
    """Return EmotiCon's classification loss: log(1 + exp(-s z)) of each class, s = +1 for a positive, else -1.

    It is PyTorch's `multilabel_soft_margin_loss`, summed over the classes where that takes their mean. For 0/1 targets
    it equals `bce`; both are kept by name, as the papers state them.
    """
    return F.multilabel_soft_margin_loss(logits, target) * logits.shape[1]


def weighted_l2(logits: Tensor, target: Tensor, static: Tensor | None = None, linear: bool = False) -> Tensor:
    """Return EMOT-Net's discrete loss, sum_k w_k (sigmoid(z_k) - y_k)^2, w_k = 1 / ln(1.2 + n_k) (TPAMI, equation 2).

    n_k counts the positives of class k in the global batch, over all ranks; or it is `static`, K counts over the
    training set. `linear` takes z_k itself for the prediction, as ports of EMOT-Net do.
    """
    counts = target.sum(0) if static is None else static.to(target)
    # Only in training do all ranks have equally many batches. In evaluation, one of them would wait for ever.
    if static is None and dist.is_initialized() and torch.is_grad_enabled():
        dist.all_reduce(counts)
    weights = torch.where(counts > 0, 1 / torch.log(1.2 + counts), torch.full_like(counts, ABSENT_WEIGHT))
    predicted = logits if linear else logits.sigmoid()
    return (weights * (predicted - target) ** 2).sum(1).mean()


def smooth_l1_vad(predicted: Tensor, target: Tensor, threshold: float = 1.0) -> Tensor:
    """Return EMOT-Net's continuous loss: e^2 / 2t below the threshold t (on the 1-10 scale), |e| - t/2 above it.

    Both are B,3: valence, arousal and dominance. Unknown (NaN) values count nothing.
    """
    errors = F.smooth_l1_loss(predicted, target.nan_to_num(), reduction="none", beta=threshold)
    return (errors * ~target.isnan()).sum(1).mean()


def margin_l2_vad(predicted: Tensor, target: Tensor, threshold: float = 1.0) -> Tensor:
    """Return EMOT-Net's continuous loss of 2017: e^2, and nothing within the margin.

    Both are B,3: valence, arousal and dominance. Unknown (NaN) values count nothing.
    """
    errors = predicted - target.nan_to_num()
    counted = ~target.isnan() & (errors.abs() >= threshold)
    return (errors**2 * counted).sum(1).mean()


def categorical_kl(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(softmax(p) || softmax(q)) of logits, both B,K."""
    return F.kl_div(q.log_softmax(1), p.log_softmax(1), reduction="batchmean", log_target=True)


def bernoulli_kl(p: Tensor, q: Tensor) -> Tensor:
    """Return the sum over classes of KL(Bernoulli(sigmoid(p_k)) || Bernoulli(sigmoid(q_k))) of logits, both B,K."""
    positive = p.sigmoid() * (F.logsigmoid(p) - F.logsigmoid(q))
    negative = (-p).sigmoid() * (F.logsigmoid(-p) - F.logsigmoid(-q))
    return (positive + negative).sum(1).mean()


def category_loss(config: LossConfig, counts: Tensor, linear: bool = False) -> Loss:
    """Return the category loss that a recipe names. `counts`: K, the samples of each class in train."""
    if config.categories == "weighted_l2":
        return partial(weighted_l2, static=counts if config.class_weights == "static" else None, linear=linear)
    return {"cross_entropy": cross_entropy, "bce": bce, "soft_margin": soft_margin}[config.categories]


def vad_loss(config: LossConfig) -> Loss:
    """Return the valence-arousal-dominance loss that a recipe names."""
    term = {"smooth_l1": smooth_l1_vad, "margin_l2": margin_l2_vad}[config.vad]
    return partial(term, threshold=config.vad_threshold)
