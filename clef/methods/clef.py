"""CLEF: counterfactual emotion inference (Yang et al., CVPR 2024). Equation numbers are the paper's.

A context branch N_C captures the shortcut context -> prediction; at inference the score is the total indirect effect,
what the subject and context together add beyond what the context alone would say. What the paper leaves open is
listed, with the readings taken here, in `docs/method.md`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clef.config import ClefConfig, LossConfig
from clef.methods import losses
from clef.methods.method import Batch, Method, Prediction
from clef.models import Backbone, BackboneOutput, WeightLoader
from clef.models.context_branch import ContextBranch


class Clef(Method):
    """N_C beside an unmodified backbone, and one trainable scalar Y_e* that stands for "no subject seen"."""

    def __init__(
        self, config: ClefConfig, backbone: Backbone, loss: LossConfig, classes: int, load: WeightLoader
    ) -> None:
        super().__init__(backbone, loss)
        self.context_branch = ContextBranch(config.context_branch, classes, load)
        self.lr_multiplier = config.context_branch.lr_multiplier
        self.counterfactual = nn.Parameter(torch.zeros(()))

    def context_logits(self, batch: Batch) -> Tensor:
        """Y_c = N_C(I_x), B,K: the masked frame (equation 10) through the context branch."""
        logits: Tensor = self.context_branch(batch["context"])
        return logits

    def predict(self, output: BackboneOutput, context: Tensor | None, target: Tensor) -> Prediction:
        """TIE as the score; task loss of the factual and the counterfactual prediction, and the KL between them."""
        assert context is not None
        y_c, y_e, y_star = context, output.logits, self.counterfactual.expand_as(context)
        factual, counterfactual = y_c + y_e, y_c + y_star
        terms = {
            "factual": self.task_loss(self._fused(factual), target),
            "counterfactual": self.task_loss(self._fused(counterfactual), target),
            # The KL trains Y_e* only: the branches' logits are constants in it.
            "kl": self._kl((y_c + y_e).detach(), y_c.detach() + y_star),
        }
        return Prediction(tie(y_c, y_e, y_star), terms, {"Y_c": y_c, "Y_e": y_e, "Y_e*": y_star})

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """The branch with its own rate, Y_e* without weight decay, the backbone as in vanilla."""
        branch = [p for p in self.context_branch.parameters() if p.requires_grad]
        return [
            {"params": list(self.backbone.parameters()), "weight_decay": weight_decay, "lr_multiplier": 1.0},
            {"params": branch, "weight_decay": weight_decay, "lr_multiplier": self.lr_multiplier},
            {"params": [self.counterfactual], "weight_decay": 0.0, "lr_multiplier": 1.0},
        ]

    def _fused(self, logits: Tensor) -> Tensor:
        """What the category loss takes for z = Y_c + Y_e.

        Single label: log sigmoid(z), as the logits of a softmax (equations 11 and 12). Multi-label: z itself, the
        logit of each class; log sigmoid(z) as a logit would cap every probability at one half.
        """
        return F.logsigmoid(logits) if self.single_label else logits

    def _kl(self, factual: Tensor, counterfactual: Tensor) -> Tensor:
        """KL(factual || counterfactual) (equation 13): of softmaxes, or a sum of Bernoulli KLs."""
        if self.single_label:
            return losses.categorical_kl(F.logsigmoid(factual), F.logsigmoid(counterfactual))
        return losses.bernoulli_kl(factual, counterfactual)


def fuse(y_c: Tensor, y_e: Tensor) -> Tensor:
    """phi(Y_c, Y_e) = log sigmoid(Y_c + Y_e) (equation 11)."""
    return F.logsigmoid(y_c + y_e)


def tie(y_c: Tensor, y_e: Tensor, y_star: Tensor) -> Tensor:
    """TIE = phi(Y_c, Y_e) - phi(Y_c, Y_e*) (equation 15); the reference Y_{c*,e*} cancels."""
    return fuse(y_c, y_e) - fuse(y_c, y_star)
