"""`python -m clef.features`: the features of frozen encoders, computed once, ahead of the cells that train on them.

  python -m clef.features --grid configs/grids/encoders.yaml             compute what the grid's cells need and lack
  python -m clef.features --grid configs/grids/encoders.yaml --dry-run   list it
  python -m clef.features --grid configs/grids/encoders.yaml --verify    read every byte; fails if any is missing
  python -m clef.features --grid ... runtime.features=/scratch/features  settings as launch/grid.py takes them

A cell computes what it lacks by itself while others wait; this does it beforehand, on all GPUs of the machine.
A computation that is interrupted goes on where it was when the command, or a cell, wants the table again.
"""

import argparse
import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from clef.cells.feature_tables import FeatureTable, needed_tables
from clef.config import CellConfig
from clef.config import grid as grids
from clef.console import ProgressBars, out
from clef.errors import SetupError, argument_parser, combine_errors, run_command
from clef.yaml_config import parse, with_option

Needed = tuple[FeatureTable, CellConfig, int]
STYLES = {"here": "green", "whole": "green", "partial": "yellow", "missing": "yellow", "damaged": "red"}


def main() -> int:
    """List the tables of features that a grid's cells need; compute or verify them."""
    args = _arguments()
    settings = with_option(parse(args.overrides), "runtime.features", "--folder", args.folder)
    needed = list(needed_tables(grids.resolve_cells(grids.load_grid(args.grid), str(args.grid), settings)).values())
    if not needed:
        out.print("no cell of this grid has a frozen encoder whose features can be kept, or its shards are not there")
        return 0
    damaged = _damaged([table for table, _, _ in needed if table.state == "here"]) if args.verify else {}
    if not (args.dry_run or args.verify):
        _compute([(table, config) for table, config, _ in needed if table.state != "here"])
    _print_tables(needed, args.verify, damaged)
    if damaged:
        raise combine_errors({str(path): error for path, error in damaged.items()})
    if args.verify and (lacking := sum(table.state != "here" for table, _, _ in needed)):
        raise SetupError(
            f"{lacking} of {len(needed)} tables are missing; the same command without --verify computes them"
        )
    return 0


def _arguments() -> argparse.Namespace:
    parser = argument_parser("python -m clef.features", __doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings for every cell")
    parser.add_argument("--grid", type=Path, required=True, help="the grid's YAML file")
    parser.add_argument("--folder", help="where the tables lie (default: the cells' own runtime.features)")
    parser.add_argument("--dry-run", action="store_true", help="compute nothing, only list")
    parser.add_argument(
        "--verify", action="store_true", help="compute nothing, read every byte; fails if a table is damaged or missing"
    )
    return parser.parse_intermixed_args()


# ---- Listing ----


def _damaged(tables: Sequence[FeatureTable]) -> dict[Path, SetupError]:
    faults = {}
    with ProgressBars("tables") as progress:
        for number, table in enumerate(tables, 1):
            try:
                table.check()
            except SetupError as error:
                faults[table.path] = error
            progress("read", number, len(tables))
    return faults


def _print_tables(needed: Sequence[Needed], verified: bool, damaged: dict[Path, SetupError]) -> None:
    listing = Table()
    for column in ("encoder", "input", "set", "rows", "size", "cells", "state"):
        listing.add_column(column, justify="right" if column in ("rows", "size", "cells") else "left", overflow="fold")
    for table, _, cells in needed:
        state = "damaged" if table.path in damaged else table.state
        state = "whole" if verified and state == "here" else state
        size = f"{table.path.stat().st_size / 1e6:,.1f} MB" if table.path.exists() else ""
        split = f"{table.path.name.partition(f'-{table.split}-')[0]} {table.split}"
        listing.add_row(
            escape(table.frozen.encoder.network), table.frozen.input + (", mirrored" if table.mirrored else ""),
            escape(split), f"{table.rows:,}", size, f"{cells:,}", f"[{STYLES[state]}]{state}[/]",
        )  # fmt: skip
    out.print(f"features in {needed[0][0].path.parent}:", markup=False, soft_wrap=True)
    out.print(listing)
    if not verified and (lacking := sum(table.state != "here" for table, _, _ in needed)):
        out.print(f"{lacking} of {len(needed)} tables are missing; the same command without --dry-run computes them")


# ---- Computing ----


def _compute(tables: Sequence[tuple[FeatureTable, CellConfig]]) -> None:
    """Compute tables, on each GPU a part of them, or on the CPU."""
    if not tables:
        return
    import torch

    gpus = torch.cuda.device_count() if tables[0][1].runtime.device != "cpu" else 0
    parts = [tables[start :: max(1, gpus)] for start in range(max(1, gpus))]
    if gpus < 2:
        with ProgressBars("people") as progress:
            _compute_part(parts[0], "cuda" if gpus else "cpu", progress)
        return
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_compute_quietly, args=(part, f"cuda:{number}"))
        for number, part in enumerate(parts)
        if part
    ]
    with ExitStack() as stack, ProgressBars("tables") as progress:
        for worker in workers:
            worker.start()
            stack.callback(worker.terminate)
        while any(worker.is_alive() for worker in workers):
            progress("computed", sum(table.path.exists() for table, _ in tables), len(tables))
            workers[0].join(1.0)
            for worker in workers:
                worker.join(0.2)
    if failed := [worker for worker in workers if worker.exitcode]:
        raise SetupError(f"{len(failed)} of {len(workers)} processes failed, one a GPU; their errors are above")


def _compute_quietly(tables: Sequence[tuple[FeatureTable, CellConfig]], device: str) -> None:
    run_command(lambda: _compute_part(tables, device, lambda *_: None))


def _compute_part(
    tables: Sequence[tuple[FeatureTable, CellConfig]], device: str, progress: Callable[[str, int, int], Any]
) -> None:
    import torch

    from clef import signals
    from clef.engine.feature_cache import compute_tables

    def bar(table: FeatureTable) -> Callable[[int, int], Any]:
        name = f"{table.frozen.encoder.network} {table.frozen.input} {table.path.name.split('-')[0]} {table.split}"
        name += " mirrored" if table.mirrored else ""
        return lambda done, total: progress(name, done, total)

    with signals.handling(60.0, on_forced_exit=lambda _: None):
        compute_tables(tables, torch.device(device), bar)


if __name__ == "__main__":
    run_command(main)
