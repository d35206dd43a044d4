"""Worker processes: counted finely, stopped by the first error, gone when their parent is killed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from clef.errors import DataError, SetupError
from clef.sharding import pool
from clef.sharding.pool import Tick
from tests.processes import is_running

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Count:
    """Counts to `size`, and dies or fails on the way where asked."""

    split: str
    size: int
    at: int | None = None
    ends: str = ""

    def __call__(self, tick: Tick) -> str:
        for done in range(1, self.size + 1):
            tick(done)
            if done == self.at and self.ends == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if done == self.at and self.ends == "error":
                raise DataError("no such luck")
            if self.ends == "slow":
                time.sleep(0.01)  # so that there is something to stop
        return f"{self.split} {self.size}"


def count(task: Count, tick: Tick) -> str:
    return task(tick)


TASKS = [Count("train", 30), Count("val", 7), Count("train", 20)]


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_and_every_unit_is_counted_once(workers: int) -> None:
    told: list[tuple[str, int, int]] = []
    results = pool.run(count, TASKS, workers, lambda *news: told.append(news), before={"train": 50, "test": 5})
    assert results == ["train 30", "val 7", "train 20"]
    assert {("train", 50, 100), ("val", 0, 7), ("test", 5, 5)} <= set(told[:3])  # what was done before comes first
    assert {split: max(done for name, done, _ in told if name == split) for split in ("train", "val", "test")} == {
        "train": 100,
        "val": 7,
        "test": 5,
    }
    for split in ("train", "val"):
        steps = [done for name, done, _ in told if name == split]
        assert steps == sorted(steps)
    if workers == 1:
        assert len(told) == 3 + 57  # a line a unit: finer than a task


def test_an_error_ends_all_and_is_raised() -> None:
    slow = [Count("train", 100_000, ends="slow"), Count("val", 9, at=5, ends="error")]  # alone: a quarter of an hour
    with pytest.raises(DataError, match="no such luck"):
        pool.run(count, [*slow, *slow], workers=2)


def test_a_worker_that_is_killed_is_told() -> None:
    with pytest.raises(SetupError, match=r"too little memory.*fewer --workers"):
        pool.run(count, [Count("train", 9, at=5, ends="killed"), *TASKS], workers=2)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "from clef.sharding import pool; from tests.sharding.test_pool import Count, count\n"
        "pool.run(count, [Count('train', 100_000, ends='slow')] * 3, 3, lambda *news: print(*news, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        while int(parent.stdout.readline().split()[1]) == 0:  # until they are at work
            pass
        workers = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert len(workers) == 3
        parent.kill()
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in workers if is_running(pid)]
