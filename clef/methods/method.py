"""What a method is: it wraps a backbone, and owns the loss and the score."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from clef.config import CellConfig
from clef.data.batch_memory import Batch
from clef.methods import losses
from clef.models import Backbone, BackboneOutput, WeightLoader


@dataclass(frozen=True)
class ConfounderDictionary:
    """CCIM's confounders."""

    centers: Tensor
    """N,d float32: the confounders z_i."""
    prior: Tensor
    """N: P(z_i), which sum to 1."""


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
    """What the scores were made of, each B,K: `Y_e` (the backbone's logits), and for CLEF `Y_c` (the context branch's)
    and `Y_e*` (the counterfactual).
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
        self.loss = parts.config.loss
        self.category_loss = losses.category_loss(self.loss, parts.counts)
        self.vad_loss = losses.vad_loss(self.loss)
        self.head_lr_multiplier = parts.config.optimizer.head_lr_multiplier
        self.single_label = self.loss.categories == "cross_entropy"

    def forward(self, batch: Batch) -> Prediction:
        """Return the prediction for a batch, after one pass through each network."""
        output = self.backbone(batch) if self.backbone is not None else None
        context = self.context_logits(batch)
        # bf16 ties would corrupt rankings, so fusion, losses and scores are float32.
        with torch.autocast(batch["target"].device.type, enabled=False):
            output = _in_float32(output) if output is not None else None
            prediction = self.predict(output, None if context is None else context.float(), batch["target"])
            terms = prediction.losses | self._backbone_losses(output, batch)
            effects = {name: value.detach() for name, value in prediction.effects.items()}
            vad = output.vad.detach() if output is not None and output.vad is not None else None
            return Prediction(prediction.scores.detach(), terms, effects, vad)

    def context_logits(self, batch: Batch) -> Tensor | None:
        """Return Y_c, B,K, of a method that has a context branch, else None."""
        return None

    def predict(self, output: BackboneOutput | None, context: Tensor | None, target: Tensor) -> Prediction:
        """Return scores, the method's own losses, and effects. Always called in float32, with autocast off.

        `output` is the backbone's, `context` is Y_c, B,K; each is None in a method that has no such network. `target`
        is B,K float for several labels, B int for one.
        """
        raise NotImplementedError

    def task_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the backbone's category loss of logits B,K, as its recipe weighs it."""
        return self.loss.categories_weight * self.category_loss(logits, target)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the groups for the optimizer; `lr_multiplier` is relative to the base learning rate."""
        return self.encoder_and_head_groups(self.parameters(), weight_decay)

    def encoder_and_head_groups(self, parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
        """Return those of `parameters` that are trained as groups: the backbone's encoders, and all else, the heads."""
        trained = [p for p in parameters if p.requires_grad]
        encoders = self.backbone.encoder_parameters() if self.backbone is not None else set()
        groups = (
            ([p for p in trained if p in encoders], 1.0),
            ([p for p in trained if p not in encoders], self.head_lr_multiplier),
        )
        return [{"params": p, "weight_decay": weight_decay, "lr_multiplier": rate} for p, rate in groups if p]

    def _backbone_losses(self, output: BackboneOutput | None, batch: Batch) -> dict[str, Tensor]:
        if output is None:
            return {}
        terms = dict(output.aux)
        if output.vad is not None:
            terms["vad"] = self.loss.vad_weight * self.vad_loss(output.vad, batch["vad"])
        return terms


def _in_float32(output: BackboneOutput) -> BackboneOutput:
    return replace(
        output,
        logits=output.logits.float(),
        vad=None if output.vad is None else output.vad.float(),
        aux={name: value.float() for name, value in output.aux.items()},
        feature=None if output.feature is None else output.feature.float(),
    )
