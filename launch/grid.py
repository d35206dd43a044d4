"""`python launch/grid.py --partition gpu`: plan a grid of cells, train what is missing, gather the tables.

  python launch/grid.py --partition gpu                         the paper's grid, as Slurm job arrays (it asks before)
  python launch/grid.py --profile mysite.yaml --yes             the same as a site wants it, without a question
  python launch/grid.py --local --grid configs/grids/demo.yaml  the demo, on this machine
  python launch/grid.py --dry-run --partition gpu               the plan, as a table
  python launch/grid.py --gather                                the tables, from what is on disk
  python launch/grid.py --status                                where its cells are (--watch: live)
  python launch/grid.py --logs emotic-emot_net-clef-s0 --follow what a cell and its job say

Run it again at any time: it does only what is missing.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":  # a script of the checkout: its folder's parent holds both packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from clef.config import grid as grids
from clef.config.base import merge, parse
from clef.errors import INTERRUPTED, run_command
from clef.results.gather import gather_grid
from clef.results.rows import plan_path
from launch import actions, cancelled, claims, here, profiles, queued, sbatch, sets, show, slurm
from launch import plan as plans
from launch.options import arguments
from launch.plan import Plan
from launch.propose import Configs, proposer


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
    configs = grids.configs(grid, str(args.grid), extra)
    return _to_slurm(configs, args) if args.partition or args.profile else _here(configs, args)


def _to_slurm(configs: Configs, args: argparse.Namespace) -> int:
    site = profiles.site(args.profile, args.partition, args.sbatch)
    sources = profiles.sources(site.profile, args.source, sets.cards_of(configs[0]))
    grid = Path(args.out) / args.grid.stem
    look = proposer(
        args.grid.stem, grid, configs, sources, (sbatch.max_array_size(), args.max_parallel), args.retry_failed
    )
    if args.dry_run:
        found = look()
        show.plan(found.plan, found, site)
        return 0
    slurm.check()
    done = slurm.run(look, site, args)
    if done is None:
        return INTERRUPTED
    done.plan.check()
    return 0


def _here(configs: Configs, args: argparse.Namespace) -> int:
    sources = profiles.sources(profiles.Profile(), args.source, sets.cards_of(configs[0]))
    if not args.dry_run:
        for made in sets.missing(configs[0], sources).values():
            sets.make_here(made)
    grid = Path(args.out) / args.grid.stem

    def look() -> Plan:
        cancelled.note(grid)
        busy = {*queued.look(grid).cells, *claims.busy(grid)}
        return plans.make(grid.name, *configs, busy, retry=args.retry_failed)

    if args.dry_run:
        show.plan(look())
        return 0
    return here.debug(look(), args) if args.debug else here.run(look, args)


if __name__ == "__main__":
    run_command(main)
