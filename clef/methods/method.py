"""What a method is: it wraps a backbone, and owns the loss and the score."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from clef.config import CellConfig
from clef.methods import losses
from clef.models import Backbone, BackboneOutput, WeightLoader

Batch = dict[str, Any]


@dataclass(frozen=True)
class Dictionary:
    """CCIM's confounders: `centres` N,d float32 and their `prior` N, which sums to 1."""

    centres: Tensor
    prior: Tensor


@dataclass(frozen=True)
class Parts:
    """What a method is made of. `counts` K: the samples of each class in train, `samples` in all."""

    config: CellConfig
    counts: Tensor
    samples: int
    make_backbone: Callable[[bool], Backbone]
    """With its classifier, or without."""
    load: WeightLoader
    dictionary: Callable[[WeightLoader], Dictionary]

    @property
    def classes(self) -> int:
        """K."""
        return len(self.counts)


@dataclass(frozen=True)
class Prediction:
    """`scores` B,K float32: what the metric ranks. `losses`: weighted terms by name; their sum is trained.

    `effects`: what the scores were made of, by name: `Y_e` (the backbone's logits), and for CLEF `Y_c` (the context
    branch's), both B,K, and `Y_e*` (the counterfactual), expanded to B,K. `vad`: valence, arousal and dominance, B,3 on
    the 1-10 scale, where the backbone predicts them.
    """

    scores: Tensor
    losses: dict[str, Tensor]
    effects: dict[str, Tensor] = field(default_factory=dict)
    vad: Tensor | None = None


class Method(nn.Module):
    """Base of all methods. A subclass defines `predict`, always called in float32 with autocast off.

    `self.backbone` is None in a method that has none; `context_logits` is overridden where there is a context branch.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.backbone: Backbone | None = None
        self.loss = parts.config.loss
        self.category_loss = losses.categories(self.loss, parts.counts)
        self.vad_loss = losses.vad(self.loss)
        self.new_rate = parts.config.optimizer.new_lr_multiplier
        self.single_label = self.loss.categories == "cross_entropy"

    def forward(self, batch: Batch) -> Prediction:
        """The prediction for a batch: one pass through each network."""
        output = self.backbone(batch) if self.backbone is not None else None
        context = self.context_logits(batch)
        # bf16 ties would corrupt rankings, so fusion, losses and scores are float32.
        with torch.autocast(batch["target"].device.type, enabled=False):
            output = _in_float32(output) if output is not None else None
            prediction = self.predict(output, None if context is None else context.float(), batch["target"])
            terms = prediction.losses | self._common_losses(output, batch)
            effects = {name: value.detach() for name, value in prediction.effects.items()}
            vad = output.vad.detach() if output is not None and output.vad is not None else None
            return Prediction(prediction.scores.detach(), terms, effects, vad)

    def context_logits(self, batch: Batch) -> Tensor | None:
        """Y_c, B,K, of a method that has a context branch."""
        return None

    def predict(self, output: BackboneOutput | None, context: Tensor | None, target: Tensor) -> Prediction:
        """Scores, the method's own losses, and effects."""
        raise NotImplementedError

    def task_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The backbone's category loss, as its recipe weighs it."""
        return self.loss.categories_weight * self.category_loss(logits, target)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for the optimiser; `lr_multiplier` is relative to the base learning rate."""
        return self.groups(self.parameters(), weight_decay)

    def groups(self, parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
        """The trained ones among `parameters` as groups: the backbone's encoders, and what is new."""
        trained = [p for p in parameters if p.requires_grad]
        known = self.backbone.encoder_parameters() if self.backbone is not None else set()
        split = ([p for p in trained if p in known], 1.0), ([p for p in trained if p not in known], self.new_rate)
        return [{"params": p, "weight_decay": weight_decay, "lr_multiplier": rate} for p, rate in split if p]

    def _common_losses(self, output: BackboneOutput | None, batch: Batch) -> dict[str, Tensor]:
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
