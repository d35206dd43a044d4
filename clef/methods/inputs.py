"""Methods that change what the backbone sees, and nothing else: without context, or with another's."""

import torch

from clef.config import CONTEXT, ContextSwapConfig
from clef.data.batch_memory import Batch
from clef.data.interventions import blank, blank_context_of, exchange_context
from clef.methods.baselines import Vanilla
from clef.methods.method import Parts


class SubjectOnly(Vanilla):
    """The backbone without any input that shows the context, in training and after: the twin of `context_only`.

    Where the context misleads it can't be misled, and where the context helps it gets no help.
    """

    def intervene(self, batch: Batch) -> Batch:
        """Return the batch with every context blanked, as of people whose frame is missing."""
        return blank(batch, CONTEXT)


class ContextSwap(Vanilla):
    """The backbone, in training with another's context, or none, for each person with probability p.

    All inputs that show the context go together: frames, boxes, depth. The mixed-rand images of the Background
    Challenge (Xiao et al., ICLR 2021) do this to tests, StillMix (Li et al., ICCV 2023) to training; here the subject
    is an input of its own.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.config.method
        assert isinstance(config, ContextSwapConfig)
        self.probability, self.mode = config.probability, config.mode

    def intervene(self, batch: Batch) -> Batch:
        """Return the batch with the contexts of chosen people exchanged or blanked; as it is in evaluation.

        Each gets the context of a person drawn from the batch without replacement, now and then his own.
        """
        if not (self.training and self.probability):
            return batch
        people = len(batch["target"])
        device = batch["target"].device
        chosen = torch.rand(people, device=device) < self.probability
        if self.mode == "drop":
            return blank_context_of(batch, chosen)
        drawn = torch.randperm(people, device=device)
        return exchange_context(batch, torch.where(chosen, drawn, torch.arange(people, device=device)))
