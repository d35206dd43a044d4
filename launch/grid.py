"""`python launch/grid.py --partition gpu`: plan a grid of cells, train what is missing, gather the tables.

  python launch/grid.py --partition gpu                         the paper's grid, as Slurm job arrays (it asks before)
  python launch/grid.py --profile mysite.yaml --yes             the same as a site wants it, without a question
  python launch/grid.py --local --grid configs/grids/demo.yaml  the demo, on this machine
  python launch/grid.py --dry-run --partition gpu               the plan, as a table
  python launch/grid.py --gather                                the tables, from what is on disk

Run it again at any time: it does only what is missing.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":  # a script of the checkout: its folder's parent holds both packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from clef import grid as grids
from clef.console import out
from clef.errors import INTERRUPTED, CellError, run_command
from clef.overrides import merge, parse
from clef.results.gather import gather_grid
from clef.results.rows import plan_path, write_plan
from launch import local, profiles, queued, sbatch, sets, show, slurm
from launch import plan as plans
from launch.options import arguments
from launch.plan import Plan, PlannedCell
from launch.propose import Configs, proposer


def main() -> int:
    """The command."""
    args = arguments(__doc__)
    if args.gather:
        gather_grid(plan_path(Path(args.out), args.grid.stem), args.results)
        return 0
    grid = grids.load_grid(args.grid)
    extra = merge(parse(args.overrides), {"runtime": {"shards": args.shards, "out": args.out}})
    configs = grids.configs(grid, str(args.grid), extra)
    return _to_slurm(configs, args) if args.partition or args.profile else _here(configs, args)


def _to_slurm(configs: Configs, args: argparse.Namespace) -> int:
    site = profiles.site(args.profile, args.partition, args.sbatch)
    sources = profiles.sources(site.profile, args.source, sets.cards_of(configs[0]))
    grid = Path(args.out) / args.grid.stem
    look = proposer(args.grid.stem, grid, configs, sources, (sbatch.max_array_size(), args.max_parallel))
    if args.dry_run:
        found = look()
        show.plan(found.plan, found, site)
        return 0
    slurm.check()
    done = slurm.run(look, site, args)
    if done is None:
        return INTERRUPTED
    _complain(done.plan)
    return 0


def _here(configs: Configs, args: argparse.Namespace) -> int:
    sources = profiles.sources(profiles.Profile(), args.source, sets.cards_of(configs[0]))
    if not args.dry_run:
        for made in sets.missing(configs[0], sources).values():
            sets.make_here(made)
    plan = plans.make(args.grid.stem, *configs, queued.look(Path(args.out) / args.grid.stem).cells)
    show.plan(plan)
    if args.dry_run:
        return 0
    path = write_plan(Path(args.out), plan.name, [cell.as_run() for cell in plan.cells])
    if plan.blocked and not plan.todo:
        _complain(plan)
    if not plan.todo:
        busy = sum(cell.state in ("queued", "running") for cell in plan.cells)
        out.print(f"nothing to train: {len(plan.cells) - busy} cells are done, {busy} are queued or running")
    failed = _train_here(plan.todo, path, args) if plan.todo else {}
    gather_grid(path, args.results)
    if failed:
        raise CellError(
            f"{len(failed)} of {len(plan.cells)} cells failed; the tables say why. Run it again to retry them"
        )
    _complain(plan)
    return 0


def _complain(plan: Plan) -> None:
    """Raise what stands in the way of cells, of the first one's class: the others have been dealt with by now."""
    if not plan.blocked:
        return
    reasons = dict.fromkeys(str(cell.error) for cell in plan.blocked)
    count = "1 cell" if len(plan.blocked) == 1 else f"{len(plan.blocked)} cells"
    raise type(plan.blocked[0].error)("\n".join([f"{count} can't be trained:", *reasons]))  # type: ignore[misc]


def _train_here(todo: list[PlannedCell], path: Path, args: argparse.Namespace) -> dict[Path, str]:
    at_once = args.local or show.machine_slots(todo)
    with show.Local(todo) as display:
        return local.train(todo, path.parent / "local", at_once, display.update)


if __name__ == "__main__":
    run_command(main)
