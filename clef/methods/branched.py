"""What the methods share that train a context branch beside the backbone."""

from typing import Any

from torch import Tensor

from clef.data.batch_memory import Batch
from clef.methods.method import Method, Parts
from clef.models.context_branch import ContextBranch


class BranchedMethod(Method):
    """An unmodified backbone, and a context branch N_C that learns at a rate of its own.

    A subclass defines `predict`; its other layers learn as the heads do. A config without a branch builds none.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.backbone = parts.make_backbone(True)
        branch = parts.config.method.branch
        self.branch_rate = branch.lr_multiplier if branch else 1.0
        self.context_branch = ContextBranch(branch, parts.classes, parts.load, parts.config.seed) if branch else None

    def context_logits(self, batch: Batch) -> Tensor | None:
        """Return Y_c = N_C(I_x), B,K: the frame without the subject through the context branch."""
        return self.context_branch(batch) if self.context_branch is not None else None

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the backbone and all else as in vanilla, and the branch with its own rate."""
        branch = set(self.context_branch.parameters()) if self.context_branch is not None else set()
        others = self.encoder_and_head_groups((p for p in self.parameters() if p not in branch), weight_decay)
        return others + self.branch_groups(weight_decay)

    def branch_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the branch's trained parameters as a group, where it has any."""
        branch = self.context_branch.parameters() if self.context_branch is not None else ()
        trained = [p for p in branch if p.requires_grad]
        return [{"params": trained, "weight_decay": weight_decay, "lr_multiplier": self.branch_rate}] if trained else []
