"""`python -m clef.audit CELL ...`: how far predictions depend on the context, and what debiasing changes.

CELL is a cell's folder, its NAME-SIGNATURE below runs/, a part of that which only one cell has, or a grid's folder. Of
a grid, all finished cells of its plan are audited. For example

  python -m clef.audit caer_s_demo-emot_net-clef
  python -m clef.audit runs/debiasing                      every finished cell of a grid, and a table that compares them

The audit measures effects (TE, NDE, TIE), how often TIE decides otherwise and which way, the subject and the context
alone, contexts swapped between people, and people whose context is typical or atypical of their label. docs/audit.md
says what each number means. The numbers are printed, and written to audit.json in the cell's folder. If the same audit
is there already, it is read.
"""

import argparse
from pathlib import Path
from typing import Any

from clef.audit import report
from clef.cells import lookup, records
from clef.cells.plan_file import plan_path, read_plan
from clef.console import Progress, ProgressBars
from clef.errors import ClefError, ConfigError, argument_parser, combine_errors, run_command


def main() -> int:
    """Audit the cells and print the tables. Returns the exit code."""
    args = _arguments()
    folders = list(dict.fromkeys(folder for wanted in args.cell for folder in _cell_folders(wanted)))
    from clef.audit.run import AuditSettings, audit_cell  # not at the top: --help must not wait for torch

    settings = AuditSettings(args.draws, args.seed, tuple(args.split))
    audits, failed = [], {}
    for number, folder in enumerate(folders, 1):
        label = f"{number}/{len(folders)} " if len(folders) > 1 else ""
        try:
            with ProgressBars("predictions") as show:
                audits.append(audit_cell(folder, settings, _runtime(args), args.again, _with_label(show, label)))
        except ClefError as error:
            if len(folders) == 1:
                raise
            failed[folder.name] = error  # one cell stops no other
    report.print_audits(audits)
    if failed:
        raise combine_errors(failed)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argument_parser("python -m clef.audit", __doc__)
    parser.add_argument("cell", type="path", metavar="CELL", nargs="+", help="a cell, or a grid's folder")
    parser.add_argument(
        "--split", action="append", default=[], help="a split of the shards; may be repeated (default: the test splits)"
    )
    parser.add_argument("--draws", type=int, default=5, help="how often contexts are swapped (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of those draws (default: 0)")
    parser.add_argument(
        "--shards", type="path", metavar="FOLDER", help="where the shards are now (default: as in training)"
    )
    parser.add_argument("--workers", type=int, help="loader processes (default: as in training)")
    parser.add_argument("--device", choices=["auto", "cpu"], help="default: as in training")
    parser.add_argument("--again", action="store_true", help="compute existing audits again, too")
    args = parser.parse_args()
    for name, least in (("draws", 1), ("seed", 0), ("workers", 0)):
        if (value := getattr(args, name)) is not None and value < least:
            raise ConfigError(f"--{name} {value}: {least} or more are expected")
    return args


def _runtime(args: argparse.Namespace) -> dict[str, Any]:
    """Return the `runtime` settings that the command line overrides."""
    stated = {"shards": args.shards, "num_workers": args.workers, "device": args.device}
    return {name: value for name, value in stated.items() if value is not None}


def _with_label(progress: Progress, label: str) -> Progress:
    """Return a progress callback that puts `label` in front of each name."""
    return lambda name, done, total: progress(f"{label}{name}", done, total)


def _cell_folders(wanted: str) -> list[Path]:
    """Return the folder of the cell `wanted`, or those of the finished cells where it is a grid's folder."""
    path = Path(wanted)
    is_grid = plan_path(path.parent, path.name).exists() or any(path.glob(f"*/{records.CONFIG}"))
    if path.is_dir() and is_grid and not (path / records.CONFIG).is_file():
        if finished := sorted(cell.resolve() for cell in _grid_cells(path) if (cell / records.RESULT).exists()):
            return finished
        raise ConfigError(f"{wanted}: no cell of this grid is done yet")
    return [lookup.find_cell(wanted)]


def _grid_cells(grid: Path) -> list[Path]:
    """Return the cells of the grid's plan; of a grid without a plan, all that have a result.

    When a grid was changed, cells that are no longer in its plan stay in the folder. They are left out.
    """
    plan = plan_path(grid.parent, grid.name)
    if plan.exists():
        return [grid / run.folder for run in read_plan(plan)[1] if run.folder]
    return [result.parent for result in grid.glob(f"*/{records.RESULT}")]


if __name__ == "__main__":
    run_command(main)
