"""Hands cells to Slurm: arrays, cells behind the one they start from, shards to make first, a gather job.

The launcher where it submits: show what would be submitted, ask, and hand it over. Twice at once is safe.
"""

import argparse
import itertools
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import submitit
from submitit.core.utils import CommandFunction

from clef import console
from clef.config import CellConfig, ResourcesConfig
from clef.console import Steps, agreed, err, out
from clef.engine.slurm_task import TrainCell, gather
from clef.errors import SetupError
from clef.results.frame import write_plan
from clef.results.gather import gather_grid
from launch import code_snapshot, ledger, plan_table, slurm_commands
from launch.ledger import Queued, Submission, settle
from launch.plan import MissingSet, PlannedCell, cell_folder, prepare_cell
from launch.profiles import Site
from launch.proposal import Batch, Proposal
from launch.slurm_commands import Work, array_of

SMALL = ResourcesConfig(gpus=0, cpus=1, memory_gb=4, hours=1)
"""What the gather job asks for, and the job that runs the launcher again."""


@dataclass
class Sent:
    """What Slurm has taken so far."""

    arrays: list[str] = field(default_factory=list)
    """Jobs that train cells."""
    cells: int = 0
    sets: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By the set's name: the job that makes its shards, and the one behind it."""
    gather: str | None = None


class Slurm:
    """Submits what belongs to one grid. Whoever uses it holds the grid's ledger."""

    def __init__(self, grid: Path, site: Site, queued: Queued, configs: list[CellConfig]) -> None:
        self.grid, self.site, self.queued, self.configs = grid, site, queued, configs
        self.jobs = dict(queued.cells)
        self.sent = Sent()

    @cached_property
    def code(self) -> Path:
        """The snapshot that the jobs run from."""
        return code_snapshot.take(self.grid, self.configs)

    def cells(self, batch: Batch) -> None:
        """Submit the arrays, and then the cells behind others. SetupError when sbatch refuses one: the rest is left."""
        count = itertools.count(1)
        with Steps("cells") as progress:

            def ready(cell: PlannedCell) -> Work:
                work = TrainCell(), (prepare_cell(cell, cell.config.resources.cpus, self.site.profile.scratch),)
                progress("prepared", next(count), len(batch.cells))
                return work

            for array in batch.arrays:
                work = [ready(cell) for cell in array.cells]
                self._send("cells", array.shape, work, array.cells, at_once=array.at_once)
            for cell in batch.behind:  # once the one it starts from has ended well; Slurm drops it when that one fails
                assert cell.parent is not None
                parent = self.jobs[cell.parent.name]
                self._send("cells", cell.config.resources, [ready(cell)], [cell], after=[parent])

    def shards(self, made: MissingSet, again: list[str]) -> None:
        """Submit a job that makes a set, and one behind it that runs the launcher with the arguments `again`.

        The cells can't be submitted yet: which cells they are depends on the shards' content.
        """
        key = str(made.folder)
        sharding, launch = self.queued.shards.get(key), self.queued.launches.get(key)
        if not sharding:
            shape = self.site.profile.sharding.shape
            work: Work = (CommandFunction(made.command(shape.cpus), cwd=str(self.code)), ())
            sharding = str(self._send("shards", shape, [work], shards=key).job)
            launch = None  # one that is still there waits for another job
        if not launch:
            launcher = CommandFunction([sys.executable, str(self.code / "launch/grid.py"), *again], cwd=str(Path.cwd()))
            launch = str(self._send("launch", SMALL, [(launcher, ())], after=[sharding], shards=key).job)
        self.sent.sets[made.name] = (sharding, launch)

    def tables(self, plan: Path, results: Path) -> None:
        """Submit a gather job behind all cells of the grid that wait or run, unless they all have one."""
        arrays = sorted({array_of(job) for job in self.jobs.values()}, key=int)
        if set(arrays) - self.queued.gathered:
            work: Work = (gather, (str(plan.resolve()), str(results)))
            self.sent.gather = self._send("gather", SMALL, [work], after=arrays, ended="any").job

    def _note(self, submission: Submission) -> None:
        if submission.kind == "cells":
            self.jobs |= submission.jobs()
            self.sent.arrays.append(str(submission.job))
            self.sent.cells += len(submission.cells)

    def _send(
        self,
        kind: ledger.Kind,
        shape: ResourcesConfig,
        work: list[Work],
        cells: Sequence[PlannedCell] = (),
        after: Sequence[str] = (),
        shards: str | None = None,
        at_once: int | None = None,
        ended: str = "ok",
    ) -> Submission:
        """One call of sbatch, noted before and after. What it needs on disk is there before the first note."""
        names = [cell_folder(cell).name for cell in cells]
        entry = ledger.new(self.grid, kind, names, array=len(work) > 1, after=list(after), shards=shards)
        executor = _executor(ledger.folder(self.grid, entry), self.site, shape, code_snapshot.python(self.code))
        executor.update_parameters(job_name=entry.tag, array_parallelism=at_once or len(work))
        executor.parameters["additional_parameters"] = {"requeue": True} | _behind(
            self.site.options(shape), after, ended
        )
        script = slurm_commands.write(executor, work, entry.array)
        with slurm_commands.undisturbed():
            ledger.begin(self.grid, entry)
            answered = self._answer(entry, lambda: slurm_commands.send(script))
            self._note(answered)
            return answered

    def _answer(self, entry: Submission, send: Callable[[], str]) -> Submission:
        """Note the job that sbatch gives. SetupError when there is none, or none that can be noted."""
        try:
            job = send()
        except SetupError as refusal:
            # It may be a job all the same: a controller that is too slow for sbatch may have taken it.
            try:
                [settled] = settle(self.grid, [entry])
            except SetupError:
                again = "run this again: it finds out whether Slurm has the job"
                raise SetupError(f"sbatch: {refusal}; {again}") from None
            if settled.dropped:
                raise SetupError(f"sbatch refused a job: {refusal}") from None
            return settled
        try:
            return ledger.complete(self.grid, entry, job)
        except OSError as error:
            raise SetupError(
                f"job {job} is submitted, but {self.grid / ledger.FOLDER} can't be written: {error.strerror}; mend "
                f"that, and run this again: it finds the job by its name"
            ) from None


def _behind(options: dict[str, str | bool], after: Sequence[str], ended: str) -> dict[str, str | bool]:
    """The options with a dependency, besides what the user waits for."""
    if not after:
        return options
    stated = [str(options["dependency"])] if "dependency" in options else []
    options = options | {"dependency": ",".join([*stated, ":".join([f"after{ended}", *after])])}
    return options | {"kill_on_invalid_dep": "yes"} if ended == "ok" else options


def _executor(folder: Path, site: Site, shape: ResourcesConfig, python: str) -> submitit.SlurmExecutor:
    try:
        executor = submitit.SlurmExecutor(folder=folder, python=python)
    except RuntimeError as error:
        raise SetupError(f"{error}; is sbatch on this machine's PATH?") from None
    # srun no longer takes the CPUs from sbatch (from 22.05 on), and a rank that died must not be waited for.
    srun = [f"--cpus-per-task={shape.cpus}", "--kill-on-bad-exit=1"]
    executor.update_parameters(
        time=math.ceil(shape.hours * 60),
        mem=f"{shape.memory_gb}GB",
        cpus_per_task=shape.cpus,
        ntasks_per_node=max(1, shape.gpus),
        nodes=shape.nodes,
        srun_args=srun,
        setup=[*site.profile.setup, *(_gpu_setup(shape.gpus) if shape.gpus else [])],
    )
    return executor


def _gpu_setup(gpus: int) -> list[str]:
    # Asked for by task, srun shows each rank one GPU alone; but a rank finds its own, by local rank, among all.
    return ["unset SLURM_GPUS_PER_TASK SLURM_TRES_PER_TASK", f"export CLEF_GPUS_PER_NODE={gpus}"]


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
        plan_table.plan(shown.plan, shown, site)
        if not shown.empty and not agreed(_question(shown), "nothing submitted"):
            return None
    with ledger.held(grid, lambda: err.print("another launcher is submitting this grid; waiting for it")):
        if left := ledger.leftover(grid):
            _tell(ledger.settle(grid, left))
        found = look()
        if shown is None:
            plan_table.plan(found.plan, found, site)
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
        plan_table.nothing(found.plan)
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
