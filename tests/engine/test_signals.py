"""Signals and those who must not mind them; the launchers between a user and the run. Real processes, real signals."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import submitit

from clef import io, signals
from clef.cells import records
from clef.cells.identity import write_config
from clef.config import CellConfig
from clef.engine import atomic_dir
from clef.engine.slurm_task import TrainCells
from clef.errors import Preempted
from tests.engine.cell_processes import Runs
from tests.faults import Fault, environment
from tests.processes import is_running, wait_for

pytestmark = pytest.mark.slow

Make = Callable[..., CellConfig]


READS = """
import multiprocessing, os, signal, sys
import torch
from torch.utils.data import DataLoader, TensorDataset
from clef import signals
from clef.data.loader import _start_worker
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    batches = DataLoader(TensorDataset(torch.arange(64)), 4, num_workers=2, worker_init_fn=_start_worker)
    with signals.blocked():
        reader = iter(batches)
    workers = multiprocessing.active_children()
"""
SIGNALS_ALL = """
    def signal_all():
        for worker in workers:
            for number in signals.WATCHED:
                os.kill(worker.pid, number)
    signal_all()
    for [batch] in reader:
        print(*batch.tolist(), flush=True)
        signal_all()
"""
DIES = """
    next(reader)
    print(*(worker.pid for worker in workers), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
start_methods = pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])


def read(tmp_path: Path, then: str, method: str) -> subprocess.CompletedProcess[str]:
    """What a process of its own does: a fork server of earlier tests would start the workers as it was started."""
    script = tmp_path / "reads.py"
    script.write_text(READS + then)
    return subprocess.run([sys.executable, script, method], capture_output=True, text=True, timeout=600)


@start_methods
def test_loader_workers_mind_no_signal(tmp_path: Path, method: str) -> None:
    # Trap: workers that were spawned or forkservered die on USR2, and the run with them.
    done = read(tmp_path, SIGNALS_ALL, method)
    assert done.returncode == 0, done.stderr
    assert [int(number) for number in done.stdout.split()] == list(range(64))


@start_methods
def test_loader_workers_leave_with_a_killed_reader(tmp_path: Path, method: str) -> None:
    # Trap: workers of a fork server outlive the reader for ever, each waiting for the other to go.
    done = read(tmp_path, DIES, method)
    assert done.returncode == -signal.SIGKILL
    workers = done.stdout.split()
    assert len(workers) == 2
    wait_for("workers gone", lambda: not any(map(is_running, workers)))


def test_the_flag_is_set_and_handlers_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "BURST", float("inf"))  # however slow this process is, it must not be made to leave
    before = [signal.getsignal(number) for number in signals.WATCHED]
    with signals.handling(60, lambda why: None):
        assert not signals.stop_requested()
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        assert signals.stop_reasons() == ["SIGUSR1", "SIGTERM"]
        with pytest.raises(Preempted, match="preempted by SIGUSR1, SIGTERM while features"):
            signals.raise_if_stop_requested()
    assert [signal.getsignal(number) for number in signals.WATCHED] == before
    with signals.handling(60, lambda why: None):
        assert not signals.stop_requested()


def test_nohup_keeps_the_hangup_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.handling(60, lambda why: None):
            signal.raise_signal(signal.SIGHUP)
            assert not signals.stop_requested()
    finally:
        signal.signal(signal.SIGHUP, before)


LOSES_ITS_TERMINAL = """
import fcntl, os, sys, termios, time
from pathlib import Path
from clef import signals
os.setsid()
fcntl.ioctl(1, termios.TIOCSCTTY, 0)
with signals.handling(60, lambda why: None):
    print("ready", flush=True)
    while not signals.stop_requested():
        time.sleep(0.01)
    time.sleep(signals.BURST + 0.1)
    os.kill(os.getpid(), 1)  # a shell passes it on again
    time.sleep(0.2)
    print("a word to nobody", flush=True)
    Path(sys.argv[1]).write_text(" ".join(signals.stop_reasons()))
"""


def test_a_terminal_that_closes_asks_to_stop_and_no_line_to_it_fails(tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    script = [sys.executable, "-c", LOSES_ITS_TERMINAL, tmp_path / "reasons"]
    process = subprocess.Popen(script, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    assert b"ready" in os.read(ours, 100)
    os.close(ours)
    assert process.wait(60) == 0
    assert (tmp_path / "reasons").read_text() == "SIGHUP"


def test_a_second_signal_does_not_wait_for_the_save(shards: Path, tmp_path: Path) -> None:
    runs = Runs(tmp_path, shards)
    stuck = [Fault("kill", 4, signal="TERM"), Fault("hang", 4)]
    [process] = runs.start("twice", faults=stuck)
    saved = "single/*/checkpoints/step-*/complete.json"
    wait_for("a checkpoint", lambda: list((tmp_path / "twice").glob(saved)) or not process.is_alive())
    while process.is_alive():  # within two seconds of the first they count as one: Slurm and launchers repeat them
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)  # type: ignore[arg-type]
        process.join(0.5)
    assert process.exitcode == Preempted.exit_code
    assert runs.state("twice")["state"] == "preempted"
    assert "a second signal" in runs.state("twice")["reason"]


@pytest.mark.parametrize(("number", "reason"), [("USR2", signals.ORPHANED), ("TERM", "SIGTERM")])
def test_workers_of_torchrun_save_when_it_is_stopped_or_dies(
    shards: Path, tmp_path: Path, number: str, reason: str
) -> None:
    # Trap: USR2 kills the agent of torchrun and orphans its workers.
    runs = Runs(tmp_path, shards, epochs=400)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, "-m", "clef.train", "--config", str(runs.config), f"runtime.output_dir={tmp_path / 'out'}"]
    with (tmp_path / "said.txt").open("w") as said:
        agent = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, "OMP_NUM_THREADS": "1"})
    log = tmp_path / "out/single"
    wait_for("a log line", lambda: list(log.glob("*/log.jsonl")) or agent.poll() is not None)
    agent.send_signal(signal.Signals[f"SIG{number}"])
    assert agent.wait(100) != 0
    folder = runs.cell("out")
    wait_for("the workers gone", lambda: not io.is_locked(folder / records.LOCK))
    state = records.read_json(folder / records.STATE)
    assert state["state"] == "preempted", (tmp_path / "said.txt").read_text()
    assert reason in state["reason"] or "another rank" in state["reason"]  # whichever noticed first
    newest = atomic_dir.complete(folder / "checkpoints")[-1]
    assert atomic_dir.verify(newest) is None
    assert int(newest.name.removeprefix("step-")) == state["step"] > 0


@pytest.mark.parametrize("number", ["USR2", "TERM"])
def test_submitit_requeues_at_its_own_signal_alone(
    tiny: Make, tmp_path: Path, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Trap: submitit's handler leaves at once, and swallows SIGTERM.
    signalled = environment(tmp_path / "faults", Fault("kill", 5, signal=number))
    monkeypatch.setenv("PYTHONPATH", signalled["PYTHONPATH"])
    cell = tmp_path / "cell"
    write_config(cell, tiny())
    executor = submitit.LocalExecutor(folder=tmp_path / "jobs")
    executor.update_parameters(timeout_min=60)
    job = executor.submit(TrainCells(), str(cell))
    wait_for("the job done", job.done)
    said = job.stderr() or ""
    assert f"preempted by SIG{number}, saved after step 5/" in said
    if number == "USR2":
        assert job.result() == [str(cell)]
        assert "continues after step 5/" in said
        assert records.read_json(cell / records.STATE)["state"] == "done"
    else:
        assert records.read_json(cell / records.STATE)["state"] == "preempted"
        assert "Requeued" not in (job.stdout() or "")
