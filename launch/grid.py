"""`python launch/grid.py --partition gpu`: plan a grid of cells, train what is missing, gather the tables.

  python launch/grid.py --partition gpu                         the paper's grid, as Slurm job arrays (it asks before)
  python launch/grid.py --profile mysite.yaml --yes             the same as a site wants it, without a question
  python launch/grid.py --local --grid configs/grids/demo.yaml  the demo, on this machine
  python launch/grid.py --dry-run --partition gpu               the plan, as a table
  python launch/grid.py --gather                                the tables, from what is on disk
  python launch/grid.py --status                                where its cells are (--watch: live)
  python launch/grid.py --logs emotic-emot_net-clef-s0 --follow what a cell and its job say

Run it again at any time: it does only what is missing.

What is done with a grid under way: look at it, read a cell's logs, cancel cells. Nothing here waits for cells.
"""

import argparse
import getpass
import socket
import sys
from collections import Counter
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path

if __name__ == "__main__":  # a script of the checkout: its folder's parent holds both packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from clef import console
from clef.cells import records
from clef.config import grid as grids
from clef.config.base import merge, parse
from clef.console import agreed, err, out
from clef.errors import INTERRUPTED, ConfigError, SetupError, run_command
from clef.results.frame import plan_path
from clef.results.gather import gather_grid
from launch import ledger, local, logs, plan, plan_table, profiles, slurm_commands, status, status_view, submit
from launch import plan as plans
from launch.options import arguments
from launch.plan import Plan
from launch.proposal import Configs, proposer
from launch.status import ALIVE, CellStatus, Overview, called_otherwise
from launch.status import overview as look


def look_at(args: argparse.Namespace) -> int | None:
    """Do what the options say of a grid under way; None when they say nothing of that. Returns the exit code."""
    plan = plan_path(Path(args.out), args.grid.stem)
    view = status_view.View(args.cells, args.all, args.stuck)
    if args.status:
        return status_view.as_json(plan, view) if args.json else status_view.once(plan, view)
    if args.watch:
        return status_view.watch(plan, view)
    if args.logs:
        return logs.show(plan, args.logs, args.follow)
    if args.cancel:
        return cancel(plan, args.cancel, args.yes)
    return None


def cancel(plan: Path, pattern: str, sure: bool) -> int:
    """Cancel the cells of this name that wait or run. Final: only --retry-failed takes them up again.

    ConfigError when no such cell waits or runs, or nobody is there to be asked; SetupError when scancel fails, and
    then nothing is cancelled.
    """
    grid = plan.parent
    overview, cells = _alive(plan, pattern)
    if not cells:
        raise ConfigError(f"--cancel {pattern}: {_others(overview, pattern)}")
    if not sure and not agreed(_question(cells), "nothing cancelled"):
        return INTERRUPTED
    with ledger.held(grid, lambda: err.print("a launcher is submitting this grid; waiting for it")):
        asked = {cell.name for cell in cells}
        cells = [cell for cell in _alive(plan, pattern)[1] if cell.name in asked]
        _cancel(grid, cells)
    out.print(f"cancelled: {console.cells(len(cells))}; --retry-failed takes them up again")
    return 0


def _alive(plan: Path, pattern: str) -> tuple[Overview, list[CellStatus]]:
    overview = look(plan)
    named = [cell for cell in overview.cells if fnmatchcase(cell.name, pattern)]
    return overview, [cell for cell in named if cell.state in ALIVE and cell.folder]


def _others(overview: Overview, pattern: str) -> str:
    """What there is instead."""
    states = Counter(cell.state for cell in overview.cells if fnmatchcase(cell.name, pattern))
    if states:
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        return f"no cell of this name waits or runs; of this name there are: {counts}"
    return called_otherwise(overview)


def _question(cells: list[CellStatus]) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in Counter(cell.state for cell in cells).items())
    names = ", ".join(cell.name for cell in cells[:5]) + (", ..." if len(cells) > 5 else "")
    return f"Cancel {counts}: {names}?"


def _cancel(grid: Path, cells: list[CellStatus]) -> None:
    """Note it, which local launchers heed, then have Slurm end the jobs."""
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    notes = [grid / str(cell.folder) / records.CANCELLED for cell in cells]
    for note in notes:
        records.write_json(note, {"by": who, "at": at})
    try:
        slurm_commands.cancel({cell.job for cell in cells if cell.job})
    except SetupError as error:
        for note in notes:
            note.unlink(missing_ok=True)
        raise SetupError(f"{error}; nothing is noted as cancelled") from None


def main() -> int:
    """The command."""
    args = arguments(__doc__)
    if (code := look_at(args)) is not None:
        return code
    if args.gather:
        gather_grid(plan_path(Path(args.out), args.grid.stem), args.results)
        return 0
    grid = grids.load_grid(args.grid)
    extra = merge(parse(args.overrides), {"runtime": {"shards": args.shards, "out": args.out}})
    configs = grids.configs(grid, str(args.grid), extra)
    return _to_slurm(configs, args) if args.partition or args.profile else _here(configs, args)


def _to_slurm(configs: Configs, args: argparse.Namespace) -> int:
    site = profiles.site(args.profile, args.partition, args.sbatch)
    sources = profiles.sources(site.profile, args.source, plan.cards_of(configs[0]))
    grid = Path(args.out) / args.grid.stem
    look = proposer(
        args.grid.stem, grid, configs, sources, (slurm_commands.max_array_size(), args.max_parallel), args.retry_failed
    )
    if args.dry_run:
        found = look()
        plan_table.plan(found.plan, found, site)
        return 0
    submit.check()
    done = submit.run(look, site, args)
    if done is None:
        return INTERRUPTED
    done.plan.check()
    return 0


def _here(configs: Configs, args: argparse.Namespace) -> int:
    sources = profiles.sources(profiles.Profile(), args.source, plan.cards_of(configs[0]))
    if not args.dry_run:
        for made in plan.missing(configs[0], sources).values():
            plan.make_here(made)
    grid = Path(args.out) / args.grid.stem

    def look() -> Plan:
        status.note(grid)
        busy = {*ledger.look(grid).cells, *ledger.claimed_cells(grid)}
        return plans.make(grid.name, *configs, busy, retry=args.retry_failed)

    if args.dry_run:
        plan_table.plan(look())
        return 0
    return local.debug(look(), args) if args.debug else local.run(look, args)


if __name__ == "__main__":
    run_command(main)
