"""Rates that can be compared: contenders take turns (A B C A B C ...), and ratios are taken within a round.

What else the machine does changes from minute to minute, and so do rates; within a round it hits all alike.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from clef.console import Progress

Run = Callable[[], float]
"""One measured pass: how many people a second."""


@dataclass(frozen=True)
class Spread:
    """A median, and between what its values lie."""

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    """The median of values, the least and the greatest."""
    return Spread(statistics.median(values), min(values), max(values))


def interleaved(runs: Mapping[str, Run], rounds: int, progress: Progress) -> dict[str, list[float]]:
    """The rates of each run, one a round. A first round, which warms caches of all kinds, is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    done, total = 0, len(runs) * (rounds + 1)
    for number in range(rounds + 1):
        for name, run in runs.items():
            rate = run()
            if number:
                rates[name].append(rate)
            done += 1
            progress("measured", done, total)
    return rates


def ratio(rates: Mapping[str, list[float]], over: str, under: str) -> Spread:
    """How many times the rate of `under` that of `over` is, round by round."""
    return spread([a / b for a, b in zip(rates[over], rates[under], strict=True)])
