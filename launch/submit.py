"""Submits a grid to Slurm: arrays of cells, cells after the one they start from, shards to make first, a gather job.

`submit_grid` shows the proposal, asks, and hands it over. Two launchers at once are safe: only one holds the grid's
lock, and it makes the proposal again. `Submitter._submit_job` is the one place where sbatch is called: everything that
the job needs is on disk before, and the ledger is written before and after.
"""

import argparse
import itertools
import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import submitit
from submitit.core.utils import CommandFunction

from clef import console
from clef.cells.feature_tables import needed_tables
from clef.cells.plan_file import write_plan
from clef.config import CellConfig, ResourcesConfig
from clef.console import ProgressBars, confirm, err, out
from clef.engine.slurm_task import TrainCells, compute_features
from clef.errors import SetupError
from clef.results.job import gather_job
from launch import code_snapshot, ledger, plan_table, slurm_commands
from launch.ledger import ActiveJobs, Submission
from launch.plan import MissingShards, PlannedCell, cell_folder, prepare_cell
from launch.profiles import Site
from launch.proposal import CellJobs, JobArray, Proposal
from launch.sbatch_options import sbatch_environment, with_dependency
from launch.slurm_commands import JobLimitReached, Work, array_of

SMALL_JOB = ResourcesConfig(gpus=0, cpus=1, memory_gb=4, hours=1)
"""The resources of the gather job, and of the job that runs the launcher again."""


# ---- a grid: show, ask, submit ----


def check_slurm() -> None:
    """Raise SetupError on a machine without Slurm."""
    for name in ("sbatch", "squeue"):
        if not shutil.which(name):
            raise SetupError(
                f"no Slurm on this machine ({name} is not on the PATH); to train here instead, use --local"
            )


def submit_grid(propose: Callable[..., Proposal], site: Site, args: argparse.Namespace) -> Proposal | None:
    """Submit what `propose` (`make_proposal` of this grid) finds missing. Returns that; None when the user said no.

    The question is asked before the lock is taken, so that nobody waits for an answer. What has changed meanwhile is
    looked at again, and nothing is submitted that wasn't shown.
    """
    grid = Path(args.out) / args.grid.stem
    slurm_commands.check_log_folder(grid)
    shown = None
    if not args.yes:
        shown = propose(dry=True)
        plan_table.print_plan(shown.plan, shown, site)
        if not shown.is_empty and not confirm(_submit_question(shown), "nothing submitted"):
            return None
    with ledger.lock(grid, lambda: err.print("another launcher is submitting this grid; waiting for it")):
        if unanswered := ledger.unanswered_submissions(grid):
            _report_settled(ledger.settle_submissions(grid, unanswered))
        proposal = propose()
        if shown is None:
            plan_table.print_plan(proposal.plan, proposal, site)
        else:
            proposal = _keep_shown(proposal, shown)
        configs = [cell.config for cell in proposal.plan.cells]
        try:
            _submit_all(proposal, Submitter(grid, site, proposal.active_jobs, configs), args)
        except OSError as error:
            error.filename = error.filename or str(grid)  # a full disk doesn't say which it is
            raise
    return proposal


def _submit_question(proposal: Proposal) -> str:
    cells, names = len(proposal.cell_jobs.cells), " and ".join(shards.name for shards in proposal.shards_to_make)
    folders = {shards.folder for shards in proposal.shards_to_make}
    following = sum(cell.config.shards.resolve() in folders for cell in proposal.plan.cells)
    submit = f"Submit {console.format_cells(cells)}"
    if not names:
        return f"{submit}?"
    if not cells:
        return f"Shard {names} ({console.format_cells(following)} follow)?"
    return f"{submit}, and shard {names} for {following} more?"


def _keep_shown(proposal: Proposal, shown: Proposal) -> Proposal:
    """Return what is left of the proposal when only what has been shown may be submitted, and say what has changed."""
    kept = proposal.restrict_to(shown)
    before, now, left = ({cell.folder for cell in each.cell_jobs.cells} for each in (shown, proposal, kept))
    changed = "another launcher has them, or they or the cells that they start from have ended meanwhile"
    again = "run it again to submit them"
    for count, text in (
        (len(before - now), f"of the cells shown are no longer to be submitted: {changed}"),
        (len(before & now - left), f"of the cells shown start from cells that have ended without a result; {again}"),
        (len(now - before), f"of the cells that were not shown can be submitted now; {again}"),
    ):
        if count:
            err.print(f"{count} {text}", soft_wrap=True)
    return kept


def _submit_all(proposal: Proposal, submitter: "Submitter", args: argparse.Namespace) -> None:
    """Submit the proposal, and a gather job after all that Slurm has then. SetupError when sbatch refuses something."""
    path = write_plan(Path(args.out), proposal.plan.name, [cell.as_run() for cell in proposal.plan.cells], args.grid)
    refusal = None
    try:
        submitter.submit_cells(proposal.cell_jobs)
        for shards in proposal.shards_to_make:
            submitter.submit_sharding(shards, [*(text for text in sys.argv[1:] if text != "--yes"), "--yes"])
    except JobLimitReached as error:
        submitter.submitted.limit = error
    except SetupError as error:
        refusal = error
    except (KeyboardInterrupt, OSError):
        _report_submitted(submitter.submitted, proposal)
        raise
    try:
        submitter.submit_gather(path, Path(args.results).resolve())
    except JobLimitReached as error:
        submitter.submitted.limit = error
    except SetupError as error:
        refusal = refusal or error
    if submitter.submitted.limit and not submitter.jobs:
        raise SetupError(f"{submitter.submitted.limit}; run it again when some of your jobs have ended")
    _report_submitted(submitter.submitted, proposal)
    if submitter.submitted.gather:
        where = Path(args.results) / proposal.plan.name
        text = f"gather job {submitter.submitted.gather} writes the tables to {where} when they have ended"
        out.print(text, markup=False, soft_wrap=True)
    if refusal:
        raise refusal
    if proposal.is_empty:
        plan_table.print_nothing_to_train(proposal.plan)
        from clef.results.gather import gather_grid  # only now: planning and status don't wait for what it imports

        gather_grid(path, args.results)


# ---- what belongs to one grid ----


@dataclass
class SubmittedJobs:
    """What Slurm has taken so far."""

    arrays: list[str] = field(default_factory=list)
    """Jobs that train cells."""
    cells: int = 0
    shards: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By the name of a set of shards: the job that makes it, and the job after it that runs the launcher."""
    features: list[str] = field(default_factory=list)
    """Jobs that compute features before the cells."""
    gather: str | None = None
    limit: JobLimitReached | None = None
    """What sbatch said when the user had as many jobs as allowed."""


class Submitter:
    """Submits the jobs of one grid. The caller must hold the grid's lock."""

    def __init__(self, grid: Path, site: Site, active_jobs: ActiveJobs, configs: list[CellConfig]) -> None:
        self.grid, self.site, self.active_jobs, self.configs = grid, site, active_jobs, configs
        self.jobs = dict(active_jobs.cells)
        self.submitted = SubmittedJobs()

    @cached_property
    def code(self) -> Path:
        """Return the snapshot of the code that the jobs run from."""
        return code_snapshot.take_snapshot(self.grid, self.configs)

    def submit_cells(self, jobs: CellJobs) -> None:
        """Submit the arrays, then the cells that start from others.

        SetupError when sbatch refuses a job: the rest is not submitted.
        """
        count = itertools.count(1)
        with ProgressBars("cells") as progress:

            def prepare(cells: list[PlannedCell]) -> Work:
                folders = []
                for cell in cells:
                    folders.append(prepare_cell(cell, cell.config.resources.cpus, self.site.profile.scratch))
                    progress("prepared", next(count), len(jobs.cells))
                return TrainCells(is_shared=cells[0].config.resources.cells_per_gpu > 1), tuple(folders)

            for array in jobs.arrays:
                work = [prepare(cells) for cells in array.tasks]
                self._submit_array(array, work, after=self._submit_features(array))
            for cell in jobs.dependents:  # once its parent has ended well; Slurm drops it when the parent fails
                assert cell.parent is not None
                parent = self.jobs[cell.parent.name]
                self._submit_job("cells", cell.config.resources, [prepare([cell])], [cell], after=[parent])

    def _submit_features(self, array: JobArray) -> list[str]:
        """Submit a job that computes the features which an array's cells lack, if they take seconds; return it.

        Cells that decode pictures, or have a GPU, compute by themselves what their frozen networks give: the first one
        that needs it. These wait for the job, however it ends: what it has not computed, they compute.
        """
        cells = [cell for cell in array.cells if cell.config.backbone.streams]
        if not cells or array.resources.gpus:
            return []
        folder_of = {id(cell.config): str(cell_folder(cell).resolve()) for cell in cells}
        needed = needed_tables(cell.config for cell in cells).values()
        folders = dict.fromkeys(folder_of[id(config)] for table, config, _ in needed if table.state != "here")
        if not folders:
            return []
        work: Work = (compute_features, tuple(folders))
        job = str(self._submit_job("features", self.site.profile.sharding.resources, [work]).job)
        self.submitted.features.append(job)
        return [job]

    def _submit_array(self, array: JobArray, work: list[Work], after: Sequence[str]) -> None:
        """Submit an array, in shorter ones where the user may not have so many jobs at once.

        JobLimitReached when not a single job more is taken.
        """
        start, size = 0, len(work)
        while start < len(work):
            part = slice(start, start + size)
            # Each part gets its share of the tasks that run at the same time.
            parallel = max(1, array.max_parallel * size // len(work)) if array.max_parallel else None
            try:
                cells = [cell for task in array.tasks[part] for cell in task]
                self._submit_job(
                    "cells", array.resources, work[part], cells, after=after, after_kind="any", max_parallel=parallel
                )
                start += size
                size = min(size, len(work) - start)
            except JobLimitReached:
                if size == 1:
                    raise
                size //= 2

    def submit_sharding(self, shards: MissingShards, launcher_arguments: list[str]) -> None:
        """Submit a job that makes a set of shards, and one after it that runs the launcher with these arguments.

        The cells can't be submitted yet: their signatures depend on the shards' content.
        """
        key = str(shards.folder)
        sharding, launch = self.active_jobs.shards.get(key), self.active_jobs.launches.get(key)
        if not sharding:
            resources = self.site.profile.sharding.resources
            work: Work = (CommandFunction(shards.command(resources.cpus), cwd=str(self.code)), ())
            sharding = str(self._submit_job("shards", resources, [work], shards=key).job)
            launch = None  # a launcher that still waits does so for another job
        if not launch:
            command = [sys.executable, str(self.code / "launch/grid.py"), *launcher_arguments]
            work = (CommandFunction(command, cwd=str(Path.cwd())), ())
            launch = str(self._submit_job("launch", SMALL_JOB, [work], after=[sharding], shards=key).job)
        self.submitted.shards[shards.name] = (sharding, launch)

    def submit_gather(self, plan: Path, results: Path) -> None:
        """Submit a gather job after all cells of the grid that wait or run, unless one waits for all of them."""
        arrays = sorted({array_of(job) for job in self.jobs.values()}, key=int)
        if set(arrays) - self.active_jobs.gathered:
            work: Work = (gather_job, (str(plan.resolve()), str(results)))
            submission = self._submit_job("gather", SMALL_JOB, [work], after=arrays, after_kind="any")
            self.submitted.gather = submission.job

    def _submit_job(
        self,
        kind: ledger.SubmissionKind,
        resources: ResourcesConfig,
        work: list[Work],
        cells: Sequence[PlannedCell] = (),
        after: Sequence[str] = (),
        after_kind: str = "ok",
        shards: str | None = None,
        max_parallel: int | None = None,
    ) -> Submission:
        """Call sbatch once. The ledger is written before and after; what the job needs is on disk before that.

        `work`: what each task runs. `after`: the jobs that it waits for, which must have ended well (`after_kind`
        "ok") or in any way ("any").
        """
        names = [cell_folder(cell).name for cell in cells]
        submission = ledger.new_submission(
            self.grid,
            kind,
            names,
            per_task=resources.cells_per_task,
            array=len(work) > 1,
            after=list(after),
            shards=shards,
        )
        folder = ledger.job_folder(self.grid, submission)
        executor = _make_executor(folder, self.site, resources, code_snapshot.python_command(self.code))
        executor.update_parameters(job_name=submission.tag, array_parallelism=max_parallel or len(work))
        options = self.site.options(resources)
        requeue = "requeue" if options.pop("requeue", True) else "no_requeue"
        executor.parameters["additional_parameters"] = {requeue: True} | with_dependency(options, after, after_kind)
        script = slurm_commands.write_script(executor, work, submission.array)
        environment = sbatch_environment(self.site.kept_variables(resources))
        with slurm_commands.hold_interrupt_back():
            ledger.begin_submission(self.grid, submission)
            submission = self._call_sbatch(submission, script, environment)
            self._count(submission)
            return submission

    def _call_sbatch(self, submission: Submission, script: Path, environment: Mapping[str, str]) -> Submission:
        """Write down the job that sbatch gives. SetupError when there is none, or when it can't be written down."""
        try:
            job = slurm_commands.call_sbatch(script, environment)
        except JobLimitReached as refusal:  # which the controller itself says: it has no such job
            ledger.drop_submission(self.grid, submission)
            shutil.rmtree(script.parent)
            raise JobLimitReached(f"sbatch refused a job: {refusal}") from None
        except SetupError as refusal:
            # It may be a job all the same: a controller that is too slow for sbatch may have taken it.
            try:
                [settled] = ledger.settle_submissions(self.grid, [submission])
            except SetupError:
                again = "run this again: it finds out whether Slurm has the job"
                raise SetupError(f"sbatch: {refusal}; {again}") from None
            if settled.dropped:
                raise SetupError(f"sbatch refused a job: {refusal}") from None
            return settled
        try:
            return ledger.complete_submission(self.grid, submission, job)
        except OSError as error:
            raise SetupError(
                f"job {job} is submitted, but {self.grid / ledger.SUBMISSIONS} can't be written: {error.strerror}; "
                f"fix that, and run this again: it finds the job by its name"
            ) from None

    def _count(self, submission: Submission) -> None:
        if submission.kind == "cells":
            self.jobs |= submission.jobs()
            self.submitted.arrays.append(str(submission.job))
            self.submitted.cells += len(submission.cells)


def _make_executor(folder: Path, site: Site, resources: ResourcesConfig, python: str) -> submitit.SlurmExecutor:
    try:
        executor = submitit.SlurmExecutor(folder=folder, python=python)
    except RuntimeError as error:
        raise SetupError(f"{error}; is sbatch on this machine's PATH?") from None
    # srun no longer takes the CPUs from sbatch (from 22.05 on). A rank that died must not be waited for, but processes
    # that share a GPU do without one another.
    srun = [f"--cpus-per-task={resources.cpus}", f"--kill-on-bad-exit={int(resources.cells_per_gpu == 1)}"]
    executor.update_parameters(
        time=math.ceil(resources.hours * 60),
        cpus_per_task=resources.cpus,
        ntasks_per_node=resources.tasks_per_node,
        nodes=resources.nodes,
        srun_args=srun,
        setup=[*site.profile.setup, *(_gpu_setup(resources.gpus) if resources.gpus else [])],
    )
    return executor


def _gpu_setup(gpus: int) -> list[str]:
    # If GPUs are asked for by task, srun shows each rank only one; but a rank picks its own, by local rank, among all.
    return ["unset SLURM_GPUS_PER_TASK SLURM_TRES_PER_TASK", f"export CLEF_GPUS_PER_NODE={gpus}"]


# ---- reports ----


def _report_submitted(submitted: SubmittedJobs, proposal: Proposal) -> None:
    """Print what Slurm has taken, and how much that is of what was proposed."""
    total = len(proposal.cell_jobs.cells)
    if submitted.arrays:
        kind = "array" if len(submitted.arrays) == 1 else "arrays"
        is_partial = submitted.cells < total
        count = f"{submitted.cells} of {console.format_cells(total)}" if is_partial else console.format_cells(total)
        rest = "; run it again for the rest" if is_partial else ""
        jobs = ", ".join(submitted.arrays)
        out.print(f"submitted {count} as {len(submitted.arrays)} job {kind}: {jobs}{rest}", soft_wrap=True)
    if submitted.limit:
        what = f"{console.format_cells(total - submitted.cells)} wait" if submitted.cells < total else "the rest waits"
        again = f"{what} for the next run of the same command, when some of your jobs have ended"
        out.print(f"{submitted.limit}: {again}", markup=False, soft_wrap=True)
    for job in submitted.features:
        out.print(f"job {job} computes features of frozen encoders first", soft_wrap=True)
    for name, (sharding, launch) in submitted.shards.items():
        out.print(f"job {sharding} makes the shards of {name}; job {launch} after it submits the cells", soft_wrap=True)


def _report_settled(settled: list[Submission]) -> None:
    """Print what became of the calls of sbatch of launchers that died."""
    for submission in settled:
        is_cells = submission.kind == "cells"
        what = console.format_cells(len(submission.cells)) if is_cells else f"a job of kind {submission.kind}"
        outcome = f"Slurm has that as job {submission.job}" if submission.job else "Slurm never got that"
        err.print(
            f"a launcher died while it submitted {what} ({submission.by}): {outcome}", markup=False, soft_wrap=True
        )
