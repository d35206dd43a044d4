"""What a method is: it wraps a backbone, and owns the loss and the score."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from clef.config import LossConfig
from clef.methods import losses
from clef.models import Backbone, BackboneOutput

Batch = dict[str, Any]


@dataclass(frozen=True)
class Prediction:
    """`scores` B,K float32: what the metric ranks. `losses`: weighted terms by name; their sum is trained.

    `effects`: what the scores were made of, by name: `Y_e` (the backbone's logits), and for CLEF `Y_c` (the context
    branch's), both B,K, and `Y_e*` (the counterfactual), expanded to B,K.
    """

    scores: Tensor
    losses: dict[str, Tensor]
    effects: dict[str, Tensor] = field(default_factory=dict)


class Method(nn.Module):
    """Base of all methods. Subclasses define `predict`, always called in float32 with autocast off."""

    def __init__(self, backbone: Backbone, loss: LossConfig) -> None:
        super().__init__()
        self.backbone, self.loss = backbone, loss
        self.category_loss = losses.CATEGORIES[loss.categories]
        self.single_label = loss.categories == "cross_entropy"

    def forward(self, batch: Batch) -> Prediction:
        """The prediction for a batch: one pass through each network."""
        output = self.backbone(batch)
        context = self.context_logits(batch)
        # bf16 ties would corrupt rankings, so fusion, losses and scores are float32.
        with torch.autocast(output.logits.device.type, enabled=False):
            output = BackboneOutput(
                output.logits.float(),
                None if output.vad is None else output.vad.float(),
                {name: value.float() for name, value in output.aux.items()},
            )
            prediction = self.predict(output, None if context is None else context.float(), batch["target"])
            terms = prediction.losses | self._common_losses(output, batch)
            effects = {name: value.detach() for name, value in prediction.effects.items()}
            return Prediction(prediction.scores.detach(), terms, effects)

    def context_logits(self, batch: Batch) -> Tensor | None:
        """Y_c, B,K, of a method that has a context branch."""
        return None

    def predict(self, output: BackboneOutput, context: Tensor | None, target: Tensor) -> Prediction:
        """Scores, the method's own losses, and effects."""
        raise NotImplementedError

    def task_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The backbone's category loss, as its recipe weighs it."""
        return self.loss.categories_weight * self.category_loss(logits, target)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for the optimiser; `lr_multiplier` is relative to the base learning rate."""
        return [{"params": list(self.parameters()), "weight_decay": weight_decay, "lr_multiplier": 1.0}]

    def _common_losses(self, output: BackboneOutput, batch: Batch) -> dict[str, Tensor]:
        terms = dict(output.aux)
        if output.vad is not None:
            terms["vad"] = self.loss.vad_weight * losses.vad(output.vad, batch["vad"])
        return terms
