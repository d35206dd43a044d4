"""`python -m clef.audit CELL ...`: what a trained cell's predictions owe to the context, and what debiasing changes.

CELL is a cell's folder, its NAME-SIGNATURE below runs/, a part of that which only one cell has, or a grid's folder, of
which all finished cells are audited that its plan lists. For example

  python -m clef.audit caer_s_demo-emot_net-clef
  python -m clef.audit runs/audit                          every finished cell of a grid, and what compares them

Effects (TE, NDE, TIE), how often TIE decides otherwise and which way, subject and context alone, contexts swapped
between people, and people whose context is typical or atypical of their label. docs/audit.md says what each number
means. They are printed, and written to audit.json in the cell's folder; an audit that is there already is read.
"""

import argparse
from pathlib import Path
from typing import Any

from clef.audit import report
from clef.cells import lookup, records
from clef.console import Progress, Steps
from clef.errors import ClefError, ConfigError, argument_parser, joined, run_command
from clef.results.frame import plan_path, read_plan


def main() -> int:
    """The command."""
    args = _arguments()
    folders = list(dict.fromkeys(folder for cell in args.cell for folder in _folders(cell)))
    from clef.audit.run import Settings, audit  # not before: --help need not wait for torch

    settings = Settings(args.draws, args.seed, tuple(args.split))
    made, failed = [], {}
    for number, folder in enumerate(folders, 1):
        label = f"{number}/{len(folders)} " if len(folders) > 1 else ""
        try:
            with Steps("predictions") as show:
                made.append(audit(folder, settings, _runtime(args), args.again, _labelled(show, label)))
        except ClefError as error:
            if len(folders) == 1:
                raise
            failed[folder.name] = error  # the others can be audited nevertheless
    report.show(made)
    if failed:
        raise joined(failed)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argument_parser("python -m clef.audit", __doc__)
    parser.add_argument("cell", metavar="CELL", nargs="+", help="a cell, or a grid's folder")
    parser.add_argument(
        "--split", action="append", default=[], help="a split of its shards; may be repeated (default: the test splits)"
    )
    parser.add_argument("--draws", type=int, default=5, help="how often contexts are swapped (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of those draws (default: 0)")
    parser.add_argument("--shards", metavar="FOLDER", help="where the shards are now (default: as in training)")
    parser.add_argument("--workers", type=int, help="loader processes (default: as in training)")
    parser.add_argument("--device", choices=["auto", "cpu"], help="default: as in training")
    parser.add_argument("--again", action="store_true", help="compute what is there already, too")
    args = parser.parse_args()
    for name, least in (("draws", 1), ("seed", 0), ("workers", 0)):
        if (value := getattr(args, name)) is not None and value < least:
            raise ConfigError(f"--{name} {value}: {least} or more are expected")
    return args


def _runtime(args: argparse.Namespace) -> dict[str, Any]:
    stated = {name: getattr(args, name) for name in ("shards", "workers", "device")}
    return {name: value for name, value in stated.items() if value is not None}


def _labelled(show: Progress, label: str) -> Progress:
    return lambda name, done, total: show(f"{label}{name}", done, total)


def _folders(wanted: str) -> list[Path]:
    """The cell that is called so, or the finished ones in a grid's folder."""
    path = Path(wanted)
    grid = plan_path(path.parent, path.name).exists() or any(path.glob(f"*/{records.CONFIG}"))
    if path.is_dir() and grid and not (path / records.CONFIG).is_file():
        if found := sorted(cell.resolve() for cell in _cells(path) if (cell / records.RESULT).exists()):
            return found
        raise ConfigError(f"{wanted}: no cell of this grid is done yet")
    return [lookup.find_cell(wanted)]


def _cells(grid: Path) -> list[Path]:
    """Those of its plan alone, where it has one: a grid that was changed leaves the cells of before behind."""
    plan = plan_path(grid.parent, grid.name)
    if plan.exists():
        return [grid / run.folder for run in read_plan(plan)[1] if run.folder]
    return [result.parent for result in grid.glob(f"*/{records.RESULT}")]


if __name__ == "__main__":
    run_command(main)
