"""Prints a plan as a table, with what would be submitted and what stands in the way."""

import itertools
import os
from collections import Counter

from rich import box
from rich.markup import escape
from rich.table import Table

from clef.config import ResourcesConfig
from clef.console import out
from launch.plan import SHARDING, MissingShards, Plan, PlannedCell
from launch.profiles import Site
from launch.proposal import CellJobs, Proposal, arrange_jobs, group_by_resources
from launch.sbatch_options import sbatch_variables

STATE_STYLES = {
    "done": "green",
    "running": "cyan",
    "queued": "cyan",
    "preempted": "yellow",
    "failed": "red",
    "died": "red",
    "cancelled": "magenta",
}


def print_plan(plan: Plan, proposal: Proposal | None = None, site: Site | None = None, is_local: bool = False) -> None:
    """Print the cells by dataset, backbone and method, the resources they ask for, and what stands in the way.

    With a proposal and a site, also what Slurm would get. `is_local`: the cells are trained on this machine.
    """
    letters = {resources: chr(ord("A") + i) for i, resources in enumerate(group_by_resources(plan.cells))}
    out.print(_table(plan, letters))
    out.print(f"in all: {_state_counts(plan.cells)}")
    jobs = proposal.cell_jobs if proposal else arrange_jobs(plan.todo)
    for resources, letter in letters.items():
        count = sum(cell.config.resources == resources for cell in plan.todo)
        arrays = "" if is_local else _arrays_text(jobs, resources)
        what = "a cell" if resources.cells_per_task == 1 else f"a task of up to {resources.cells_per_task} cells"
        _print_line(f"{letter}: {_resources_text(resources)} {what}; {count} to train{arrays}")
    if proposal and proposal.later:
        _print_line(f"not submitted yet: {waiting_text(len(proposal.later))}")
    if proposal and site:
        _print_other_jobs(proposal, site)
    if skipped := sum(cell.skipped for cell in plan.cells):
        _print_line(
            f"failed, cancelled or starting from such a cell: {skipped}, left as they are; --retry-failed tries them "
            f"again"
        )
    for reason in dict.fromkeys(str(cell.error) for cell in plan.cells if cell.error):
        _print_line(f"[yellow]can't be trained:[/] {escape(reason)}", markup=True)
    if proposal and any(cell.state == "no shards" for cell in plan.cells):
        _print_line(
            "with --source DATASET=FOLDER, a job makes the shards that are missing and the cells follow after it"
        )


def print_nothing_to_train(plan: Plan) -> None:
    """Say that there is nothing to train, and why."""
    counts = Counter(cell.state for cell in plan.cells)
    busy = counts["queued"] + counts["running"]
    waiting = f", {counts[SHARDING]} wait for their shards" if counts[SHARDING] else ""
    out.print(f"nothing to train: {counts['done']} cells are done, {busy} are queued or running{waiting}")


def waiting_text(count: int) -> str:
    """Return what to say of cells to train that can't start yet."""
    return f"{count}, which start from cells that are trained elsewhere; run it again after those"


def styled_state(state: str) -> str:
    """Return a state with rich's markup for its color."""
    return f"[{STATE_STYLES.get(state, 'default')}]{state}[/]"


def _table(plan: Plan, letters: dict[ResourcesConfig, str]) -> Table:
    """Return a row for each dataset, backbone and method. `letters` stand for resources, explained below the table."""
    table = Table(title=f"grid {plan.name}: {len(plan.cells)} cells", title_justify="left", box=box.SIMPLE_HEAD)
    table.padding, table.pad_edge = (0, 1, 0, 0), False  # so that the usual names fit into 80 columns
    for column in ("dataset", "backbone", "method", "seeds", "epochs", "batch", "needs", "state"):
        table.add_column(column, justify="right" if column in ("epochs", "batch") else "left", overflow="fold")
    for key, group in itertools.groupby(plan.cells, key=_row_key):
        cells = list(group)
        config = cells[0].config
        seeds = _seed_ranges([cell.config.seed for cell in cells])
        numbers = (str(config.epochs), str(config.batch_size))
        table.add_row(*key, seeds, *numbers, letters[config.resources], _state_counts(cells))
    return table


def _row_key(cell: PlannedCell) -> tuple[str, str, str]:
    config = cell.config
    return config.dataset_name, config.backbone_name, config.method_label


def _seed_ranges(seeds: list[int]) -> str:
    """Return `0 1 2 7`; runs of four and more as `0-9 12`."""
    runs = [list(run) for _, run in itertools.groupby(enumerate(seeds), key=lambda pair: pair[1] - pair[0])]
    ranges = [[seed for _, seed in run] for run in runs]
    return " ".join(f"{r[0]}-{r[-1]}" if len(r) > 3 else " ".join(map(str, r)) for r in ranges)


def _state_counts(cells: list[PlannedCell]) -> str:
    counts = Counter(cell.state for cell in cells)
    return ", ".join(f"{count} {styled_state(state)}" for state, count in counts.items())


def _resources_text(resources: ResourcesConfig) -> str:
    cpus = resources.cpus * resources.tasks_per_node
    text = f"{resources.gpus} GPU, {cpus} CPU, {resources.memory_gb} GB, {resources.hours:g} h"
    return f"{resources.nodes} nodes of {text}" if resources.nodes > 1 else text


def _arrays_text(jobs: CellJobs, resources: ResourcesConfig) -> str:
    """Return as which jobs Slurm would get the cells of these resources."""
    arrays = [array for array in jobs.arrays if array.resources == resources]
    dependents = sum(cell.config.resources == resources for cell in jobs.dependents)
    sizes = [len(array.tasks) for array in arrays]
    text, tasks = "", "" if resources.cells_per_task == 1 else " tasks"
    if len(sizes) == 1:
        text = ", as one job array" + (f" of {sizes[0]}{tasks}" if tasks else "")
    elif sizes:
        text = f", as {len(sizes)} job arrays of up to {max(sizes)}{tasks}"
    if any(array.max_parallel for array in arrays):
        text += f", {' + '.join(str(array.max_parallel) for array in arrays)} at a time"
    if dependents:
        text += f"{' except for' if sizes else ','} {dependents}, each after the cell that it starts from"
    return text


def _print_other_jobs(proposal: Proposal, site: Site) -> None:
    """Print the jobs besides the arrays: of cells of earlier plans, those that make shards, and the gather job."""
    planned = {cell.folder.name for cell in proposal.plan.cells if cell.folder}
    if unplanned := len(proposal.active_jobs.cells.keys() - planned):
        _print_line(
            f"jobs of cells that this grid no longer has: {unplanned}; --status lists them once this is submitted, "
            f"--cancel ends them"
        )
    for shards in (*proposal.shards_to_make, *proposal.shards_in_progress):
        _print_line(_sharding_text(shards, proposal, site))
    _print_variables(proposal, site)
    if proposal.cell_jobs.cells:
        _print_line("after all cells: a gather job, which writes the tables however they end")


def _print_variables(proposal: Proposal, site: Site) -> None:
    """Print which variables SBATCH_* hold for the jobs, and which don't."""
    shapes = [cell.config.resources for cell in proposal.cell_jobs.cells]
    kept = {name for shape in dict.fromkeys(shapes) for name in site.kept_variables(shape)}
    if kept:
        stated = ", ".join(f"{name}={os.environ[name]}" for name in sorted(kept))
        _print_line(f"also for these jobs, from your environment: {stated}")
    if shapes and (dropped := [name for name in sbatch_variables() if name not in kept]):
        _print_line(f"from your environment, but not for these jobs, which state it themselves: {', '.join(dropped)}")


def _sharding_text(shards: MissingShards, proposal: Proposal, site: Site) -> str:
    key, active_jobs = str(shards.folder), proposal.active_jobs
    count = sum(cell.config.shards.resolve() == shards.folder for cell in proposal.plan.cells)
    job = active_jobs.shards.get(key)
    launcher = f"job {active_jobs.launches[key]}" if job and key in active_jobs.launches else "another"
    if job:
        what = f"job {job} makes them"
    else:
        asks = _resources_text(site.profile.sharding.resources)
        failed = (
            f"; the last such job failed, see {active_jobs.failed_logs[key]}" if key in active_jobs.failed_logs else ""
        )
        what = f"a job makes them from {shards.source} ({asks}{failed})"
    return f"{shards.name}: no shards yet; {what}, and {launcher} after it submits its {count} cells"


def _print_line(text: str, markup: bool = False) -> None:
    """Print a line that is wrapped between words on a terminal, and whole in a file."""
    out.print(text, markup=markup, soft_wrap=not out.is_terminal)
