"""EmotiCon's multiplicative fusion, in log space (Mittal et al., CVPR 2020, equations 1 and 2; Liu et al., 2018)."""

import torch
from torch import Tensor


def fused(log_p: Tensor, there: Tensor) -> Tensor:
    """The logarithm of the product over the modalities, B,K. `log_p` B,n,K; one that isn't there (B,n bool) is 1.

    The product itself would be a few hundredths beside the other contexts' logits; the layers behind would not see it.
    """
    return (log_p * there[..., None]).sum(1)


def multiplicative(log_p: Tensor, true: Tensor, there: Tensor, beta: float) -> Tensor:
    """L_mult = - sum_i p_i^(beta / (n - 1)) log p_i over the modalities i that are there and the true classes.

    `true` is B,K 0/1; the result is a mean over the batch. The weight p_i^(...) is held constant: it says how far a
    modality is trusted. Were it trained too, the loss would push p_i towards 0 where it is below e^(-(n - 1) / beta).
    """
    weight = (log_p * (beta / (log_p.shape[1] - 1))).exp().detach()
    terms = -weight * log_p * there[..., None] * true[:, None]
    return terms.sum(dim=(1, 2)).mean()


def log_probabilities(logits: Tensor, single_label: bool) -> Tensor:
    """log softmax over the last dimension for a single label, log sigmoid for several; float32."""
    logits = logits.float()
    return logits.log_softmax(-1) if single_label else torch.nn.functional.logsigmoid(logits)
