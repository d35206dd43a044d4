"""What rates say: how they compare with what was aimed for, and which stage bounds the rest. Arithmetic alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from clef.bench.peers import OURS, SHIPPED
from clef.bench.rounds import Spread, ratio

JPEG, CACHE, CEILING, LOOSE = "ours (JPEG)", "ours (cache)", "ceiling of decoding", "loose files"
"""Names of contenders. A peer's two are its own name, a comma, and the way."""
STEPS = ("read", "decode+squash", "augment", "collate")
"""The stages that a worker goes through for every batch."""
Rates = Mapping[str, list[float]]


@dataclass(frozen=True)
class Verdict:
    """A ratio of rates, and what its median should be at least; no `bar`: nothing was aimed for."""

    what: str
    value: Spread
    bar: float | None = None
    above: bool = False
    """Whether the bar itself is not enough."""

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the bar."""
        if self.bar is None:
            return None
        return self.value.median > self.bar if self.above else self.value.median >= self.bar


def verdicts(rates: Rates) -> list[Verdict]:
    """One for each comparison that these contenders allow."""
    found = []
    if CEILING in rates:
        found.append(Verdict(f"{JPEG} / {CEILING}", ratio(rates, JPEG, CEILING), 0.9))
    if CACHE in rates:
        found.append(Verdict(f"{CACHE} / {JPEG}", ratio(rates, CACHE, JPEG), 3))
    for name in rates:
        way = name.rpartition(", ")[2]
        if way == OURS:
            found.append(Verdict(f"{JPEG} / {name}", ratio(rates, JPEG, name), 0.95))
        elif way == SHIPPED:
            found.append(Verdict(f"{JPEG} / {name}", ratio(rates, JPEG, name), 1, above=True))
    if LOOSE in rates:
        found.append(Verdict(f"{JPEG} / {LOOSE}", ratio(rates, JPEG, LOOSE)))
    return found


def sharder(processes: int) -> str:
    """The name of the sharder with so many processes."""
    return f"sharder ({processes})"


def rendering(processes: int) -> str:
    """The name of its decoding, resizing and encoding alone."""
    return f"ceiling ({processes})"


def sharding(rates: Rates, several: int) -> list[Verdict]:
    """How near the sharder comes to its ceiling, and what more processes bring."""
    pairs = [(sharder(n), rendering(n)) for n in sorted({1, several})]
    found = [Verdict(f"{a} / {b}", ratio(rates, a, b), 0.85) for a, b in pairs]
    if several > 1:
        many, one = sharder(several), sharder(1)
        found.append(Verdict(f"{many} / {one}", ratio(rates, many, one), 0.9 * several))
    return found


def bottleneck(stages: Mapping[str, float], loader: float) -> str:
    """Which stage takes most of a worker's time, by the ceilings (people a second) of all and the loader's rate."""
    seconds = {name: 1 / stages[name] for name in STEPS}
    worst = max(seconds, key=lambda name: seconds[name])
    share = seconds[worst] / sum(seconds.values())
    return (
        f"{worst} is the bottleneck: {share:.0%} of a worker's time; alone it does {stages[worst]:,.0f} people/s, "
        f"the whole loader from JPEG {loader:,.0f}."
    )
