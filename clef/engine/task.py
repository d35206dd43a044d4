"""What a submitted job runs. Importing this file imports no torch: the launcher pickles these functions."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import UncompletedJobError
from submitit.helpers import DelayedSubmission

from clef import records, signals
from clef.errors import Preempted, SetupError


class TrainCell:
    """Trains the cell in a folder: one call a task, a task a rank."""

    def __call__(self, folder: str) -> str:
        """Train it, and return where its result lies."""
        try:
            _join_ranks()
            from clef.engine.job import run_cell
        except Exception as error:  # from here on, run_cell records what goes wrong
            records.write_state(Path(folder), "failed", reason=str(error))
            raise
        requeue = Requeue()
        try:
            run_cell(Path(folder), requeue=requeue)
        except Preempted as error:  # no failure, so there is no result to hand to submitit either
            print(error, file=sys.stderr, flush=True)
            sys.exit(requeue.exit_code)
        return folder

    def checkpoint(self, folder: str) -> DelayedSubmission:
        """What submitit requeues on preemption: the same cell, which goes on from its newest checkpoint."""
        return DelayedSubmission(self, folder)


class Requeue:
    """Has a preempted job queued again, by what submitit would have done at the signal, had we not waited and saved.

    Only for submitit's own signal (USR2, which Slurm sends before it preempts or at the time limit). With SIGTERM the
    job was cancelled, or the site requeues by itself.
    """

    def __init__(self) -> None:
        self.exit_code: Any = Preempted.exit_code

    def __call__(self) -> str:
        """What became of it."""
        asks = signal.Signals[f"SIG{submitit.JobEnvironment.USR_SIG}"]
        handler = signals.previous(asks)
        if asks.name not in signals.reasons() or signal.SIGTERM.name in signals.reasons() or not callable(handler):
            return ""
        environment = submitit.JobEnvironment()
        # What a killed requeue left would block every later one.
        environment.paths.submitted_pickle.with_suffix(".pkl.save_tmp").unlink(missing_ok=True)
        try:
            handler(asks, None)  # counts time-outs, writes the submission anew, runs `scontrol requeue`, and exits
        except SystemExit as left:
            if environment.cluster == "local":  # its controller starts the tasks again when one leaves with this code
                self.exit_code = left.code
            return "requeued"
        except UncompletedJobError as error:
            return f"not requeued: {error}"
        return ""


def gather(plan: str, results: str) -> None:
    """The job behind a grid: tables of what there is."""
    from clef.results.gather import gather_grid

    gather_grid(plan, results)


def _join_ranks() -> None:
    """Tell torch who the other tasks are: submitit knows, and no second launcher is needed."""
    environment = submitit.JobEnvironment()
    _check_gpus()
    if environment.num_tasks > 1:
        from submitit.helpers import TorchDistributedEnvironment

        # Two jobs on one node must not meet at one port, nor at one that the kernel hands out (from 32768 on).
        os.environ["MASTER_PORT"] = str(20_000 + int(environment.raw_job_id) % 12_000)
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)


def _check_gpus() -> None:
    asked = os.environ.get("CLEF_GPUS_PER_NODE")
    if not asked:
        return
    import torch

    if torch.cuda.device_count() < int(asked):
        raise SetupError(f"GPUs asked for: {asked}; GPUs that torch sees on this node: {torch.cuda.device_count()}")
