"""`python -m clef.report`: make the tables, figures and page of grids from what their cells have written so far.

For each grid, its long form (rows.csv and others), all tables (tables.md, tables.csv, tables.tex), the figures (PNG and
PDF) and one page with all of it (report.html) are written to results/<grid>/. For example

  python -m clef.report                     every grid that has a plan below runs/
  python -m clef.report paper --all         one grid, and print all of its tables, not only the main ones
  python -m clef.report paper --from-rows   from the long form alone, where the cells are not: the same bytes
  python -m clef.report --compare old new   two gathered grids side by side: the headline of every method
"""

import argparse
from pathlib import Path

from clef.config import RuntimeConfig
from clef.errors import CellError, ClefError, ConfigError, argument_parser, combine_errors, run_command


def main() -> int:
    """Run the command."""
    args = _arguments()
    if args.compare:
        return _compare(args.results, *args.compare)
    failed: dict[str, ClefError] = {}
    for grid in args.grids or _planned(args.runs):
        try:
            _build(grid, args)
        except ClefError as error:  # the other grids can still be built
            failed[grid] = error
    if failed:
        raise combine_errors(failed)
    return 0


def _build(grid: str, args: argparse.Namespace) -> None:
    """Write a grid's numbers, tables, figures and page."""
    from clef.cells.plan_file import plan_path
    from clef.results import frame, gather  # slow to import

    folder = args.results / grid
    if args.from_rows:
        gathered = frame.load(folder)
        gather.publish_tables(folder, gathered, args.all)
    else:
        gathered = gather.gather_grid(plan_path(args.runs, grid), args.results, args.all)
    gather.publish_page(folder, gathered, None if args.from_rows else args.runs / grid, args.images)


def _compare(results: Path, first: str, second: str) -> int:
    """Print two grids side by side, and write the tables as Markdown."""
    from clef import console, io
    from clef.results import formats, frame, gather

    tables = gather.side_by_side(frame.load(results / first), frame.load(results / second))
    gather.print_tables(tables)
    path = results / first / f"beside-{second}.md"
    io.write(path, formats.to_markdown(tables, first, second))
    console.out.print(f"written to {path}", markup=False, soft_wrap=True)
    return 0


def _planned(runs: Path) -> list[str]:
    """Return the names of all grids with a plan. Raises CellError where there is none."""
    grids = sorted(path.parent.name for path in runs.glob("*/plan.json"))
    if not grids:
        raise CellError(f"{runs}: no grid has a plan here; run one first (launch/grid.py), or add --runs FOLDER")
    return grids


def _arguments() -> argparse.Namespace:
    parser = argument_parser("python -m clef.report", __doc__)
    parser.add_argument("grids", metavar="GRID", nargs="*", help="names of grids (default: all that have a plan)")
    runs = Path(RuntimeConfig().output_dir)
    parser.add_argument("--runs", type=Path, default=runs, metavar="FOLDER", help=f"where cells are (default: {runs})")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="FOLDER", help="where to write (default: results)"
    )
    parser.add_argument("--all", action="store_true", help="print all tables")
    parser.add_argument("--from-rows", action="store_true", help="read no cells: only the long form in results")
    parser.add_argument(
        "--images",
        action=argparse.BooleanOptionalAction,
        help="show people of the datasets as examples (default: only of the demo sets, which may be shared); "
        "with --from-rows, the examples that were drawn before",
    )
    parser.add_argument(
        "--compare", nargs=2, metavar=("GRID_A", "GRID_B"), help="show two gathered grids side by side instead"
    )
    args = parser.parse_args()
    if args.compare and (args.grids or args.from_rows):
        raise ConfigError("--compare: takes two grids, and can't be combined with others or with --from-rows")
    if args.from_rows and not args.grids:
        raise ConfigError("--from-rows: say which grids")
    return args


if __name__ == "__main__":
    run_command(main)
