"""Seeded tests that go through many cases: a few of them in the ordinary suite, all with `make soak`."""

import os
import random


def cases(sample: int, full: int) -> list[int]:
    """The seeds of the cases to try: all `full` with CLEF_SOAK=1, else a fixed sample of them, spread by chance."""
    everything = range(full)
    if os.environ.get("CLEF_SOAK") == "1":
        return list(everything)
    return sorted(random.Random(0).sample(everything, sample))
