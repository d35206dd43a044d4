"""Runs of a few hundred steps that are killed and asked to stop again and again end with the unbroken run's weights.

A case is a seed, which chooses one rank or two, when to break off, by which signal to which rank. What is trained anew
after a break is never more than a checkpoint's interval.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from clef.errors import Preempted
from tests.assertions import assert_equal
from tests.engine.cell_processes import Runs, Unbroken, everything, unbroken_runs
from tests.faults import Fault
from tests.soak import cases

pytestmark = [pytest.mark.xdist_group("kills"), pytest.mark.timeout(1800)]
EVERY = 20
"""Steps between two checkpoints."""
BREAKS = 3
"""Of one run; 51 in all seventeen."""


@pytest.fixture(scope="module")
def unbroken(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """Runs of 300 steps."""
    runtime = {"runtime.checkpoint_every": EVERY, "runtime.log_every": 5}
    return unbroken_runs(tmp_path_factory, shards, epochs=17, batch_size=8, **runtime)


@pytest.mark.parametrize("seed", cases(sample=2, full=17))
def test_killed_again_and_again(unbroken: Unbroken, seed: int) -> None:
    draw = random.Random(seed)
    ranks = draw.choice([1, 2])
    runs, whole = unbroken(ranks)
    steps, out, reached = whole["result"]["steps"], f"seed-{seed}", 0
    assert 200 < steps < 400
    for at in sorted(draw.sample(range(2, steps), BREAKS)):
        number, rank = draw.choice(["KILL", "TERM", "USR2"]), draw.randrange(ranks)
        where = draw.choice(["step", "step", "validation", "checkpoint"])
        kill = Fault("kill", at, where=where, rank=rank, signal=number)
        codes = runs.run(out, "--resume", ranks=ranks, faults=[kill])
        if codes == [0] * ranks:  # no validation or checkpoint was left
            break
        expected = -9 if number == "KILL" else Preempted.exit_code
        assert codes[rank] == expected, (codes, runs.said(out, rank))
        resumed, stopped = began_at(runs, out), last_step(runs, out)
        assert reached - resumed <= EVERY, "more than a checkpoint's interval was trained anew"
        reached = max(stopped, at - 1 if where == "step" else stopped)
    else:
        assert runs.run(out, "--resume", ranks=ranks) == [0] * ranks, runs.said(out)
        assert reached - began_at(runs, out) <= EVERY
    assert_equal(everything(runs.cell(out)), whole)


def began_at(runs: Runs, out: str) -> int:
    """After which step the last process went on."""
    environment: dict[str, Any] = json.loads((runs.cell(out) / "environment.json").read_text())
    return int(environment["from_step"])


def last_step(runs: Runs, out: str) -> int:
    """How far it came, as far as its log or its state tell."""
    log = runs.cell(out) / "log.jsonl"  # not there before the first line
    lines = log.read_text().splitlines()[-1:] if log.exists() else []
    return max([int(runs.state(out)["step"]), *(json.loads(line)["step"] for line in lines)])
