"""Looks numbers of a grid up, and means over seeds. Imports no torch."""

import statistics
from collections.abc import Iterable

from clef.results.formats import DASH, UNTRAINED
from clef.results.rows import Row

Key = tuple[str, str, str, str, str, str]


class Numbers:
    """The values of one dataset as one protocol has it, a value a seed."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._values: dict[Key, dict[int, float]] = {}
        self.untrained: set[tuple[str, str]] = set()
        """Backbones and methods of which something started at random although weights could have been named."""
        for row in rows:
            self.untrained |= {(row.backbone, row.method)} if row.random_init else set()
            key = (row.backbone, row.method, row.split, row.metric, row.part, row.class_name)
            self._values.setdefault(key, {})[row.seed] = row.value

    def marked(self, backbone: str, method: str, text: str) -> str:
        """`text` (a head, or a number of the method), marked where something of it started at random."""
        return text + UNTRAINED if (backbone, method) in self.untrained and text != DASH else text

    def by_seed(
        self, backbone: str, method: str, split: str, metric: str, part: str = "score", class_name: str = ""
    ) -> dict[int, float]:
        """The value of each seed that has one."""
        return self._values.get((backbone, method, split, metric, part, class_name), {})

    def mean(
        self, backbone: str, method: str, split: str, metric: str, part: str = "score", class_name: str = ""
    ) -> float | None:
        """The mean over seeds; None without any."""
        values = self.by_seed(backbone, method, split, metric, part, class_name)
        return statistics.fmean(values.values()) if values else None

    def paired(self, backbone: str, pair: tuple[str, str], split: str, metric: str) -> float | None:
        """The first method less the second: the mean over the seeds that both have."""
        one, other = (self.by_seed(backbone, method, split, metric) for method in pair)
        seeds = sorted(one.keys() & other.keys())
        return statistics.fmean(one[seed] - other[seed] for seed in seeds) if seeds else None


def spread(values: Iterable[float], sign: str = "", digits: int = 2) -> str:
    """The mean, and ± the standard deviation where there are several; `sign="+"` shows its sign."""
    known = list(values)
    if not known:
        return DASH
    deviation = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):{sign}.{digits}f}{deviation}"


def minus(one: float | None, other: float | None) -> float | None:
    """The difference, where both are known."""
    return None if one is None or other is None else one - other
