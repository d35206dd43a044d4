"""Options of sbatch: which a user may add, which the launcher or a cell's config decides, and what SBATCH_* may say.

sbatch takes options from three places: its command line, variables named SBATCH_*, and the script. A variable beats the
script, which holds all that the plan shows. So `kept_variables` lets through only those for options that the plan
doesn't state, such as an account.
"""

import os
from collections.abc import Collection, Sequence

from clef.errors import ConfigError

OptionValue = str | int | bool
LAUNCHER_OPTIONS = {
    "job_name": "the ledger finds jobs by it",
    "array": "its tasks are the cells",
    "parsable": "it reads sbatch's answer",
    "wait": "it reads sbatch's answer",
    "wrap": "it writes the script",
    "test_only": "--dry-run shows the plan",
    "output": "--logs and --status read it",
    "error": "--logs and --status read it",
    "open_mode": "--logs and --status read it",
    "signal": "cells save themselves at it",
    "export": "jobs need the environment of the launcher",
    "export_file": "jobs need the environment of the launcher",
    "clusters": "SLURM_CLUSTERS holds for squeue and scancel too",
    "cluster_constraint": "SLURM_CLUSTERS holds for squeue and scancel too",
    "gpu_bind": "each rank finds its GPU among all of its node's",
    "tres_bind": "each rank finds its GPU among all of its node's",
}
"""Options that the launcher sets itself or relies on not being set, and why."""
CELL_OPTIONS = {
    "time": "hours",
    "nodes": "nodes",
    "ntasks": "gpus",
    "ntasks_per_node": "gpus",
    "ntasks_per_gpu": "gpus",
    "cpus_per_task": "cpus",
    "cpus_per_gpu": "cpus",
}
"""Options that follow from a cell's `resources`, and from which of these."""
GPU_OPTIONS = {"gpus", "gpus_per_node", "gpus_per_task", "gpus_per_socket", "gres", "tres_per_task"}
MEMORY_OPTIONS = {"mem", "mem_per_cpu", "mem_per_gpu"}
"""Ways to ask for the same: one that a user states replaces the launcher's own."""


def parse_sbatch_option(
    text: str, value: OptionValue | None = None, where: str = "--sbatch "
) -> tuple[str, str | bool]:
    """Parse an option of sbatch, from `key=value` or from a key and a value; an option without a value is True.

    The key is named as submitit names the options that it sets itself, so that the user's replaces submitit's.
    `no-requeue` is `requeue` with the value False. ConfigError for what is no option, and for what isn't the user's.
    """
    key, equals, stated = str(text).partition("=") if value is None else (str(text), "=", value)
    key = key.lstrip("-").replace("-", "_")
    if not key.isidentifier():
        raise ConfigError(f"{where}{text!s}: key=value or key is expected, such as account=lab or exclusive")
    if len(key) == 1:
        raise ConfigError(f"{where}{text!s}: the option's long name is expected, such as account for A")
    if key in LAUNCHER_OPTIONS:
        raise ConfigError(f"{where}{text!s}: the launcher sets this itself: {LAUNCHER_OPTIONS[key]}")
    if key in CELL_OPTIONS:
        raise ConfigError(f"{where}{text!s}: the cells state this: set resources.{CELL_OPTIONS[key]} instead")
    stated = stated if isinstance(stated, bool) else str(stated) if equals else True
    return ("requeue", stated is False) if key == "no_requeue" else (key, stated)


def with_dependency(options: dict[str, str | bool], after: Sequence[str], after_kind: str) -> dict[str, str | bool]:
    """Return the options with a dependency, which is added to the user's own."""
    if not after:
        return options
    stated = [str(options["dependency"])] if "dependency" in options else []
    options = options | {"dependency": ",".join([*stated, ":".join([f"after{after_kind}", *after])])}
    return options | {"kill_on_invalid_dep": "yes"} if after_kind == "ok" else options


# ---- SBATCH_* ----

PREFIX = "SBATCH_"
CLUSTER_VARIABLES = ("SLURM_CONF", "SLURM_CLUSTERS")
"""Where the cluster is. Every other variable SLURM_* describes the job around this process."""
_OTHER_NAMES = {
    "TIMELIMIT": "time",
    "ARRAY_INX": "array",
    "MEM_PER_NODE": "mem",
    "NO_REQUEUE": "requeue",
}
"""Variables that are not named after their option."""


def kept_variables(stated: Collection[str]) -> list[str]:
    """Return the names of the variables SBATCH_* of this process that sbatch may see.

    `stated`: the options of the job besides those that every job has. A variable for any of them is left out.
    """
    decided = {*LAUNCHER_OPTIONS, *CELL_OPTIONS, *GPU_OPTIONS, "requeue", *stated}
    if MEMORY_OPTIONS & set(stated):
        decided |= MEMORY_OPTIONS
    return [name for name in sbatch_variables() if _option_of(name) not in decided]


def sbatch_environment(kept: Collection[str]) -> dict[str, str]:
    """Return this process's environment as sbatch, and the job after it, may see it. `kept`: see `kept_variables`.

    Without what Slurm says of a job around this process, which sbatch and srun take for options.
    """
    dropped = ("SLURM", PREFIX, "SRUN_")
    passed = {*kept, *CLUSTER_VARIABLES}
    return {name: value for name, value in os.environ.items() if name in passed or not name.startswith(dropped)}


def sbatch_variables() -> list[str]:
    """Return the names of all variables SBATCH_* of this process."""
    return sorted(name for name in os.environ if name.startswith(PREFIX))


def _option_of(name: str) -> str:
    """Return the option that a variable is for."""
    key = name.removeprefix(PREFIX)
    return _OTHER_NAMES.get(key, key.lower())
