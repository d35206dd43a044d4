"""The card of a dataset: what `shards/<name>.yaml` states about its classes, layout, splits, metric and storage."""

import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from clef.datasets.policies import Policies
from clef.errors import ConfigError
from clef.metrics import METRICS, USUAL
from clef.yaml_config import Strict, locate, merge, names, read_yaml, resource, unknown, validate

LEAK_FREE = "leak_free"
"""The protocol of every card unless another is asked for: val shares no image with another split."""


IN_SIGNATURE = ("name", "protocol", "task", "classes", "vad", "metric", "test_splits", "block")
"""What of a card is in the signature of a cell, besides the names of its splits."""


class SplitSource(Strict):
    """Where a split comes from: `split` in the dataset's own layout, below the folder `root` of the source."""

    split: str
    root: str = "."


class Release(Strict):
    """What a release of the dataset holds, as it states itself. Keys are splits, or several joined by `+`."""

    images: dict[str, int] = {}
    people: dict[str, int] = {}
    classes: dict[str, dict[str, int]] = {}
    """People of each class, by split."""


class Protocol(Strict):
    """Another way to cut the dataset into splits and to count people. What it states overrides the card."""

    about: str
    without: tuple[str, ...] = ()
    """Splits of the card that this protocol doesn't have."""
    reader_options: dict[str, Any] = {}
    policies: dict[str, str] = {}
    releases: dict[str, Release] = {}
    """Replace the card's releases, where this protocol counts differently."""


class Storage(Strict):
    """How people are stored. Sizes are pixels on the short side; a smaller image keeps its size."""

    frame: Annotated[int, Field(ge=16)] = 256
    body: Annotated[int, Field(ge=16)] = 160
    face: Annotated[int, Field(ge=16)] = 128
    quality: Annotated[int, Field(ge=1, le=100)] = 90
    """JPEG quality; chroma is not subsampled."""
    regions: Annotated[int, Field(ge=1)] = 50
    """Region proposals kept for an image, at most."""
    samples_per_shard: Annotated[int, Field(ge=1)] = 1000
    max_pixels: Annotated[int, Field(ge=1)] = 200_000_000
    """Larger images meet the rule `image_too_large`. EMOTIC has images of up to 11,617 pixels a side."""


class Card(Strict):
    """What the toolkit must know about a dataset before it reads it."""

    name: str
    title: str
    reader: str
    """A registered reader, or `module:Class`."""
    task: Literal["multi_label", "single_label"]
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    aliases: dict[str, str] = {}
    """Other spellings of classes, and the class each stands for."""
    vad: bool = False
    """Whether people carry valence, arousal and dominance (1-10)."""
    source: str
    """The default folder of the dataset, relative to the working directory."""
    layout: str
    """The files expected there, as error messages show them."""
    request: str
    """Where to ask for the dataset."""
    generator: str | None = None
    """`module:function` that generates the dataset, for demo datasets."""
    generator_options: dict[str, Any] = {}
    """Its arguments, besides `root` and `workers`."""
    metric: Annotated[str, Field(validate_default=True)] = ""
    """The headline metric, one of `clef.metrics.METRICS`. Unless stated, the usual one of the task."""
    splits: dict[str, SplitSource]
    test_splits: Annotated[tuple[str, ...], Field(min_length=1)] = ("test",)
    block: Annotated[int, Field(ge=1)] = 1
    """How many neighbors of one class in the source's list belong together, such as frames of one shot: a bootstrap
    draws them together. 1: only the people of one image belong together."""
    releases: dict[str, Release] = {}
    """Known releases of the dataset, by name."""
    reader_options: dict[str, Any] = {}
    policies: Policies = Policies()
    """What is done about each fault."""
    protocol: str = LEAK_FREE
    """The protocol that was applied to this card."""
    protocols: dict[str, Protocol] = {}
    """The other protocols, by name."""
    storage: Storage = Storage()

    @field_validator("metric")
    @classmethod
    def _check_metric(cls, name: str, info: ValidationInfo) -> str:
        if "task" not in info.data:  # it is wrong, which is reported as an error of its own
            return name
        task = info.data["task"]
        valid = [metric.name for metric in METRICS.values() if metric.task == task]
        if name and name not in valid:
            raise ValueError(f"for {task}, {' or '.join(valid)} is expected")
        return name or USUAL[task]

    @property
    def folder(self) -> str:
        """Return the name of its folder of shards; each protocol other than `leak_free` has its own."""
        return self.name if self.protocol == LEAK_FREE else f"{self.name}-{self.protocol}"

    @property
    def class_metric(self) -> str:
        """Return what the headline metric of one class is called, such as AP for mAP."""
        return METRICS[self.metric].class_metric

    @property
    def identity(self) -> dict[str, Any]:
        """Return the part of it that shapes what a cell learns, selects or reports: in the cell's signature.

        What it says of the source (reader, policies, storage) is in the shards' own hashes.
        """
        return self.model_dump(mode="json", include=set(IN_SIGNATURE)) | {"splits": sorted(self.splits)}

    @property
    def stored_as(self) -> dict[str, int]:
        """Return the settings of storage that decide the bytes of a sample."""
        return self.storage.model_dump(exclude={"samples_per_shard"})

    def differences(self, other: "Card") -> str:
        """Return in words what of the identity or the storage differs from another card's; empty where nothing does."""
        first, second = (card.identity | {"storage": card.stored_as} for card in (self, other))
        return "; ".join(f"{key}: {value}, not {second[key]}" for key, value in first.items() if value != second[key])

    def canonical(self, label: str) -> str | None:
        """Return the class that a spelling stands for, or None. Case and outer blanks don't matter."""
        spellings = {plain_spelling(alias): name for alias, name in self.aliases.items() if name in self.classes}
        spellings |= {plain_spelling(name): name for name in self.classes}
        return spellings.get(plain_spelling(label))


def plain_spelling(text: str) -> str:
    """Return a spelling without what doesn't matter: case, outer blanks, and whether accents are letters of their own.

    Names of files are decomposed into letters and accents when they come from a Mac.
    """
    return unicodedata.normalize("NFC", text).strip().lower()


def load(name: str, protocol: str = LEAK_FREE, policies: Mapping[str, str] | None = None) -> Card:
    """Return the card called `name`, or the one at a path that ends in `.yaml`, with a protocol applied to it.

    `policies` (rule -> policy) override those of the card and the protocol. Raises ConfigError.
    """
    if policies:
        return _load(name, protocol, policies)
    path = Path(name)
    return _load_cached(name, protocol, path.stat().st_mtime_ns if name.endswith(".yaml") and path.exists() else 0)


@cache
def _load_cached(name: str, protocol: str, modified: int) -> Card:
    """Load a card once: every cell of a grid asks for it. A user's file that was `modified` since is read again."""
    return _load(name, protocol, {})


def _load(name: str, protocol: str, policies: Mapping[str, str]) -> Card:
    path, content = _read_content(name)
    card = validate(Card, content, str(path))
    _check_classes(card, path)
    if card.name != path.stem:  # shards and cells are found by this name
        raise ConfigError(f"{path}: name: {path.stem} is expected, as the file is called, not {card.name!r}")
    if protocol not in (LEAK_FREE, *card.protocols):
        raise ConfigError(unknown(f"{path}: protocol {protocol!r}", protocol, [LEAK_FREE, *card.protocols]))
    return _apply_protocol(card, protocol, policies, str(path))


def _check_classes(card: Card, path: Path) -> None:
    """Raise ConfigError, with the line in the card, for spellings that could stand for two classes or for none."""
    classes: dict[str, str] = {}
    for name in card.classes:
        other = classes.setdefault(plain_spelling(name), name)
        if not name.strip():
            raise ConfigError(f"{locate(path, 'classes', name)}: classes: one of them has no name")
        if list(card.classes).count(name) > 1:
            raise ConfigError(f"{locate(path, 'classes', name)}: classes: {name!r} is listed twice")
        if other != name:
            raise ConfigError(
                f"{locate(path, 'classes', name)}: classes: {name!r} differs from {other!r} only in case or blanks"
            )
    aliases: dict[str, str] = {}
    for alias, name in card.aliases.items():
        own = classes.get(plain_spelling(alias), name)
        other = aliases.setdefault(plain_spelling(alias), name)
        problem = f"is the class {own!r}, and can't stand for {name!r}" if own != name else ""
        problem = f"stands for {name!r}, and in another case for {other!r}" if other != name else problem
        problem = unknown(f"class {name!r}", name, card.classes) if name not in card.classes else problem
        where = locate(path, "aliases", alias) if problem else str(path)
        if where != str(path):  # else another card states it, which this one extends: it has no effect
            raise ConfigError(f"{where}: aliases: {alias!r}: {problem}")


def _apply_protocol(card: Card, name: str, policies: Mapping[str, str], where: str) -> Card:
    """Return the card with the protocol called `name` and the user's policies applied."""
    protocol = card.protocols.get(name, Protocol(about=""))
    content = card.model_dump()
    content["splits"] = {key: split for key, split in content["splits"].items() if key not in protocol.without}
    content["releases"] = (protocol if protocol.releases else card).model_dump()["releases"]
    stated = {"reader_options": protocol.reader_options, "policies": protocol.policies, "protocol": name}
    return validate(Card, merge(content, stated, {"policies": dict(policies)}), where)


def _read_content(name: str, extending: tuple[str, ...] = ()) -> tuple[Path, dict[str, Any]]:
    """Return a card's file and its content. `extends: NAME` starts from another card without its releases.

    `extending` names the cards that extend this one, so that a circle is found.
    """
    if name.endswith(".yaml"):
        path = Path(name)
    elif name in (shipped := names("shards")):
        path = resource(f"shards/{name}.yaml")
    else:
        raise ConfigError(unknown(f"dataset {name!r}", name, shipped))
    content = read_yaml(path)
    if base := content.pop("extends", None):
        if not isinstance(base, str) or Path(base).stem in (path.stem, *extending):
            raise ConfigError(f"{path}: extends: the name of another card is expected, not {base!r}")
        inherited = _read_content(base, (*extending, path.stem))[1]
        content = merge({key: value for key, value in inherited.items() if key != "releases"}, content)
    return path, content
