"""A site's profile: the options that every job needs there (`slurm/profiles/NAME.yaml`).

`load_site` puts the command line over a profile; `Site.options` are then the sbatch options of a job.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from clef import yaml_config
from clef.config import ResourcesConfig, Strict
from clef.errors import ConfigError
from clef.yaml_config import state_once, unknown, validate
from launch.sbatch_options import GPU_OPTIONS, MEMORY_OPTIONS, OptionValue, kept_variables, parse_sbatch_option

FOLDER = "slurm/profiles"


# ---- the profile ----


class SbatchOptions(Strict):
    """Where jobs go, and on whose account."""

    partition: str | None = None
    """None: the site's default, or --partition."""
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    sbatch: dict[str, OptionValue] = {}
    """Any further options of sbatch; `true` for those without a value."""

    @field_validator("sbatch")
    @classmethod
    def _check_sbatch(cls, options: dict[str, OptionValue]) -> dict[str, OptionValue]:
        try:
            return dict(parse_sbatch_option(key, value, where="") for key, value in options.items())
        except ConfigError as error:
            raise ValueError(str(error)) from None

    def by_name(self) -> dict[str, str | bool]:
        """Return all of them by sbatch's names, without those that are off; `requeue` may be False."""
        named = {key: getattr(self, key) for key in ("partition", "account", "qos", "constraint")}
        options = (named | self.sbatch).items()
        return {key: value for key, value in options if value not in (None, False) or key == "requeue"}


class GpuRequest(Strict):
    """How GPUs are asked for."""

    ask: Literal["gpus-per-node", "gres", "gpus-per-task"] = "gpus-per-node"
    type: str | None = None
    """The site's name for the model, such as a100; None: any."""


class ShardingResources(Strict):
    """The resources of a job that makes a set of shards."""

    cpus: Annotated[int, Field(ge=1)] = 8
    memory_gb: Annotated[int, Field(ge=1)] = 16
    hours: Annotated[float, Field(gt=0)] = 12

    @property
    def resources(self) -> ResourcesConfig:
        """Return the same as a cell states it."""
        return ResourcesConfig(gpus=0, cpus=self.cpus, memory_gb=self.memory_gb, hours=self.hours)


class Profile(SbatchOptions):
    """A site's profile. `slurm/profiles/generic.yaml` explains each key in a line."""

    without_gpu: SbatchOptions | None = None
    """In place of all the options above, for jobs that ask for no GPU."""
    gpus: GpuRequest = GpuRequest()
    memory: Literal["per-node", "per-cpu", "none"] = "per-node"
    """How a cell's `memory_gb` is asked for: --mem, its part for each CPU (--mem-per-cpu), or not at all."""
    setup: tuple[str, ...] = ()
    """Lines of shell that every job begins with."""
    scratch: str = ""
    """`runtime.scratch` of the cells that don't state their own."""
    sources: dict[str, str] = {}
    """Where datasets lie, by name: a job makes the shards of those whose shards are missing."""
    sharding: ShardingResources = ShardingResources()


def profile_names() -> list[str]:
    """Return the names of the profiles that ship with the project."""
    return yaml_config.names(FOLDER)


def load_profile(name: str) -> Profile:
    """Load the profile of that name, or the one at a path that ends in .yaml. ConfigError for a wrong one."""
    if name.endswith(".yaml"):
        path = Path(name).expanduser()
    elif name in profile_names():
        path = yaml_config.resource(FOLDER) / f"{name}.yaml"
    else:
        raise ConfigError(unknown(f"--profile {name}", name, profile_names()) + "; or the path of your own, FILE.yaml")
    return validate(Profile, yaml_config.read_yaml(path), str(path))


# ---- the profile with the command line over it ----


@dataclass(frozen=True)
class Site:
    """A profile with the command line over it."""

    profile: Profile = field(default_factory=Profile)
    command_line: dict[str, str | bool] = field(default_factory=dict)
    """Options of sbatch from the command line."""

    def options(self, resources: ResourcesConfig) -> dict[str, str | bool]:
        """Return the options of sbatch that the site decides for a job of these resources.

        `requeue` is False where the job may not be queued again.
        """
        profile = self.profile if resources.gpus else self.profile.without_gpu or self.profile
        options = profile.by_name() | self.command_line
        gpus = {} if GPU_OPTIONS & options.keys() else self._gpu_option(resources)
        memory = {} if MEMORY_OPTIONS & options.keys() else self._memory_option(resources)
        return options | gpus | memory

    def kept_variables(self, resources: ResourcesConfig) -> list[str]:
        """Return the names of the variables SBATCH_* that hold for a job of these resources."""
        return kept_variables(self.options(resources))

    def _memory_option(self, resources: ResourcesConfig) -> dict[str, str | bool]:
        if self.profile.memory == "none":
            return {}
        if self.profile.memory == "per-node":
            return {"mem": f"{resources.memory_gb}GB"}
        cpus = resources.cpus * resources.tasks_per_node
        return {"mem_per_cpu": f"{math.ceil(1024 * resources.memory_gb / cpus)}MB"}

    def _gpu_option(self, resources: ResourcesConfig) -> dict[str, str | bool]:
        ask, model, count = self.profile.gpus.ask, self.profile.gpus.type, resources.gpus
        if not count:
            return {}
        if ask == "gpus-per-task" and resources.cells_per_gpu > 1:
            ask = "gpus-per-node"  # the tasks share one
        asked = 1 if ask == "gpus-per-task" else count  # else there is a task for each GPU
        text = f"{model}:{asked}" if model else str(asked)
        return {ask.replace("-", "_"): f"gpu:{text}" if ask == "gres" else text}


def load_site(profile: str | None, partition: str | None, options: list[str]) -> Site:
    """Load what the command line names. `partition` holds for every job, with a GPU or without."""
    site = load_profile(profile) if profile else Profile()
    stated: dict[str, str | bool] = {"partition": partition} if partition else {}
    for text in options:
        key, value = parse_sbatch_option(text)
        state_once(stated, key, value, f"--sbatch {text}")
    return Site(site, stated)


def find_sources(profile: Profile, stated: list[str], card_sources: Mapping[str, str]) -> dict[str, Path]:
    """Find where the datasets of a grid lie: `--source DATASET=FOLDER`, else the profile, else the dataset's card.

    `card_sources`: the folder that each dataset's card names. A folder from the command line must exist (ConfigError);
    of the others, those that exist are returned.
    """
    candidates = [*card_sources.items(), *profile.sources.items()]
    folders = {
        name: path
        for name, folder in candidates
        if name in card_sources and (path := Path(folder).expanduser()).is_dir()
    }
    chosen: dict[str, Path] = {}
    for text in stated:
        name, equals, folder = text.partition("=")
        if not (equals and folder):
            raise ConfigError(f"--source {text}: DATASET=FOLDER is expected")
        if name not in card_sources:
            raise ConfigError(unknown(f"--source {text}: {name}", name, card_sources))
        state_once(chosen, name, Path(folder).expanduser(), f"--source {text}")
        if not chosen[name].is_dir():
            raise ConfigError(f"--source {text}: no such folder")
    return folders | chosen
