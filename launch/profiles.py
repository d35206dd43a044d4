"""What a site wants to hear on every job: a profile (`slurm/profiles/NAME.yaml`) with the command line over it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from clef.config import ResourcesConfig, Strict, base
from clef.config.base import unknown, validate
from clef.errors import ConfigError

FOLDER = Path(__file__).resolve().parent.parent / "slurm/profiles"
Option = str | int | bool
OWN = ("job_name", "array", "parsable", "wrap", "test_only")
"""Options of sbatch that the bookkeeping rests on."""
GPU_OPTIONS = {"gpus", "gpus_per_node", "gpus_per_task", "gpus_per_socket", "gres", "tres_per_task"}


def sbatch_option(text: str, value: Option | None = None, where: str = "--sbatch ") -> tuple[str, str | bool]:
    """An option of sbatch, from `key=value` or from its parts, named as submitit names those it sets itself.

    So the user's replaces its own. ConfigError for what is no option, and for what the launcher must set.
    """
    key, equals, stated = str(text).partition("=") if value is None else (str(text), "=", value)
    key = key.lstrip("-").replace("-", "_")
    if not key.isidentifier():
        raise ConfigError(f"{where}{text!s}: key=value or key is expected, such as account=lab or exclusive")
    if key in OWN:
        raise ConfigError(f"{where}{text!s}: the launcher sets this itself")
    return key, stated if isinstance(stated, bool) else str(stated) if equals else True


class Options(Strict):
    """Where jobs go, and on whose account."""

    partition: str | None = None
    """None: the site's default, or --partition."""
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    sbatch: dict[str, Option] = {}
    """Any further options of sbatch; `true` for those without a value."""

    @field_validator("sbatch")
    @classmethod
    def _named(cls, value: dict[str, Option]) -> dict[str, Option]:
        try:
            return dict(sbatch_option(key, word, where="") for key, word in value.items())
        except ConfigError as error:
            raise ValueError(str(error)) from None

    def stated(self) -> dict[str, str | bool]:
        """All of them by sbatch's names, without those that are off."""
        named = {key: getattr(self, key) for key in ("partition", "account", "qos", "constraint")}
        return {key: value for key, value in (named | self.sbatch).items() if value not in (None, False)}


class Gpus(Strict):
    """How GPUs are asked for."""

    ask: Literal["gpus-per-node", "gres", "gpus-per-task"] = "gpus-per-node"
    type: str | None = None
    """The site's name for the model, such as a100; None: any."""


class Sharding(Strict):
    """What a job asks for that makes a set of shards."""

    cpus: Annotated[int, Field(ge=1)] = 8
    memory_gb: Annotated[int, Field(ge=1)] = 16
    hours: Annotated[float, Field(gt=0)] = 12

    @property
    def shape(self) -> ResourcesConfig:
        """The same as a cell would state it."""
        return ResourcesConfig(gpus=0, cpus=self.cpus, memory_gb=self.memory_gb, hours=self.hours)


class Profile(Options):
    """A site. `slurm/profiles/generic.yaml` says each key in a line."""

    without_gpu: Options | None = None
    """In place of all the options above, for jobs that ask for no GPU."""
    gpus: Gpus = Gpus()
    setup: tuple[str, ...] = ()
    """Lines of shell that every job begins with."""
    scratch: str = ""
    """`runtime.scratch` of the cells that don't state their own."""
    sources: dict[str, str] = {}
    """Where datasets lie, by name: a job shards those whose shards are missing."""
    sharding: Sharding = Sharding()


@dataclass(frozen=True)
class Site:
    """A profile with the command line over it."""

    profile: Profile = field(default_factory=Profile)
    extra: dict[str, str | bool] = field(default_factory=dict)
    """Options of sbatch from the command line."""

    def options(self, shape: ResourcesConfig) -> dict[str, str | bool]:
        """Every option of sbatch that a job of this shape gets on top of its resources."""
        asked = (self.profile if shape.gpus else self.profile.without_gpu or self.profile).stated() | self.extra
        return asked if GPU_OPTIONS & asked.keys() else asked | self._gpus(shape.gpus)

    def _gpus(self, count: int) -> dict[str, str | bool]:
        ask, kind = self.profile.gpus.ask, self.profile.gpus.type
        if not count:
            return {}
        asked = 1 if ask == "gpus-per-task" else count  # a task a GPU
        text = f"{kind}:{asked}" if kind else str(asked)
        return {ask.replace("-", "_"): f"gpu:{text}" if ask == "gres" else text}


def names() -> list[str]:
    """The profiles that ship with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Profile:
    """The profile of that name, or the one at a path that ends in .yaml."""
    if name.endswith(".yaml"):
        path = Path(name)
    elif name in names():
        path = FOLDER / f"{name}.yaml"
    else:
        raise ConfigError(unknown(f"--profile {name}", name, names()) + "; or the path of your own, FILE.yaml")
    return validate(Profile, base.read_yaml(path), str(path))


def site(profile: str | None, partition: str | None, options: list[str]) -> Site:
    """What the command line names. --partition goes for every job, with a GPU or without."""
    made = load(profile) if profile else Profile()
    if partition:
        stated = {"partition": partition}
        apart = made.without_gpu.model_copy(update=stated) if made.without_gpu else None
        made = made.model_copy(update=stated | {"without_gpu": apart})
    return Site(made, dict(sbatch_option(text) for text in options))


def sources(profile: Profile, stated: list[str], datasets: Mapping[str, str]) -> dict[str, Path]:
    """Where the datasets of a grid lie: what `--source DATASET=PATH` says, else the profile, else the dataset's card.

    `datasets`: the folder that each one's card names. What the first one names must be there; of the others, what is.
    """
    known = [(name, folder) for where in (datasets, profile.sources) for name, folder in where.items()]
    paths = {name: path for name, folder in known if name in datasets and (path := Path(folder).expanduser()).is_dir()}
    for text in stated:
        name, equals, folder = text.partition("=")
        if not (equals and folder):
            raise ConfigError(f"--source {text}: DATASET=FOLDER is expected")
        if name not in datasets:
            raise ConfigError(unknown(f"--source {text}: {name}", name, datasets))
        paths[name] = Path(folder).expanduser()
        if not paths[name].is_dir():
            raise ConfigError(f"--source {text}: no such folder")
    return paths
