"""The job that follows a grid's cells on Slurm: tables of what results there are.

The launcher pickles it, so importing this file imports neither torch nor pandas.
"""

from pathlib import Path

from clef.cells import code_snapshot
from clef.engine.slurm_task import exit_if_dropped
from clef.errors import prepare_streams


def gather_job(plan: str, results: str) -> None:
    """Gather a grid into `results`. `plan`: its plan.json."""
    prepare_streams()
    exit_if_dropped(Path(plan).parent)
    code_snapshot.confirm()
    from clef.results.gather import gather_grid

    gather_grid(plan, results)
