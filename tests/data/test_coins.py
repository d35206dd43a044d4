"""The coins of a whole epoch at once: those of NumPy's generators, and of augmentation."""

import numpy as np
import pytest

from clef.data import coins
from clef.data.transforms import draw_augmentation


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 19), (2**31 + 3, 1), (2**40 + 5, 2**33), (2**70, 300)])
def test_they_are_the_coins_of_augmentation(seed: int, epoch: int) -> None:
    expected = [draw_augmentation(seed, epoch, index, ("body",))["body"].mirrored for index in range(300)]
    found = coins.mirrored(seed, epoch, 300)
    assert found.tolist() == expected
    assert 100 < found.sum() < 200
    late = np.array([2**31, 2**32 - 1], np.uint64)
    late_expected = [np.random.default_rng([seed, epoch, int(index)]).random() < 0.5 for index in late]
    assert coins._first_halves(seed, epoch, late).tolist() == late_expected
