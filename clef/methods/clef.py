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
from clef.methods.branched import BranchedMethod
from clef.methods.method import Parts, Prediction, bernoulli_kl, categorical_kl, shared_cross_entropy
from clef.models import BackboneOutput


def fuse(y_c: Tensor, y: Tensor, fusion: str = "sum") -> Tensor:
    """Return the fused logit z of Y_c and Y_e (or Y_e*), B,K: their sum (equation 11), or one of CF-VQA's others."""
    if fusion == "sum":
        return y_c + y
    if fusion == "rubi":
        return y * y_c.sigmoid()
    log_p = F.logsigmoid(y_c) + F.logsigmoid(y)  # p = p_c p_y
    if fusion == "hm":
        return log_p
    # product, the log odds of p: log p - log(1 - p), and 1 - p = (1 - p_c) + p_c (1 - p_y)
    return log_p - torch.logaddexp(F.logsigmoid(-y_c), F.logsigmoid(y_c) + F.logsigmoid(-y))


def phi(y_c: Tensor, y: Tensor, fusion: str = "sum") -> Tensor:
    """Return what effects are measured in, B,K: log sigmoid z (equation 11); RUBi's fusion takes z itself."""
    z = fuse(y_c, y, fusion)
    return z if fusion == "rubi" else F.logsigmoid(z)


def tie(y_c: Tensor, y_e: Tensor, y_star: Tensor, fusion: str = "sum") -> Tensor:
    """Return TIE = phi(Y_c, Y_e) - phi(Y_c, Y_e*), B,K (equation 15); the reference Y_{c*,e*} cancels."""
    return phi(y_c, y_e, fusion) - phi(y_c, y_star, fusion)


class Clef(BranchedMethod):
    """N_C beside an unmodified backbone, and Y_e*, one value for all samples, that stands for "no subject seen"."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.config.method
        assert isinstance(config, ClefConfig)
        self.method_config = config
        assert self.backbone is not None
        self.backbone.requires_grad_(config.backbone_trainable)
        self.softmax = self.is_single_label or config.multi_label == "softmax"
        if self.softmax and not self.is_single_label:
            self.category_loss = shared_cross_entropy
        initial = _initial_counterfactual(config.counterfactual.initial, parts)
        reached = config.counterfactual_loss_trains == "both" or config.kl.weight > 0
        if config.counterfactual.trainable and reached:
            self.counterfactual = nn.Parameter(initial)
        else:  # DDP would wait for the gradient of a parameter that no loss reaches
            self.register_buffer("counterfactual", initial)

    def predict(self, output: BackboneOutput | None, context: Tensor | None, batch: Batch) -> Prediction:
        """Return TIE as the score, B,K, and the loss (equations 12 to 14).

        The loss is CE(phi(Y_c, Y_e), y) + CE(phi(Y_c, Y_e*), y) + KL, where CE is the recipe's category loss
        (`task_loss`). The second term trains the context branch and Y_e*, or the branch alone.
        """
        assert output is not None
        y_e, target = output.logits, batch["target"]
        y_c = torch.zeros_like(y_e) if context is None else context
        y_star = self.counterfactual.expand_as(y_e)
        y_star_in_task = y_star if self.method_config.counterfactual_loss_trains == "both" else y_star.detach()
        terms = {
            "factual": self.task_loss(self._loss_input(y_c, y_e), target),
            "counterfactual": self.task_loss(self._loss_input(y_c, y_star_in_task), target),
        }
        if self.method_config.kl.weight:
            terms["kl"] = self.method_config.kl.weight * self._kl(y_c, y_e, y_star)
        effects = {"Y_e": y_e, "Y_e*": y_star} | ({} if context is None else {"Y_c": y_c})
        fusion = self.method_config.fusion
        if fusion != "sum":
            effects["factual"] = fuse(y_c, y_e, fusion)
        return Prediction(tie(y_c, y_e, y_star, fusion), terms, effects)

    def _loss_input(self, y_c: Tensor, y: Tensor) -> Tensor:
        """Return what the losses take for Y_c and Y, B,K: phi = log sigmoid(z), or z itself.

        A softmax takes phi as its logits (equations 11 and 12 taken literally), or z by `single_label: sum`. A sigmoid
        for each class takes z, its logit; phi as a logit would cap every probability at one half.
        """
        config = self.method_config
        wants_phi = self.softmax and config.single_label == "log_sigmoid"
        return phi(y_c, y, config.fusion) if wants_phi else fuse(y_c, y, config.fusion)

    def _kl(self, y_c: Tensor, y_e: Tensor, y_star: Tensor) -> Tensor:
        """Return KL(factual || counterfactual) (equation 13) or the reverse, of softmaxes or summed over Bernoullis."""
        if self.method_config.kl.trains == "counterfactual":  # the logits of both networks are constants in it
            y_c, y_e = y_c.detach(), y_e.detach()
        pair = self._loss_input(y_c, y_e), self._loss_input(y_c, y_star)
        p, q = pair if self.method_config.kl.direction == "factual_from_counterfactual" else pair[::-1]
        return categorical_kl(p, q) if self.softmax else bernoulli_kl(p, q)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the backbone as in vanilla, the branch with its own rate, and Y_e* without weight decay."""
        assert self.backbone is not None
        groups = self.encoder_and_head_groups(self.backbone.parameters(), weight_decay)
        groups += self.branch_groups(weight_decay)
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
