"""Calls sbatch: with all that a job needs in place before, and without what a surrounding job would pass on."""

import functools
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import submitit
from submitit.helpers import DelayedSubmission

from clef import io
from clef.errors import SetupError

Work = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function for submitit to pickle, and its arguments."""
SECONDS = 300
"""How long sbatch may take: it asks a busy controller again and again."""
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")
"""Where the cluster is: no facts about a job."""


def write(executor: submitit.SlurmExecutor, work: list[Work], array: bool) -> Path:
    """Write the script, and what each task runs, into the executor's folder. Returns the script.

    submitit does this after sbatch. A launcher that dies in between would leave jobs with nothing to run, and a job
    that starts at once would miss the folder of its log, which Slurm doesn't make.
    """
    folder = executor.folder
    folder.mkdir(parents=True, exist_ok=True)
    for i, (function, arguments) in enumerate(work):
        delayed = DelayedSubmission(function, *arguments)
        delayed.set_timeout(executor.parameters["time"], executor.max_num_timeout)
        delayed.dump(folder / f"{i}.pkl")
    # submitit looks for it under the job's id. A requeue puts a newer one there, which stays.
    job = "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
    link = (
        f'ln -s "${{SLURM_ARRAY_TASK_ID:-0}}.pkl" {shlex.quote(str(folder))}/"{job}_submitted.pkl" 2>/dev/null || true'
    )
    executor.update_parameters(setup=[*executor.parameters.get("setup", []), link])
    executor.parameters["map_count"] = len(work) if array else None
    script = folder / "submission.sh"
    io.write(script, executor._make_submission_file_text(executor._submitit_command_str, folder.name))
    return script


def send(script: Path) -> str:
    """Hand a script to sbatch. Returns the job's id; SetupError with what sbatch says when it gives none."""
    # In a session of its own: Ctrl-C, or a terminal that closes, must not end it half-way.
    command, own = ["sbatch", "--parsable", str(script)], {"start_new_session": True, "env": environment()}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, **own)  # type: ignore[call-overload]
    except subprocess.TimeoutExpired:
        raise SetupError(f"sbatch gave no answer in {SECONDS} s") from None
    except OSError as error:
        raise SetupError(f"sbatch can't be run: {error.strerror}") from None
    found = re.fullmatch(r"(\d+)(;.*)?", done.stdout.strip())
    if done.returncode or not found:
        said = [line.removeprefix("sbatch: ").removeprefix("error: ").strip() for line in done.stderr.splitlines()]
        raise SetupError("; ".join(filter(None, said)) or f"exit code {done.returncode} and {done.stdout.strip()!r}")
    return found[1]


def environment() -> dict[str, str]:
    """This process's environment without what Slurm says of a job around it, which would go for the new job too."""
    return {name: value for name, value in os.environ.items() if name in KEPT or not name.startswith("SLURM")}


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep Ctrl-C back until the block has ended: sbatch, and the note of what it answered, belong together."""
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught:
        raise KeyboardInterrupt


@functools.cache
def max_array_size() -> int | None:
    """One more than the highest index of an array that the site allows; None where Slurm doesn't say."""
    if not shutil.which("scontrol"):
        return None
    try:
        shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):  # squeue is asked next, and says why
        return None
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", shown.stdout, re.MULTILINE)
    return int(found[1]) if found else None
