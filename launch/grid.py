"""`python launch/grid.py --partition gpu`: plan a grid of cells, train what is missing, gather the tables.

  python launch/grid.py --partition gpu                         the paper's grid, as Slurm job arrays (it asks before)
  python launch/grid.py --profile mysite.yaml --yes             with the options of your site, without a question
  python launch/grid.py --local --grid demo                     the demo, on this machine
  python launch/grid.py --dry-run --partition gpu               the plan, as a table
  python launch/grid.py --gather                                the tables, from what is on disk
  python launch/grid.py --status                                where its cells are (--watch: live)
  python launch/grid.py --logs emotic-emot_net-clef-s0 --follow a cell's log, and the output of its job

Run it again at any time: it does only what is missing. Where the package is installed: python -m launch.grid, or
clef grid.
"""

# Which file answers which question
#
#   what may the command line say?                     options.py, profiles.py (a site's sbatch options)
#   which cells does a grid have?                      ../clef/config/grid.py
#   what is done, what can't be trained, and why?      plan.py, by ../clef/cells/identity.py and records.py
#   what would be submitted now?                       proposal.py (plan_table.py prints it)
#   what was submitted, and which cells are claimed?   ledger.py
#   what runs, what is queued, what failed?            status.py (status_view.py, logs.py and job_output.py show it)
#   what is Slurm told, and what does it answer?       submit.py, slurm_commands.py, slurm_answer.py (for the status)
#   how are cells trained on this machine?             local.py (local_progress.py shows it)
#   which code does a job run?                         code_snapshot.py
#
# Why was a cell not submitted? Start at make_proposal in proposal.py. Either
#   - the grid file excludes it (../clef/config/grid.py);
#   - it is done, or it failed or was cancelled and --retry-failed was not given, or its parent was skipped (plan.py);
#   - it is untrainable: its shards, its weights or its config are missing or wrong (plan.py);
#   - its shards are made first, and a later run of the launcher submits it (plan.py, proposal.py);
#   - it is busy: Slurm has it, or a local launcher has claimed it (ledger.py);
#   - it was not confirmed, or was not in the plan that was shown, or sbatch refused a job before it (submit.py).
#
# A plan is what the disk says of a grid's cells. A proposal is what of it would be submitted now. A submission is one
# call of sbatch, a claim the cells of one local launcher; the ledger has both. A status is where the cells are.
#
# A job is queued while it waits, and active while it waits or runs. A cell is untrainable if something is missing or
# wrong (shards, weights, its config). To the status a cell is blocked if it had no signature when it was planned: it is
# untrainable, or its shards were still to be made.

import argparse
import sys
from collections import Counter
from collections.abc import Collection
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

if __name__ == "__main__" and __spec__ is None:  # a script of the checkout: its folder's parent holds both packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from clef import console
from clef.cells import records
from clef.cells.plan_file import check_grid_file, plan_path
from clef.config import CellConfig
from clef.config import grid as grids
from clef.console import confirm, err, out
from clef.errors import INTERRUPTED, ConfigError, SetupError, run_command
from launch import ledger, local, logs, plan_table, profiles, slurm_commands, status, status_view, submit
from launch.options import parse_arguments
from launch.plan import Plan, dataset_sources, make_plan, make_shards_here, missing_shards
from launch.proposal import make_proposal
from launch.status import ACTIVE_STATES, CellStatus, GridStatus, no_such_cell, read_status


def main() -> int:
    """Run the command."""
    args = parse_arguments(__doc__)
    check_grid_file(Path(args.out), args.grid)
    if (code := view_or_cancel(args)) is not None:
        return code
    if args.gather:
        from clef.results.gather import gather_grid  # only now: planning and status don't wait for what it imports

        gather_grid(plan_path(Path(args.out), args.grid.stem), args.results)
        return 0
    grid = grids.load_grid(args.grid)
    configs = grids.resolve_cells(grid, str(args.grid), args.settings)
    return _run_on_slurm(configs, args) if args.partition or args.profile else _run_locally(configs, args)


def _run_on_slurm(configs: list[CellConfig], args: argparse.Namespace) -> int:
    site = profiles.load_site(args.profile, args.partition, args.sbatch)
    propose = partial(
        make_proposal,
        Path(args.out) / args.grid.stem,
        configs,
        profiles.find_sources(site.profile, args.source, dataset_sources(configs)),
        max_array_size=slurm_commands.max_array_size(),
        max_parallel=args.max_parallel,
        retry=args.retry_failed,
    )
    if args.dry_run:
        shown = propose(dry=True)
        plan_table.print_plan(shown.plan, shown, site)
        return 0
    submit.check_slurm()
    proposal = submit.submit_grid(propose, site, args)
    if proposal is None:
        return INTERRUPTED
    proposal.plan.raise_if_untrainable()
    return 0


def _run_locally(configs: list[CellConfig], args: argparse.Namespace) -> int:
    sources = profiles.find_sources(profiles.Profile(), args.source, dataset_sources(configs))
    if not args.dry_run:
        for shards in missing_shards(configs, sources).values():
            make_shards_here(shards)
    grid = Path(args.out) / args.grid.stem

    def plan() -> Plan:
        cancelled = status.find_cancelled(grid, keep_answer=not args.dry_run)
        if not args.dry_run:
            status.note_cancelled(grid, cancelled)
        busy = {*ledger.query_active_jobs(grid).cells, *ledger.claimed_cells(grid)}
        return make_plan(grid.name, configs, busy, retry=args.retry_failed, cancelled=cancelled)

    if args.dry_run:
        plan_table.print_plan(plan())
        return 0
    return local.debug_cell(plan(), args) if args.debug else local.train_grid(plan, args)


# ---- a grid that is being trained ----


def view_or_cancel(args: argparse.Namespace) -> int | None:
    """Show or cancel cells of a grid that is being trained, if the options ask for that. Waits for no cell.

    Returns the exit code; None when the options ask for something else.
    """
    plan = plan_path(Path(args.out), args.grid.stem)
    view = status_view.ViewOptions(args.cells, args.all, args.stuck)
    if args.status:
        return status_view.print_json(plan, view) if args.json else status_view.print_status(plan, view)
    if args.watch:
        return status_view.watch_status(plan, view)
    if args.logs:
        return logs.print_logs(plan, args.logs, args.follow)
    if args.cancel:
        return cancel(plan, args.cancel, args.yes)
    return None


def cancel(plan: Path, pattern: str, yes: bool) -> int:
    """Cancel the cells of this name that wait or run; only --retry-failed trains them after that.

    Asks first, unless `yes`. Returns the exit code. ConfigError when no such cell waits or runs, or there is nobody to
    ask; SetupError when scancel fails, and then nothing is cancelled.
    """
    grid = plan.parent
    grid_status, cells = _active_cells(plan, pattern)
    if not cells:
        raise ConfigError(f"--cancel {pattern}: {_no_match_reason(grid_status, pattern)}")
    if not yes and not confirm(_cancel_question(cells), "nothing cancelled"):
        return INTERRUPTED
    with ledger.lock(grid, lambda: err.print("a launcher is submitting this grid; waiting for it")):
        shown = {cell.name for cell in cells}
        cells = [cell for cell in _active_cells(plan, pattern)[1] if cell.name in shown]
        _cancel_cells(grid, cells, _shared_jobs(plan, cells))
    if not cells:
        out.print("nothing cancelled: they have ended meanwhile")
        return 0
    out.print(f"cancelled: {console.format_cells(len(cells))}; --retry-failed trains them again")
    return 0


def _active_cells(plan: Path, pattern: str) -> tuple[GridStatus, list[CellStatus]]:
    """Return the grid's status, and its cells of this name that wait or run."""
    grid_status = read_status(plan)
    matching = [cell for cell in grid_status.cells if fnmatchcase(cell.name, pattern)]
    return grid_status, [cell for cell in matching if cell.state in ACTIVE_STATES and cell.folder]


def _no_match_reason(grid_status: GridStatus, pattern: str) -> str:
    states = Counter(cell.state for cell in grid_status.cells if fnmatchcase(cell.name, pattern))
    if states:
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        return f"no cell that matches waits or runs; the matching ones: {counts}"
    return no_such_cell(grid_status)


def _cancel_question(cells: list[CellStatus]) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in Counter(cell.state for cell in cells).items())
    names = ", ".join(cell.name for cell in cells[:5]) + (", ..." if len(cells) > 5 else "")
    unplanned = sum(not cell.planned for cell in cells)
    return f"Cancel {counts}: {names}{f' ({unplanned} no longer in the plan)' if unplanned else ''}?"


def _shared_jobs(plan: Path, cells: list[CellStatus]) -> set[str | None]:
    """Return the jobs of these cells that train others too, which are not to be cancelled."""
    chosen = {cell.folder for cell in cells}
    return {cell.job for cell in _active_cells(plan, "*")[1] if cell.folder not in chosen}


def _cancel_cells(grid: Path, cells: list[CellStatus], shared: Collection[str | None]) -> None:
    """Note it in the cells' folders, where local launchers and tasks of several cells see it; have Slurm end the jobs.

    A job that trains other cells too (`shared`) goes on, without those of these that it has not begun.
    """
    who = ledger.user_at_host()
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    notes = [grid / str(cell.folder) / records.CANCELLED for cell in cells]
    for note in notes:
        records.write_json(note, {"by": who, "at": now})
    try:
        slurm_commands.cancel_jobs({cell.job for cell in cells if cell.job and cell.job not in shared})
    except SetupError as error:
        for note in notes:
            note.unlink(missing_ok=True)
        raise SetupError(f"{error}; no cell is marked as cancelled") from None


if __name__ == "__main__":
    run_command(main)
