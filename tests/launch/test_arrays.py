"""How cells are put together into arrays."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch import proposal

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(total=st.integers(1, 60), sizes=sizes)
def test_shares_use_up_the_total_and_starve_nobody(total: int, sizes: list[int]) -> None:
    parts = proposal.share(total, sizes)
    assert all(1 <= part <= size for part, size in zip(parts, sizes, strict=True))
    assert sum(parts) == max(len(sizes), min(total, sum(sizes)))


@given(total=st.integers(2, 12), sizes=st.lists(st.integers(1, 8), min_size=2, max_size=3))
def test_no_other_split_lets_the_slowest_array_end_sooner(total: int, sizes: list[int]) -> None:
    """The time of an array is about its size by its share: every split is tried."""
    if total < len(sizes):
        return
    best = min(
        max(size / part for size, part in zip(sizes, parts, strict=True))
        for parts in itertools.product(*(range(1, size + 1) for size in sizes))
        if sum(parts) <= total
    )
    parts = proposal.share(total, sizes)
    assert max(size / part for size, part in zip(sizes, parts, strict=True)) <= best * 2


@pytest.mark.parametrize(("count", "longest"), [(1, 1), (7, 3), (9, 3), (1001, 1001), (1002, 1001), (5, None)])
def test_parts_are_whole_in_order_and_short_enough(count: int, longest: int | None) -> None:
    cells = list(range(count))
    parts = proposal._parts(cells, longest)  # type: ignore[arg-type]
    assert [cell for part in parts for cell in part] == cells
    assert all(1 <= len(part) <= (longest or count) for part in parts)
    assert len(parts) == -(-count // (longest or count))
