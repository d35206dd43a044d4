"""CLEF: counterfactual emotion inference (Yang et al., CVPR 2024). Equation numbers are the paper's.

A context branch N_C captures the shortcut context -> prediction; at inference the score is the total indirect effect,
what the subject and context together add beyond what the context alone would say. What the paper leaves open is
a switch each (`clef.config.methods`), discussed in `docs/method.md`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clef.config import ClefConfig
from clef.data.batch_memory import Batch
from clef.methods.method import Method, Parts, Prediction, bernoulli_kl, categorical_kl, shared_cross_entropy
from clef.models import BackboneOutput
from clef.models.context_branch import ContextBranch


def phi(y_c: Tensor, y: Tensor) -> Tensor:
    """Fuse Y_c with Y_e or Y_e*, B,K: log sigmoid(Y_c + Y) (equation 11)."""
    return F.logsigmoid(y_c + y)


def tie(y_c: Tensor, y_e: Tensor, y_star: Tensor) -> Tensor:
    """Return TIE = phi(Y_c, Y_e) - phi(Y_c, Y_e*), B,K (equation 15); the reference Y_{c*,e*} cancels."""
    return phi(y_c, y_e) - phi(y_c, y_star)


class Clef(Method):
    """N_C beside an unmodified backbone, and Y_e*, one value for all samples, that stands for "no subject seen"."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.config.method
        assert isinstance(config, ClefConfig)
        self.method_config = config
        self.backbone = parts.make_backbone(True)
        self.backbone.requires_grad_(config.backbone_trainable)
        branch = config.context_branch
        self.context_branch = (
            ContextBranch(branch, parts.classes, parts.load, parts.config.seed) if branch is not None else None
        )
        self.softmax = self.is_single_label or config.multi_label == "softmax"
        if self.softmax and not self.is_single_label:
            self.category_loss = shared_cross_entropy
        initial = _initial_counterfactual(config.counterfactual.initial, parts)
        reached = config.counterfactual_loss_trains == "both" or config.kl.weight > 0
        if config.counterfactual.trainable and reached:
            self.counterfactual = nn.Parameter(initial)
        else:  # DDP would wait for the gradient of a parameter that no loss reaches
            self.register_buffer("counterfactual", initial)

    def context_logits(self, batch: Batch) -> Tensor | None:
        """Return Y_c = N_C(I_x), B,K: the masked frame (equation 10) through the context branch."""
        return self.context_branch(batch) if self.context_branch is not None else None

    def predict(self, output: BackboneOutput | None, context: Tensor | None, target: Tensor) -> Prediction:
        """Return TIE as the score, B,K, and the loss (equations 12 to 14).

        The loss is CE(phi(Y_c, Y_e), y) + CE(phi(Y_c, Y_e*), y) + KL, where CE is the recipe's category loss
        (`task_loss`). The second term trains the context branch and Y_e*, or the branch alone.
        """
        assert output is not None
        y_e = output.logits
        y_c = torch.zeros_like(y_e) if context is None else context
        y_star = self.counterfactual.expand_as(y_e)
        y_star_in_task = y_star if self.method_config.counterfactual_loss_trains == "both" else y_star.detach()
        terms = {
            "factual": self.task_loss(self._loss_input(y_c + y_e), target),
            "counterfactual": self.task_loss(self._loss_input(y_c + y_star_in_task), target),
        }
        if self.method_config.kl.weight:
            terms["kl"] = self.method_config.kl.weight * self._kl(y_c, y_e, y_star)
        effects = {"Y_e": y_e, "Y_e*": y_star} | ({} if context is None else {"Y_c": y_c})
        return Prediction(tie(y_c, y_e, y_star), terms, effects)

    def _loss_input(self, z: Tensor) -> Tensor:
        """Return what the losses take for z = Y_c + Y, B,K: phi = log sigmoid(z), or z itself.

        A softmax takes phi as its logits (equations 11 and 12 taken literally), or z by `single_label: sum`. A sigmoid
        for each class takes z, its logit; phi as a logit would cap every probability at one half.
        """
        return F.logsigmoid(z) if self.softmax and self.method_config.single_label == "log_sigmoid" else z

    def _kl(self, y_c: Tensor, y_e: Tensor, y_star: Tensor) -> Tensor:
        """Return KL(factual || counterfactual) (equation 13) or the reverse, of softmaxes or summed over Bernoullis."""
        if self.method_config.kl.trains == "counterfactual":  # the logits of both networks are constants in it
            y_c, y_e = y_c.detach(), y_e.detach()
        pair = self._loss_input(y_c + y_e), self._loss_input(y_c + y_star)
        p, q = pair if self.method_config.kl.direction == "factual_from_counterfactual" else pair[::-1]
        return categorical_kl(p, q) if self.softmax else bernoulli_kl(p, q)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the backbone as in vanilla, the branch with its own rate, and Y_e* without weight decay."""
        assert self.backbone is not None
        groups = self.encoder_and_head_groups(self.backbone.parameters(), weight_decay)
        if self.method_config.context_branch is not None and self.context_branch is not None:
            branch = [p for p in self.context_branch.parameters() if p.requires_grad]
            rate = self.method_config.context_branch.lr_multiplier
            groups.append({"params": branch, "weight_decay": weight_decay, "lr_multiplier": rate})
        if isinstance(self.counterfactual, nn.Parameter):
            groups.append({"params": [self.counterfactual], "weight_decay": 0.0, "lr_multiplier": 1.0})
        return groups

    def train(self, mode: bool = True) -> "Clef":
        """Set the mode, but keep a frozen backbone in evaluation mode: its batch-norm statistics are frozen too."""
        super().train(mode)
        if self.backbone is not None and not self.method_config.backbone_trainable:
            self.backbone.eval()
        return self


def _initial_counterfactual(kind: str, parts: Parts) -> Tensor:
    """Return Y_e* at the start of training: one logit, or K, one for each class."""
    if kind == "scalar":
        return torch.zeros(())
    if kind == "vector":
        return torch.zeros(parts.classes)
    if kind == "random":
        return torch.randn(parts.classes)
    # Laplace's rule keeps the logarithm finite for a class that train lacks. Where losses take log sigmoid of Y_e*, the
    # logit of a share gives that share back; where the softmax takes the sum itself, the logarithm of the share does.
    config = parts.config
    is_single_label = config.loss.categories == "cross_entropy"
    share = (parts.counts.float() + 1) / (parts.samples + (parts.classes if is_single_label else 2))
    takes_sum = is_single_label and isinstance(config.method, ClefConfig) and config.method.single_label == "sum"
    return share.log() if takes_sum else share.logit()
