"""The launcher where it submits: show what would be submitted, ask, and hand it over. Twice at once is safe."""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from clef import console
from clef.console import agreed, err, out
from clef.errors import SetupError
from clef.results.gather import gather_grid
from clef.results.rows import write_plan
from launch import ledger, queued, show
from launch.ledger import Submission
from launch.profiles import Site
from launch.propose import Proposal
from launch.submit import Sent, Slurm


def check() -> None:
    """SetupError on a machine without Slurm."""
    for name in ("sbatch", "squeue"):
        if not shutil.which(name):
            raise SetupError(
                f"no Slurm on this machine ({name} is not on the PATH); to train here instead, say --local"
            )


def run(look: Callable[[], Proposal], site: Site, args: argparse.Namespace) -> Proposal | None:
    """Submit what `look` finds missing. Returns what was found; None when the user said no.

    The question is asked before the ledger is held, so that nobody waits for an answer; what has changed meanwhile is
    looked at once more, and nothing is submitted that wasn't shown.
    """
    grid = Path(args.out) / args.grid.stem
    shown = None
    if not args.yes:
        shown = look()
        show.plan(shown.plan, shown, site)
        if not shown.empty and not agreed(_question(shown), "nothing submitted"):
            return None
    with ledger.held(grid, lambda: err.print("another launcher is submitting this grid; waiting for it")):
        if left := queued.leftover(grid):
            _tell(queued.settle(grid, left))
        found = look()
        if shown is None:
            show.plan(found.plan, found, site)
        else:
            found = _still(found, shown)
        try:
            _submit(found, Slurm(grid, site, found.queued, [cell.config for cell in found.plan.cells]), args)
        except OSError as error:
            error.filename = error.filename or str(grid)  # a full disk doesn't say which it is
            raise
    return found


def _still(found: Proposal, shown: Proposal) -> Proposal:
    """What is left of it when only what has been shown may be submitted."""
    left = found.within(shown)
    if gone := len(shown.batch.cells) - len(left.batch.cells):
        err.print(f"{gone} of the cells shown are no longer to be submitted: another launcher was at work")
    return left


def _question(proposal: Proposal) -> str:
    cells, names = len(proposal.batch.cells), " and ".join(made.name for made in proposal.sets)
    folders = {made.folder for made in proposal.sets}
    behind = sum(cell.config.shards.resolve() in folders for cell in proposal.plan.cells)
    submit = f"Submit {console.cells(cells)}"
    if not names:
        return f"{submit}?"
    return f"{submit}, and shard {names} for {behind} more?" if cells else f"Shard {names}, with {behind} cells behind?"


def _submit(found: Proposal, slurm: Slurm, args: argparse.Namespace) -> None:
    """Hand it over, and a gather job behind what Slurm has then. SetupError when sbatch refuses something."""
    path = write_plan(Path(args.out), found.plan.name, [cell.as_run() for cell in found.plan.cells])
    refusal = None
    try:
        slurm.cells(found.batch)
        for made in found.sets:
            slurm.shards(made, [*(text for text in sys.argv[1:] if text != "--yes"), "--yes"])
    except SetupError as error:
        refusal = error
    except (KeyboardInterrupt, OSError):
        _report(slurm.sent, found)
        raise
    try:
        slurm.tables(path, Path(args.results).resolve())
    except SetupError as error:
        refusal = refusal or error
    _report(slurm.sent, found)
    if slurm.sent.gather:
        where = Path(args.results) / found.plan.name
        out.print(f"gather job {slurm.sent.gather} writes the tables to {where} when they have ended",
                  markup=False, soft_wrap=True)  # fmt: skip
    if refusal:
        raise refusal
    if found.empty:
        show.nothing(found.plan)
        gather_grid(path, args.results)


def _report(sent: Sent, found: Proposal) -> None:
    """What Slurm has taken, in so many words when it is not all."""
    total = len(found.batch.cells)
    if sent.arrays:
        kind = "array" if len(sent.arrays) == 1 else "arrays"
        cells = console.cells(total)
        count, rest = (f"{sent.cells} of {cells}", "; run it again for the rest") if sent.cells < total else (cells, "")
        jobs = ", ".join(sent.arrays)
        out.print(f"submitted {count} as {len(sent.arrays)} job {kind}: {jobs}{rest}", soft_wrap=True)
    for name, (sharding, launch) in sent.sets.items():
        out.print(
            f"job {sharding} makes the shards of {name}; job {launch} behind it submits the cells", soft_wrap=True
        )


def _tell(settled: list[Submission]) -> None:
    """What became of what a launcher left that died."""
    for entry in settled:
        what = console.cells(len(entry.cells)) if entry.kind == "cells" else f"a job of kind {entry.kind}"
        fate = f"Slurm has that as job {entry.job}" if entry.job else "Slurm never got that"
        err.print(f"a launcher died while it submitted {what} ({entry.by}): {fate}", markup=False, soft_wrap=True)
