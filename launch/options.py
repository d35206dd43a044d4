"""The launcher's command line."""

import argparse
from pathlib import Path

from clef.errors import ConfigError, argument_parser


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
        type=_count,
        metavar="N",
        help="train here, N cells at a time (default: one a core, or a GPU)",
    )
    parser.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="key[=value]",
        help="a further sbatch option, such as account=lab or exclusive (repeatable)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and leave")
    parser.add_argument("--gather", action="store_true", help="rebuild the tables from disk and leave")
    parser.add_argument("--shards", default="shards", help="where the shards lie (default: shards)")
    parser.add_argument("--out", default="runs", help="where cells are written (default: runs)")
    parser.add_argument("--results", default="results", help="where tables are written (default: results)")
    args = parser.parse_intermixed_args()
    if not (args.dry_run or args.gather or args.partition or args.local is not None):
        raise ConfigError("say where to train: --partition NAME (Slurm) or --local [N]; or look first: --dry-run")
    if args.sbatch and not args.partition:
        raise ConfigError("--sbatch: goes with --partition; without it nothing is submitted")
    for text in args.sbatch:
        sbatch_option(text)
    return args


def _count(text: str) -> int:
    """N of --local, which takes the word behind it for N."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of cells is expected, not {text!r}; key=value goes before --local")
    return int(text)


def sbatch_option(text: str) -> tuple[str, str | bool]:
    """An sbatch option, named as submitit names those it sets itself, so that the user's replaces its own."""
    key, equals, value = str(text).partition("=")
    key = key.lstrip("-").replace("-", "_")
    if not key.isidentifier():
        raise ConfigError(f"--sbatch {text!s}: key=value or key is expected, such as account=lab or exclusive")
    return key, value if equals else True
