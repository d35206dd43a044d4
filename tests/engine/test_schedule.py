"""The learning rate by hand."""

import pytest

from clef.config import ScheduleConfig
from clef.engine.train_step import lr_factor


def test_step_divides_by_ten_every_seven_epochs() -> None:
    config = ScheduleConfig(name="step", step_size=7, gamma=0.1)
    assert [lr_factor(config, e, 21) for e in (0, 6.99, 7, 13.9, 14, 20.9)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )


def test_cosine_and_warm_up() -> None:
    assert [lr_factor(ScheduleConfig(name="cosine"), e, 10) for e in (0, 5, 10, 11)] == pytest.approx([1, 0.5, 0, 0])
    warm = ScheduleConfig(name="constant", warmup=2)
    assert [lr_factor(warm, e, 10) for e in (0, 1, 2, 9)] == pytest.approx([0, 0.5, 1, 1])
