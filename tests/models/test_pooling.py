import itertools
from typing import Any

import pytest
import torch
from torch import nn

from clef.models.pooling import MaxPool2d


@pytest.mark.parametrize(
    ("options", "channels_last"),
    itertools.product(
        [{"kernel_size": 2, "ceil_mode": True}, {"kernel_size": 3, "stride": 2, "padding": 1}], [False, True]
    ),
)
def test_pooling_equals_torchs_bit_for_bit_with_ties_and_nan_and_keeps_the_layout(
    options: dict[str, Any], channels_last: bool
) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    generator = torch.Generator().manual_seed(0)
    for height, width in [(7, 5), (8, 8), (2, 3)]:
        maps = torch.randn(3, 5, height, width, generator=generator).relu()  # zeros tie
        maps[1, 2, 0, 0] = torch.nan
        ours = maps.clone(memory_format=layout).requires_grad_()
        theirs = maps.clone().requires_grad_()
        pooled, expected = MaxPool2d(**options)(ours), nn.MaxPool2d(**options)(theirs)
        torch.testing.assert_close(pooled, expected, rtol=0, atol=0, equal_nan=True)
        assert pooled.is_contiguous(memory_format=layout)
        weights = torch.randn(expected.shape, generator=generator)
        (pooled * weights).sum().backward()
        (expected * weights).sum().backward()
        assert torch.equal(ours.grad, theirs.grad)
