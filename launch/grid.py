"""`python launch/grid.py --partition gpu`: plan a grid of cells, train what is missing, gather the tables.

  python launch/grid.py --partition gpu                         the paper's grid, as Slurm job arrays
  python launch/grid.py --local --grid configs/grids/demo.yaml  the demo, on this machine
  python launch/grid.py --dry-run                               the plan, as a table
  python launch/grid.py --gather                                the tables, from what is on disk
  python launch/grid.py --status                                where its cells are (--watch: live)
  python launch/grid.py --logs emotic-clef --follow             what a cell and its job say

Run it again at any time: it does only what is missing.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # a script of the checkout: its folder's parent holds both packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from clef import grid as grids
from clef.console import err, out
from clef.errors import ClefError, SetupError, run_command
from clef.overrides import merge, parse
from clef.results.gather import gather_grid
from clef.results.rows import plan_path, write_plan
from launch import actions, cancelled, claims, here, show, submit
from launch import plan as plans
from launch.options import arguments, sbatch_option
from launch.plan import Plan, PlannedCell


def main() -> int:
    """The command."""
    args = arguments(__doc__)
    if (code := actions.look_at(args)) is not None:
        return code
    if args.gather:
        gather_grid(plan_path(Path(args.out), args.grid.stem), args.results)
        return 0
    grid = grids.load_grid(args.grid)
    extra = merge(parse(args.overrides), {"runtime": {"shards": args.shards, "out": args.out}})
    configs, unregistered = grids.configs(grid, str(args.grid), extra)
    if not args.dry_run:
        _check_slurm(args)
        _make_demo_shards(configs)
    grid_folder = Path(args.out) / args.grid.stem

    def look() -> Plan:
        cancelled.note(grid_folder)
        queued = {*submit.queued(grid_folder), *claims.busy(grid_folder)}
        return plans.make(args.grid.stem, configs, unregistered, queued, args.retry_failed)

    if args.debug:
        return here.debug(look(), args)
    if args.local is not None and not args.dry_run:
        return here.run(look, args)
    plan = look()
    show.plan(plan)
    return 0 if args.dry_run else _run(plan, args)


def _check_slurm(args: argparse.Namespace) -> None:
    if args.partition and not shutil.which("sbatch"):
        raise SetupError("no Slurm on this machine (sbatch is not on the PATH); to train here instead, say --local")


def _make_demo_shards(configs: list[Any]) -> None:
    """Demo sets are drawn and sharded on first use, in a process of their own: this one never imports torch."""
    for config in plans.datasets_to_make(configs):
        err.print(f"making the shards of {config.dataset_name} (once)")
        what = ["--dataset", config.dataset, "--protocol", config.protocol, "--out", config.runtime.shards]
        done = subprocess.run([sys.executable, "-m", "clef.shard", *what])
        if done.returncode:
            error = ClefError(
                f"sharding {config.dataset_name} failed (exit code {done.returncode}); the reason is above"
            )
            error.exit_code = max(done.returncode, 1)  # a signal's is negative
            raise error


def _run(plan: Plan, args: argparse.Namespace) -> int:
    path = write_plan(Path(args.out), plan.name, [cell.as_run() for cell in plan.cells])
    here.check(plan)
    todo = [cell for cell in plan.cells if cell.todo]
    if todo:
        return _submit(todo, path, args)
    here.nothing(plan)
    gather_grid(path, args.results)
    return 0


def _submit(todo: list[PlannedCell], path: Path, args: argparse.Namespace) -> int:
    sbatch = dict(sbatch_option(text) for text in args.sbatch)
    arrays, last = submit.to_slurm(todo, path, Path(args.results).resolve(), submit.Site(args.partition, sbatch))
    kind = "array" if len(arrays) == 1 else "arrays"
    out.print(f"submitted {len(todo)} cells as {len(arrays)} job {kind}: {', '.join(arrays)}", soft_wrap=True)
    where = Path(args.results) / path.parent.name
    out.print(f"gather job {last} writes the tables to {where} when they have ended", markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    run_command(main)
