"""The launcher's command line."""

import argparse
from pathlib import Path

from clef.errors import ConfigError, argument_parser
from launch.profiles import names, sbatch_option


def arguments(description: str | None) -> argparse.Namespace:
    """What the user asks for, checked as far as it can be without a grid. ConfigError for what contradicts itself."""
    parser = argument_parser("python launch/grid.py", description)
    default = Path(__file__).resolve().parent.parent / "configs/grids/paper.yaml"
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings for every cell, such as epochs=1")
    parser.add_argument(
        "--grid", type=Path, default=default, help="the grid's YAML file (default: configs/grids/paper.yaml)"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--partition", help="submit to this Slurm partition")
    where.add_argument(
        "--local",
        nargs="?",
        const=0,
        type=_local,
        metavar="N",
        help="train here, N cells at a time (default: one a core, or a GPU)",
    )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help=f"what the site wants on every job: {', '.join(names())} (slurm/profiles), or a file of your own (.yaml)",
    )
    parser.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="key[=value]",
        help="a further sbatch option, such as account=lab or exclusive (repeatable)",
    )
    parser.add_argument(
        "--max-parallel", type=_count, metavar="N", help="at most N of the cells submitted now run at the same time"
    )
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="DATASET=FOLDER",
        help="where a dataset lies, so that missing shards are made first (repeatable)",
    )
    parser.add_argument("--yes", action="store_true", help="submit without asking")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and leave")
    parser.add_argument("--gather", action="store_true", help="rebuild the tables from disk and leave")
    parser.add_argument("--shards", default="shards", help="where the shards lie (default: shards)")
    parser.add_argument("--out", default="runs", help="where cells are written (default: runs)")
    parser.add_argument("--results", default="results", help="where tables are written (default: results)")
    args = parser.parse_intermixed_args()
    to_slurm = args.partition or args.profile
    if not (args.dry_run or args.gather or to_slurm or args.local is not None):
        raise ConfigError(
            "say where to train: --profile NAME or --partition NAME (Slurm) or --local [N]; or look first: --dry-run"
        )
    if args.profile and args.local is not None:
        raise ConfigError("--profile, --local: one or the other; a profile is for Slurm")
    for option, value in (("--sbatch", args.sbatch), ("--max-parallel", args.max_parallel)):
        if value and not to_slurm:
            raise ConfigError(f"{option}: goes with --partition or --profile; without them nothing is submitted")
    for text in args.sbatch:
        sbatch_option(text)
    return args


def _count(text: str) -> int:
    """A number of cells."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of cells is expected, not {text!r}")
    return int(text)


def _local(text: str) -> int:
    """N of --local, which takes the word behind it for N."""
    try:
        return _count(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; key=value goes before --local") from None
