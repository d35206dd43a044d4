"""What a submitted job runs. Importing this file imports no torch: the launcher pickles these functions."""

import os
from pathlib import Path

import submitit
from submitit.helpers import DelayedSubmission

from clef import records
from clef.errors import SetupError


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
        run_cell(Path(folder))
        return folder

    def checkpoint(self, folder: str) -> DelayedSubmission:
        """What submitit requeues on preemption: the same cell, which goes on from its newest checkpoint."""
        return DelayedSubmission(self, folder)


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
