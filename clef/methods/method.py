"""What a method is: it wraps a backbone, and owns the loss and the score. And the loss terms that methods share.

Every loss term is a mean over the batch and a sum over the classes, computed in float32. Logits are B,K. Targets are
B,K float, 0 or 1, for several labels, and B int for a single one. A category loss comes element by element: B,K for
several labels, B,1 for one; a method that weighs people or classes does so before the mean.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from clef.config import CellConfig, LossConfig
from clef.data.batch_memory import Batch
from clef.data.interventions import without_subject
from clef.models import Backbone, BackboneOutput, WeightLoader
from clef.models.frozen import FrozenEncoder

CategoryLoss = Callable[[Tensor, Tensor], Tensor]
"""Logits B,K and targets (B,K float, or B int) to losses, B,K or B,1."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""Predictions and targets to one number."""
ABSENT_WEIGHT = 1e-4
"""The weight of a class without a positive in the batch (the common port of EMOT-Net)."""


@dataclass(frozen=True)
class ConfounderDictionary:
    """CCIM's confounders: clusters of what contexts look like."""

    centers: Tensor
    """N,d float32: the confounders z_i."""
    prior: Tensor
    """N: P(z_i), which sum to 1."""
    clusters: Tensor
    """Int64: the cluster of each sample of train; empty where they are read back from weights."""


@dataclass(frozen=True)
class Parts:
    """What a method is built from."""

    config: CellConfig
    counts: Tensor
    """K: the samples of each class in train."""
    samples: int
    """The samples of train."""
    make_backbone: Callable[[bool], Backbone]
    """Makes the cell's backbone: with its classifier if called with True, without it if with False."""
    load: WeightLoader
    """Puts pre-trained weights into an encoder."""
    dictionary: Callable[[WeightLoader], ConfounderDictionary]
    """Gives CCIM's confounders, which may take long."""

    @property
    def classes(self) -> int:
        """Return K."""
        return len(self.counts)


@dataclass(frozen=True)
class Prediction:
    """What a method says of a batch."""

    scores: Tensor
    """B,K float32: what the metric ranks."""
    losses: dict[str, Tensor]
    """Weighted terms by name; their sum is trained."""
    effects: dict[str, Tensor] = field(default_factory=dict)
    """What the scores were made of, each B,K: `Y_e` (the backbone's logits), `Y_c` (the context branch's), `factual`
    (the logits that fuse both, where that is not their sum), and for CLEF alone `Y_e*` (the counterfactual).
    """
    vad: Tensor | None = None
    """B,3: valence, arousal and dominance on the 1-10 scale, where the backbone predicts them."""


class Method(nn.Module):
    """Base of all methods. A subclass sets `self.backbone` where it has one, and defines `predict`.

    It overrides `context_logits` where it has a context branch.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.backbone: Backbone | None = None
        self.loss_config = parts.config.loss
        self.category_loss = category_loss(self.loss_config, parts.counts)
        self.vad_loss = vad_loss(self.loss_config)
        self.blanks_subject = parts.config.method.blanks_subject
        self.head_lr_multiplier = parts.config.optimizer.head_lr_multiplier
        self.is_single_label = self.loss_config.categories == "cross_entropy"

    def forward(self, batch: Batch) -> Prediction:
        """Return the prediction for a batch, after one pass through each network."""
        batch = self.intervene(batch)
        output = self.backbone(batch) if self.backbone is not None else None
        if self.blanks_subject(self.training) and output is not None:
            assert self.backbone is not None
            with _batch_statistics_kept_out(self.backbone):
                output = replace(output, without_subject=self.backbone(without_subject(batch)))
        context = self.context_logits(batch)
        # bf16 ties would corrupt rankings, so fusion, losses and scores are float32.
        with torch.autocast(batch["target"].device.type, enabled=False):
            output = _in_float32(output) if output is not None else None
            prediction = self.predict(output, None if context is None else context.float(), batch)
            terms = prediction.losses | self._backbone_losses(output, batch)
            effects = {name: value.detach() for name, value in prediction.effects.items()}
            vad = output.vad.detach() if output is not None and output.vad is not None else None
            return Prediction(prediction.scores.detach(), terms, effects, vad)

    def intervene(self, batch: Batch) -> Batch:
        """Return the batch as the method's networks see it: a method may blank or exchange inputs of it."""
        return batch

    def context_logits(self, batch: Batch) -> Tensor | None:
        """Return Y_c, B,K, of a method that has a context branch, else None."""
        return None

    def frozen_encoders(self) -> list[FrozenEncoder]:
        """Return the encoders of the backbone and of `self.context_branch` that are never trained."""
        owners = (self.backbone, getattr(self, "context_branch", None))
        return [encoder for owner in owners if owner is not None for encoder in owner.frozen_encoders()]

    def predict(self, output: BackboneOutput | None, context: Tensor | None, batch: Batch) -> Prediction:
        """Return scores, the method's own losses, and effects. Always called in float32, with autocast off.

        `output` is the backbone's, `context` is Y_c, B,K; each is None in a method that has no such network. Where the
        config says `blanks_subject`, `output.without_subject` is the backbone's with the subject blanked. Of the batch,
        `target` is B,K float for several labels, B int for one; `index`, B, are the samples in their split.
        """
        raise NotImplementedError

    def fit(self, arrays: dict[str, Any], metric: str) -> str:
        """Fit what is not trained to the predictions for val; return what came of it, in words.

        Called once, after the backbone's weights are in, where the config says `is_fitted`. `arrays`: scores, effects
        and target, N,K or N, as NumPy arrays. `metric`: the name of the headline metric.
        """
        raise NotImplementedError

    def task_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the backbone's category loss of logits B,K, as its recipe weighs it."""
        return self.element_losses(logits, target).sum(1).mean()

    def element_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the same for each person, and each class of several labels: B,K, or B,1 of one label."""
        return self.loss_config.categories_weight * self.category_loss(logits, target)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the groups for the optimizer; `lr_multiplier` is relative to the base learning rate."""
        return self.encoder_and_head_groups(self.parameters(), weight_decay)

    def encoder_and_head_groups(self, parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
        """Return those of `parameters` that are trained as groups: the backbone's encoders, and all else, the heads."""
        trained = [p for p in parameters if p.requires_grad]
        encoders = self.backbone.encoder_rates() if self.backbone is not None else {}
        rates = sorted({encoders[p] for p in trained if p in encoders})
        groups = [([p for p in trained if encoders.get(p) == rate], rate) for rate in rates]
        groups.append(([p for p in trained if p not in encoders], self.head_lr_multiplier))
        return [{"params": p, "weight_decay": weight_decay, "lr_multiplier": rate} for p, rate in groups if p]

    def _backbone_losses(self, output: BackboneOutput | None, batch: Batch) -> dict[str, Tensor]:
        if output is None:
            return {}
        terms = dict(output.aux)
        if output.vad is not None:
            terms["vad"] = self.loss_config.vad_weight * self.vad_loss(output.vad, batch["vad"])
        return terms


def _in_float32(output: BackboneOutput) -> BackboneOutput:
    return replace(
        output,
        logits=output.logits.float(),
        vad=None if output.vad is None else output.vad.float(),
        aux={name: value.float() for name, value in output.aux.items()},
        feature=None if output.feature is None else output.feature.float(),
        without_subject=None if output.without_subject is None else _in_float32(output.without_subject),
    )


@contextmanager
def _batch_statistics_kept_out(network: nn.Module) -> Iterator[None]:
    """Keep what batch norm remembers for evaluation as it is: it is not to learn from blanked pictures."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


# ---- Loss terms ----


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the softmax cross-entropy of single-label targets, B int: B,1."""
    return F.cross_entropy(logits, target, reduction="none")[:, None]


def shared_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the softmax cross-entropy over all classes, B,1; a sample's labels share its target; no label: no loss."""
    shares = target / target.sum(1, keepdim=True).clamp(min=1)
    return F.cross_entropy(logits, shares, reduction="none")[:, None]


def bce(logits: Tensor, target: Tensor) -> Tensor:
    """Return the binary cross-entropy of each class, B,K, of targets B,K."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def soft_margin(logits: Tensor, target: Tensor) -> Tensor:
    """Return EmotiCon's classification loss, B,K: log(1 + exp(-s z)) of each class, s = +1 for a positive, else -1.

    It is PyTorch's `multilabel_soft_margin_loss`, summed over the classes where that takes their mean. For 0/1 targets
    it equals `bce`; both are kept by name, as the papers state them.
    """
    return F.softplus(logits * (1 - 2 * target))


def weighted_l2(logits: Tensor, target: Tensor, static: Tensor | None = None, linear: bool = False) -> Tensor:
    """Return EMOT-Net's discrete loss, w_k (sigmoid(z_k) - y_k)^2, B,K, w_k = 1 / ln(1.2 + n_k) (TPAMI, equation 2).

    n_k counts the positives of class k in the global batch, over all ranks; or it is `static`, K counts over the
    training set. `linear` takes z_k itself for the prediction, as ports of EMOT-Net do.
    """
    counts = sum_over_ranks(target.sum(0)) if static is None else static.to(target)
    weights = torch.where(counts > 0, 1 / torch.log(1.2 + counts), torch.full_like(counts, ABSENT_WEIGHT))
    predicted = logits if linear else logits.sigmoid()
    return weights * (predicted - target) ** 2


def sum_over_ranks(value: Tensor) -> Tensor:
    """Return a sum over the global batch of what is summed over this rank's share, without a gradient.

    Only in training do all ranks have equally many batches. In evaluation, one of them would wait forever.
    """
    value = value.detach().clone()
    if dist.is_initialized() and torch.is_grad_enabled():
        dist.all_reduce(value)
    return value


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


def entropy(logits: Tensor, single_label: bool) -> Tensor:
    """Return the mean entropy, in nats, of softmax(logits), B,K; of several labels the sum of that of each sigmoid."""
    if single_label:
        return -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
    p = logits.sigmoid()
    return -(p * F.logsigmoid(logits) + (1 - p) * F.logsigmoid(-logits)).sum(1).mean()


def category_loss(config: LossConfig, counts: Tensor, linear: bool = False) -> CategoryLoss:
    """Return the category loss that a recipe names. `counts`: K, the samples of each class in train."""
    if config.categories == "weighted_l2":
        return partial(weighted_l2, static=counts if config.class_weights == "static" else None, linear=linear)
    return {"cross_entropy": cross_entropy, "bce": bce, "soft_margin": soft_margin}[config.categories]


def vad_loss(config: LossConfig) -> Loss:
    """Return the valence-arousal-dominance loss that a recipe names."""
    term = {"smooth_l1": smooth_l1_vad, "margin_l2": margin_l2_vad}[config.vad]
    return partial(term, threshold=config.vad_threshold)
