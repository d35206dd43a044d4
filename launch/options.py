"""The launcher's command line: its options, and which of them can be combined."""

import argparse
import math
from pathlib import Path
from typing import Any

from clef import yaml_config
from clef.config import RuntimeConfig
from clef.config import grid as grids
from clef.config.grid import GRIDS
from clef.errors import ConfigError, argument_parser
from clef.yaml_config import unknown
from launch.profiles import profile_names
from launch.sbatch_options import parse_sbatch_option

STUCK_MINUTES = 15.0
"""Minutes without a log line or a change of state after which a running cell is called stuck (`--stuck`)."""


def parse_arguments(description: str | None) -> argparse.Namespace:
    """Parse the command line, and check it as far as that goes without a grid. ConfigError for what makes no sense."""
    parser = argument_parser("python launch/grid.py", description)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings for every cell, such as epochs=1")
    parser.add_argument(
        "--grid",
        default="paper",
        metavar="NAME",
        help=f"a grid: {', '.join(yaml_config.names(GRIDS))} ({GRIDS}), or a file of your own (.yaml); default: paper",
    )
    _add_train_options(parser)
    _add_view_options(parser)
    args = parser.parse_intermixed_args()
    _check_train_options(args)
    _check_view_options(args)
    needs_file = not (args.status or args.watch or args.logs or args.cancel or args.gather)
    args.grid = _grid_file(args.grid, needs_file)
    args.settings = _settings(args)
    args.out = args.settings.get("runtime", {}).get("output_dir") or _output_dir(args.grid)
    if args.stuck is None:
        args.stuck = STUCK_MINUTES
    return args


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where to train what is missing, and how."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--partition", help="submit to this Slurm partition")
    where.add_argument(
        "--local",
        nargs="?",
        const=0,
        type=_local_count,
        metavar="N",
        help="train here, N cells at a time (default: one for each core, or for each GPU)",
    )
    where.add_argument(
        "--debug", action="store_true", help="train one cell (the first to train, or of --cells) in this process"
    )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help=f"options that your site needs on every job: {', '.join(profile_names())} (slurm/profiles), or a file of "
        f"your own (.yaml)",
    )
    parser.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="key[=value]",
        help="a further sbatch option, such as account=lab or exclusive (repeatable)",
    )
    parser.add_argument(
        "--max-parallel",
        type=_cell_count,
        metavar="N",
        help="at most N of the cells submitted now run at the same time",
    )
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="DATASET=FOLDER",
        help="where a dataset is, so that missing shards are made first (repeatable)",
    )
    parser.add_argument("--yes", action="store_true", help="submit, or cancel, without asking")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and exit")
    parser.add_argument(
        "--retry-failed", action="store_true", help="train cells again that failed or were cancelled, too"
    )
    parser.add_argument("--gather", action="store_true", help="rebuild the tables from disk and exit")
    shards, out = RuntimeConfig().shards, RuntimeConfig().output_dir
    parser.add_argument(
        "--shards", type="path", help=f"where the shards are (default: the grid's runtime.shards, else {shards})"
    )
    parser.add_argument(
        "--out", type="path", help=f"where cells are written (default: the grid's runtime.output_dir, else {out})"
    )
    parser.add_argument("--results", type="path", default="results", help="where tables are written (default: results)")


def _add_view_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for a grid that is being trained. In a CELL or PATTERN, * and ? stand for anything."""
    group = parser.add_argument_group(
        "a grid that is being trained (everything is on disk; none of these waits for a cell)"
    )
    view = group.add_mutually_exclusive_group()
    view.add_argument("--status", action="store_true", help="show where its cells are")
    view.add_argument("--watch", action="store_true", help="the same, live, until they have ended or Ctrl-C")
    view.add_argument(
        "--logs", metavar="CELL", help="the last lines of a cell's log and of its job (or a part of its name)"
    )
    view.add_argument("--cancel", metavar="PATTERN", help="cancel the cells of this name that wait or run")
    group.add_argument("--cells", metavar="PATTERN", help="--status, --watch, --debug: only cells of this name")
    group.add_argument("--all", action="store_true", help="--status, --watch: list all cells, however many")
    group.add_argument("--json", action="store_true", help="--status: as JSON, all cells with all that is known")
    group.add_argument(
        "--stuck",
        type=_minutes,
        metavar="MINUTES",
        help=f"--status, --watch: a running cell without a log line for MINUTES is called stuck ({STUCK_MINUTES:g})",
    )
    group.add_argument(
        "--follow", action="store_true", help="--logs: print further lines as they come, until the cell has ended"
    )


def _check_train_options(args: argparse.Namespace) -> None:
    to_slurm = args.partition or args.profile
    views = args.status or args.watch or args.logs or args.cancel
    if not (views or args.dry_run or args.gather or to_slurm or args.local is not None or args.debug):
        raise ConfigError(
            "say where to train: --profile NAME or --partition NAME (Slurm) or --local [N]; --dry-run shows the plan"
        )
    if args.profile and (args.local is not None or args.debug):
        raise ConfigError("--profile: for Slurm; it can't be combined with --local or --debug")
    for option, value in (("--sbatch", args.sbatch), ("--max-parallel", args.max_parallel)):
        if value and not to_slurm:
            raise ConfigError(f"{option}: needs --partition or --profile; without them nothing is submitted")
    for text in args.sbatch:
        parse_sbatch_option(text)


def _check_view_options(args: argparse.Namespace) -> None:
    """Refuse options that do nothing without another one."""
    shows_status = args.status or args.watch
    for option, value, others, fits in (
        ("--cells", args.cells, "--status, --watch or --debug", shows_status or args.debug),
        ("--all", args.all, "--status or --watch", shows_status),
        ("--json", args.json, "--status", args.status),
        ("--stuck", args.stuck is not None, "--status or --watch", shows_status),
        ("--follow", args.follow, "--logs", args.logs),
    ):
        if value and not fits:
            raise ConfigError(f"{option}: needs {others}")


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that the command line states, by key=value and by --shards and --out, for every cell.

    They win over the grid's. ConfigError where an option and key=value contradict each other.
    """
    settings = yaml_config.with_option(yaml_config.parse(args.overrides), "runtime.shards", "--shards", args.shards)
    return yaml_config.with_option(settings, "runtime.output_dir", "--out", args.out)


def _output_dir(grid: Path) -> str:
    """Return the folder of all runs that a grid's file states; the default where there is none."""
    stated = grids.output_dir(grids.load_grid(grid), str(grid)) if grid.is_file() else None
    return stated or RuntimeConfig().output_dir


def _grid_file(text: str, needs_file: bool) -> Path:
    """Return the path of a grid: a file of the user's, or one that ships, by its name or by its path in a checkout.

    A grid that is only looked at is known by its name: its file may be gone.
    """
    path, shipped = Path(text).expanduser(), yaml_config.names(GRIDS)
    if path.is_file():
        return path
    if text in shipped or (str(path.parent) == GRIDS and path.stem in shipped):
        return yaml_config.resource(GRIDS) / f"{path.stem}.yaml"
    if needs_file and path.suffix != ".yaml":
        raise ConfigError(unknown(f"--grid {text}", text, shipped) + "; or the path of your own, FILE.yaml")
    return path


def _cell_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of cells is expected, not {text!r}")
    return int(text)


def _local_count(text: str) -> int:
    """Return the N of --local, which takes the word after it for N."""
    try:
        return _cell_count(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; put key=value before --local") from None


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"a number of minutes is expected, not {text!r}")
    return minutes
