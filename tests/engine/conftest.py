"""What tests of the engine leave to those behind them: nothing."""

from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState


@pytest.fixture(autouse=True)
def no_accelerator_left() -> Iterator[None]:
    """An Accelerator stays this process's, with its precision, until that is undone."""
    yield
    AcceleratorState._reset_state()
