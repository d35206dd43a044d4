import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clef import process


@pytest.fixture
def in_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, str]], None]:
    """A function that puts this process, on eight cores, into a cgroup: a line of /proc/self/cgroup, and its files."""

    def put(membership: str, files: dict[str, str]) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
        monkeypatch.setattr(process, "CGROUPS", tmp_path / "cgroups")
        monkeypatch.setattr(process, "OWN_CGROUPS", tmp_path / "own")
        (tmp_path / "own").write_text(f"4:memory:/\n{membership}\n")
        for name, content in files.items():
            path = tmp_path / "cgroups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return put


def test_cores_are_those_of_the_affinity() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert process.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/user/job", {"user/job/cpu.max": "200000 100000\n", "user/cpu.max": "max 100000\n"}, 2),
        ("0::/user/job", {"user/job/cpu.max": "max 100000\n", "user/cpu.max": "150000 100000\n"}, 2),  # of the parent
        ("0::/", {"cpu.max": "50000 100000\n"}, 1),  # half a core is one
        ("0::/user/job", {}, 8),
        ("2:cpu,cpuacct:/job", {"cpu/job/cpu.cfs_quota_us": "300000\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, 3),
        ("2:cpu,cpuacct:/job", {"cpu/job/cpu.cfs_quota_us": "-1\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, 8),
        # In a container, the path is the host's, and the container's own limit lies at the top.
        ("2:cpu:/docker/1f", {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ],
)
def test_cores_are_limited_by_the_quota_of_a_cgroup(
    in_cgroup: Callable[[str, dict[str, str]], None], membership: str, files: dict[str, str], cores: int
) -> None:
    in_cgroup(membership, files)
    assert process.cores() == cores


def test_the_clock_of_a_process_shows_no_more_than_a_moment_for_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(process, "_ticker", object())  # this test alone looks at the clock
    monkeypatch.setattr(process, "_looked_at", (now, 0.0))
    monkeypatch.setattr(process.time, "monotonic", lambda: now)
    began = process.running_seconds()
    for _ in range(10):
        now += 0.5
        process.running_seconds()
    assert process.running_seconds() - began == pytest.approx(5)
    now += 3600  # stopped for an hour
    assert process.running_seconds() - began == pytest.approx(5 + process.MAX_GAP_S)


CYCLE = """
import ctypes, resource, sys
from clef.process import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
if sys.argv[1] == "kept":
    keep_freed_memory()
size = 3 << 20
for turn in range(50):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
    if turn == 9:
        begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begun)
"""


@pytest.mark.slow
def test_memory_that_is_freed_is_not_mapped_again() -> None:
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}  # fixed: glibc would raise it at the first free
    faults = {
        mode: int(subprocess.run([sys.executable, "-c", CYCLE, mode], env=environment, capture_output=True).stdout)
        for mode in ("given back", "kept")
    }
    assert faults["given back"] > 40 * (3 << 20) / 4096 / 2, "each time anew"
    assert faults["kept"] < 100
