"""`python launch/grid.py --partition gpu`: plan a grid of cells, train what is missing, gather the tables.

  python launch/grid.py --partition gpu                         the paper's grid, as Slurm job arrays
  python launch/grid.py --local --grid configs/grids/demo.yaml  the demo, on this machine
  python launch/grid.py --dry-run                               the plan, as a table
  python launch/grid.py --gather                                the tables, from what is on disk

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
from clef.errors import CellError, ClefError, SetupError, run_command
from clef.overrides import merge, parse
from clef.results.gather import gather_grid
from clef.results.rows import plan_path, write_plan
from launch import local, show, submit
from launch import plan as plans
from launch.options import arguments, sbatch_option
from launch.plan import Plan, PlannedCell


def main() -> int:
    """The command."""
    args = arguments(__doc__)
    if args.gather:
        gather_grid(plan_path(Path(args.out), args.grid.stem), args.results)
        return 0
    grid = grids.load_grid(args.grid)
    extra = merge(parse(args.overrides), {"runtime": {"shards": args.shards, "out": args.out}})
    configs, unregistered = grids.configs(grid, str(args.grid), extra)
    if not args.dry_run:
        _check_slurm(args)
        _make_demo_shards(configs)
    queued = submit.queued(Path(args.out) / args.grid.stem)
    plan = plans.make(args.grid.stem, configs, unregistered, queued)
    show.plan(plan)
    if args.dry_run:
        return 0
    return _run(plan, args)


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
    blocked = [cell for cell in plan.cells if cell.error]
    todo = [cell for cell in plan.cells if cell.todo]
    if blocked:
        reasons = dict.fromkeys(str(cell.error) for cell in blocked)
        count = "1 cell" if len(blocked) == 1 else f"{len(blocked)} cells"
        raise type(blocked[0].error)("\n".join([f"{count} can't be trained:", *reasons]))  # type: ignore[misc]
    if args.partition and todo:
        return _submit(todo, path, args)
    if not todo:
        busy = sum(cell.state in ("queued", "running") for cell in plan.cells)
        out.print(f"nothing to train: {len(plan.cells) - busy} cells are done, {busy} are queued or running")
    failed = _train_here(todo, path, args) if todo else {}
    gather_grid(path, args.results)
    if failed:
        raise CellError(
            f"{len(failed)} of {len(plan.cells)} cells failed; the tables say why. Run it again to retry them"
        )
    return 0


def _submit(todo: list[PlannedCell], path: Path, args: argparse.Namespace) -> int:
    sbatch = dict(sbatch_option(text) for text in args.sbatch)
    arrays, last = submit.to_slurm(todo, path, Path(args.results).resolve(), submit.Site(args.partition, sbatch))
    kind = "array" if len(arrays) == 1 else "arrays"
    out.print(f"submitted {len(todo)} cells as {len(arrays)} job {kind}: {', '.join(arrays)}", soft_wrap=True)
    where = Path(args.results) / path.parent.name
    out.print(f"gather job {last} writes the tables to {where} when they have ended", markup=False, soft_wrap=True)
    return 0


def _train_here(todo: list[PlannedCell], path: Path, args: argparse.Namespace) -> dict[Path, str]:
    at_once = args.local or show.machine_slots(todo)
    with show.Local(todo) as display:
        return local.train(todo, path.parent / "local", at_once, display.update)


if __name__ == "__main__":
    run_command(main)
