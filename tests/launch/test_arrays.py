"""How cells are put together into arrays."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch import proposal

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(total=st.integers(1, 60), sizes=sizes)
def test_limits_use_up_the_total_and_leave_no_array_without(total: int, sizes: list[int]) -> None:
    limits = proposal.divide_limit(total, sizes)
    assert all(1 <= limit <= size for limit, size in zip(limits, sizes, strict=True))
    assert sum(limits) == max(len(sizes), min(total, sum(sizes)))


@given(total=st.integers(2, 14), sizes=st.lists(st.integers(1, 8), min_size=1, max_size=4))
def test_no_other_division_lets_the_slowest_array_end_sooner(total: int, sizes: list[int]) -> None:
    """The time of an array is about its size by its limit: every division is tried."""

    def slowest(limits: Iterable[int]) -> float:
        return max(size / limit for size, limit in zip(sizes, limits, strict=True))

    every = itertools.product(*(range(1, size + 1) for size in sizes))
    allowed = [limits for limits in every if sum(limits) <= max(total, len(sizes))]
    assert slowest(proposal.divide_limit(total, sizes)) == min(map(slowest, allowed))


@pytest.mark.parametrize(("count", "longest"), [(1, 1), (7, 3), (9, 3), (1001, 1001), (1002, 1001), (5, None)])
def test_parts_are_whole_in_order_and_short_enough(count: int, longest: int | None) -> None:
    cells = list(range(count))
    parts = proposal._split(cells, 1, longest)  # type: ignore[arg-type]
    assert [cell for part in parts for cell in part] == cells
    assert all(1 <= len(part) <= (longest or count) for part in parts)
    assert len(parts) == -(-count // (longest or count))
