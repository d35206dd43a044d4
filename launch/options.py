"""The launcher's command line."""

import argparse
import math
from pathlib import Path

from clef.errors import ConfigError, argument_parser
from launch.profiles import names, sbatch_option

STUCK = 15.0
"""Minutes without a word after which a running cell is called stuck, unless others are asked for."""


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
        help="train here, N cells at a time (default: one for each core, or for each GPU)",
    )
    where.add_argument("--debug", action="store_true", help="train one cell (the first to do, or --cells) right here")
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
    parser.add_argument("--yes", action="store_true", help="submit, or cancel, without asking")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and leave")
    parser.add_argument(
        "--retry-failed", action="store_true", help="train cells again that failed or were cancelled, too"
    )
    parser.add_argument("--gather", action="store_true", help="rebuild the tables from disk and leave")
    parser.add_argument("--shards", default="shards", help="where the shards lie (default: shards)")
    parser.add_argument("--out", default="runs", help="where cells are written (default: runs)")
    parser.add_argument("--results", default="results", help="where tables are written (default: results)")
    _add_looks(parser)
    args = parser.parse_intermixed_args()
    _check_looks(args)
    to_slurm = args.partition or args.profile
    looks = args.status or args.watch or args.logs or args.cancel
    if not (looks or args.dry_run or args.gather or to_slurm or args.local is not None or args.debug):
        raise ConfigError(
            "say where to train: --profile NAME or --partition NAME (Slurm) or --local [N]; or look first: --dry-run"
        )
    if args.profile and (args.local is not None or args.debug):
        raise ConfigError("--profile: for Slurm; it doesn't go with --local or --debug")
    for option, value in (("--sbatch", args.sbatch), ("--max-parallel", args.max_parallel)):
        if value and not to_slurm:
            raise ConfigError(f"{option}: goes with --partition or --profile; without them nothing is submitted")
    for text in args.sbatch:
        sbatch_option(text)
    return args


def _add_looks(parser: argparse.ArgumentParser) -> None:
    """Options for a grid that is under way. A CELL or PATTERN is a name in which * and ? stand for anything."""
    group = parser.add_argument_group("a grid that is under way (all of it is on disk; nothing of this waits for it)")
    look = group.add_mutually_exclusive_group()
    look.add_argument("--status", action="store_true", help="show where its cells are")
    look.add_argument("--watch", action="store_true", help="the same, live, until they have ended or Ctrl-C")
    look.add_argument(
        "--logs", metavar="CELL", help="the last lines of a cell's log and of its job (or a part of its name)"
    )
    look.add_argument("--cancel", metavar="PATTERN", help="cancel the cells of this name that wait or run")
    group.add_argument("--cells", metavar="PATTERN", help="--status, --watch, --debug: only cells of this name")
    group.add_argument("--all", action="store_true", help="--status, --watch: list all cells, however many")
    group.add_argument("--json", action="store_true", help="--status: for machines, all cells with all that is known")
    group.add_argument(
        "--stuck",
        type=_minutes,
        metavar="MINUTES",
        help=f"--status, --watch: a running cell is stuck after so long without a word ({STUCK:g})",
    )
    group.add_argument("--follow", action="store_true", help="--logs: go on as lines come, until the cell has ended")


def _check_looks(args: argparse.Namespace) -> None:
    """Refuse options that do nothing without another one."""
    shown = args.status or args.watch
    for option, value, others, fits in (
        ("--cells", args.cells, "--status, --watch or --debug", shown or args.debug),
        ("--all", args.all, "--status or --watch", shown),
        ("--json", args.json, "--status", args.status),
        ("--stuck", args.stuck is not None, "--status or --watch", shown),
        ("--follow", args.follow, "--logs", args.logs),
    ):
        if value and not fits:
            raise ConfigError(f"{option}: goes with {others}")
    if args.stuck is None:
        args.stuck = STUCK


def _count(text: str) -> int:
    """A number of cells."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of cells is expected, not {text!r}")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"a number of minutes is expected, not {text!r}")
    return minutes


def _local(text: str) -> int:
    """N of --local, which takes the word behind it for N."""
    try:
        return _count(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; key=value goes before --local") from None
