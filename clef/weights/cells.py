"""Which pre-trained weights the encoders of cells start from."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from clef.config import CellConfig, EncoderConfig
from clef.config.encoders import PACKAGED, PUBLISHED
from clef.errors import SetupError
from clef.weights.files import RANDOM, locate, path_of, verify_digest

DICTIONARY = "dictionary"
"""The name that CCIM's network goes by; it is no part of the model."""


def stated(config: CellConfig) -> dict[str, str]:
    """Return what every encoder of a cell starts from, by encoder: a name, a path, or none."""
    encoders: dict[str, EncoderConfig] = dict(config.method.encoders)
    named: dict[str, str] = {}
    if config.method.builds_backbone:
        encoders |= {str(name): stream for name, stream in config.backbone.streams.items()}
        named |= config.backbone.weights if config.backbone.takes_weights else {}
    return named | {encoder: _full_name(settings) for encoder, settings in encoders.items()}


def needed(config: CellConfig) -> dict[str, str]:
    """Return the pre-trained weights that a cell names, by encoder."""
    return {encoder: name for encoder, name in stated(config).items() if name != RANDOM}


def hashes(config: CellConfig) -> dict[str, str]:
    """Return the sha256 of each pre-trained file that a cell starts from, by encoder; they are in its signature.

    Raises SetupError where a file is missing, or is not the one that its name stands for.
    """
    folder = Path(config.runtime.weights)
    return {encoder: _checked(name, path_of(name, folder).absolute()) for encoder, name in needed(config).items()}


def frozen(config: CellConfig) -> set[str]:
    """Return the encoders of the model that are never trained: no checkpoint holds their weights."""
    branch = config.method.branch
    streams = config.backbone.streams if config.method.builds_backbone else {}
    names = {str(name) for name, stream in streams.items() if not stream.trainable}
    return names | ({"context_branch"} if branch and not branch.trainable else set())


def check_frozen(config: CellConfig, recorded: Mapping[str, str]) -> None:
    """Refuse other weights of frozen encoders than those that a trained cell recorded: sha256 by encoder.

    Raises SetupError where a file is missing or another one.
    """
    folder = Path(config.runtime.weights)
    for encoder in sorted(frozen(config) & set(needed(config)) & set(recorded)):
        path = path_of(needed(config)[encoder], folder).absolute()
        if _checked(needed(config)[encoder], path) != recorded[encoder]:
            raise SetupError(
                f"{path}: not the weights that the cell's frozen encoder {encoder} had in training, whose sha256 is "
                f"{recorded[encoder]}; restore that file"
            )


@dataclass(frozen=True)
class NeededFile:
    """A file that cells need."""

    name: str
    folder: Path
    users: Counter[str] = field(default_factory=Counter)
    """How many cells need it, by "BACKBONE ENCODER" or "METHOD ENCODER"."""

    @property
    def path(self) -> Path:
        """Return where it lies, or should."""
        return locate(self.name, self.folder)


def survey(configs: Iterable[CellConfig]) -> list[NeededFile]:
    """Return the files that these cells need, in the order in which they turn up."""
    files: dict[Path, NeededFile] = {}
    for config in configs:
        folder = Path(config.runtime.weights)
        for encoder, name in needed(config).items():
            owner = config.method.name if encoder in config.method.encoders else config.backbone.name
            file = files.setdefault(locate(name, folder), NeededFile(name, folder))
            file.users[f"{owner} {encoder}"] += 1
    return list(files.values())


def random_by_choice(configs: Iterable[CellConfig]) -> int:
    """Count the cells with an encoder that starts at random although weights could have been named."""
    return sum(RANDOM in stated(config).values() for config in configs)


def _full_name(encoder: EncoderConfig) -> str:
    if encoder.weights == PUBLISHED:
        return encoder.network
    plain = encoder.weights in (RANDOM, *PACKAGED) or "/" in encoder.weights
    return encoder.weights if plain else f"{encoder.weights}-{encoder.network}"


_checked = cache(verify_digest)  # many cells of a grid start from the same file
