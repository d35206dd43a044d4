"""Which pre-trained weights the encoders of cells start from."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from clef.config import CcimConfig, CellConfig, ContextOnlyConfig, EmotNetConfig, EncoderConfig
from clef.weights.files import RANDOM, checked, locate, path_of

BRANCH, DICTIONARY = "context_branch", "dictionary"


def stated(config: CellConfig) -> dict[str, str]:
    """What every encoder of a cell starts from, by encoder: a name, a path, or none."""
    wanted = dict(config.backbone.weights) if _builds_encoders(config) else {}
    if config.method.branch:
        wanted[BRANCH] = _full_name(config.method.branch)
    if isinstance(config.method, CcimConfig):
        wanted[DICTIONARY] = _full_name(config.method.dictionary)
    return wanted


def needed(config: CellConfig) -> dict[str, str]:
    """The pre-trained weights that a cell names, by encoder."""
    return {encoder: name for encoder, name in stated(config).items() if name != RANDOM}


def hashes(config: CellConfig) -> dict[str, str]:
    """The sha256 of each pre-trained file that a cell starts from, by encoder; part of its signature.

    SetupError where a file is missing, or is not the one that its name stands for.
    """
    folder = Path(config.runtime.weights)
    return {encoder: _checked(name, path_of(name, folder)) for encoder, name in needed(config).items()}


@dataclass(frozen=True)
class Wanted:
    """A file that is needed, and by what: `users` counts the cells by "backbone encoder"."""

    name: str
    folder: Path
    users: Counter[str] = field(default_factory=Counter)

    @property
    def path(self) -> Path:
        """Where it lies, or ought to."""
        return locate(self.name, self.folder)


def survey(configs: Iterable[CellConfig]) -> list[Wanted]:
    """The files that these cells need, in the order in which they turn up."""
    found: dict[Path, Wanted] = {}
    for config in configs:
        folder = Path(config.runtime.weights)
        for encoder, name in needed(config).items():
            owner = config.method.name if encoder in (BRANCH, DICTIONARY) else config.backbone.name
            file = found.setdefault(locate(name, folder), Wanted(name, folder))
            file.users[f"{owner} {encoder}"] += 1
    return list(found.values())


def random_by_choice(configs: Iterable[CellConfig]) -> int:
    """How many cells have an encoder that starts at random although weights could have been named."""
    return sum(RANDOM in stated(config).values() for config in configs)


def _builds_encoders(config: CellConfig) -> bool:
    """Whether the cell has a backbone, and one that takes weights."""
    decomposed = isinstance(config.backbone, EmotNetConfig) and config.backbone.variant == "decomposed"
    return not decomposed and not isinstance(config.method, ContextOnlyConfig)


def _full_name(encoder: EncoderConfig) -> str:
    plain = encoder.weights == RANDOM or "/" in encoder.weights
    return encoder.weights if plain else f"{encoder.weights}-{encoder.network}"


_checked = cache(checked)  # many cells of a grid start from the same file
