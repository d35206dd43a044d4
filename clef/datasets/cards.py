"""The card of a dataset: what `shards/<name>.yaml` states of its classes, layout, splits and storage."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from clef.config import Strict
from clef.config import base as resources
from clef.config.base import merge, unknown, validate
from clef.datasets.policies import Policies
from clef.errors import ConfigError

LEAK_FREE = "leak_free"
"""The protocol of every card unless another is asked for: val shares no image with another split."""


class SplitSource(Strict):
    """Where a split of ours comes from: `split` of the official layout below `root` (relative to the source)."""

    split: str
    root: str = "."


class Release(Strict):
    """What a release of the dataset holds, by its own count. Keys are our splits, several joined by `+`."""

    images: dict[str, int] = {}
    people: dict[str, int] = {}
    classes: dict[str, dict[str, int]] = {}
    """People of each class, by split."""


class Protocol(Strict):
    """A way in circulation to cut the set into splits and to count. What it states goes before the card's own."""

    about: str
    without: tuple[str, ...] = ()
    """Splits of the card that it lacks."""
    reader_options: dict[str, Any] = {}
    policies: dict[str, str] = {}
    releases: dict[str, Release] = {}
    """In place of the card's, where it counts otherwise."""


class Storage(Strict):
    """How people are stored. Sizes are pixels on the short side; nothing is ever enlarged."""

    frame: Annotated[int, Field(ge=16)] = 256
    body: Annotated[int, Field(ge=16)] = 160
    face: Annotated[int, Field(ge=16)] = 128
    quality: Annotated[int, Field(ge=1, le=100)] = 90
    """JPEG quality, chroma not subsampled."""
    regions: Annotated[int, Field(ge=1)] = 50
    """Region proposals kept of an image, at most."""
    samples_per_shard: Annotated[int, Field(ge=1)] = 1000
    max_pixels: Annotated[int, Field(ge=1)] = 200_000_000
    """Larger images count as too large; EMOTIC holds some of up to 11,617 pixels a side."""


class Card(Strict):
    """What the toolkit must know of a dataset before it sees it."""

    name: str
    title: str
    reader: str
    """A registered reader, or `module:Class`."""
    task: Literal["multi_label", "single_label"]
    classes: tuple[str, ...]
    aliases: dict[str, str] = {}
    """Other spellings in circulation, and the class each stands for."""
    vad: bool = False
    """Whether people carry valence, arousal and dominance (1-10)."""
    source: str
    """The default folder of the dataset, below the working directory."""
    layout: str
    """The tree expected there."""
    request: str
    """Where to ask for the set."""
    generator: str | None = None
    """`module:function` that makes the set, for the demo twins."""
    generator_options: dict[str, Any] = {}
    """What it is called with, besides the folder and `workers`."""
    splits: dict[str, SplitSource]
    test_splits: tuple[str, ...] = ("test",)
    block: Annotated[int, Field(ge=1)] = 1
    """How many neighbours of one class in the source's list hang together, as frames of a shot: a bootstrap draws them
    together. 1: nothing but an image's people hangs together."""
    releases: dict[str, Release] = {}
    """The releases of the set that are known, by name."""
    reader_options: dict[str, Any] = {}
    policies: Policies = Policies()
    """What is done about each fault."""
    protocol: str = LEAK_FREE
    """The protocol that this card stands for."""
    protocols: dict[str, Protocol] = {}
    """The other ones there are."""
    storage: Storage = Storage()

    @property
    def folder(self) -> str:
        """The folder of its shards below `shards/`; a protocol other than the usual one has its own."""
        return self.name if self.protocol == LEAK_FREE else f"{self.name}-{self.protocol}"

    @property
    def metric(self) -> str:
        """The headline metric, in percent."""
        return "mAP" if self.task == "multi_label" else "accuracy"

    @property
    def class_metric(self) -> str:
        """The same of one class: its AP, or its accuracy."""
        return "AP" if self.task == "multi_label" else self.metric

    def canonical(self, label: str) -> str | None:
        """The class that a spelling stands for, or None; case and outer blanks don't matter."""
        spellings = {name.lower(): name for name in self.classes}
        spellings |= {alias.lower(): name for alias, name in self.aliases.items()}
        return spellings.get(label.strip().lower())


def load(name: str, protocol: str = LEAK_FREE, policies: Mapping[str, str] | None = None) -> Card:
    """The card called `name`, or the one at a path that ends in `.yaml`, as a protocol has it.

    `policies` go on top of what the card and the protocol state.
    """
    if policies:
        return _load(name, protocol, policies)
    own = Path(name)
    return _kept(name, protocol, own.stat().st_mtime_ns if name.endswith(".yaml") and own.exists() else 0)


@cache
def _kept(name: str, protocol: str, changed: int) -> Card:
    """Every cell of a grid asks for its card. One of your own may change meanwhile, and is then read anew."""
    return _load(name, protocol, {})


def _load(name: str, protocol: str, policies: Mapping[str, str]) -> Card:
    path, content = _content(name)
    card = validate(Card, content, str(path))
    if card.name != path.stem:  # shards and cells are found by it
        raise ConfigError(f"{path}: name: {path.stem} is expected, as the file is called, not {card.name!r}")
    if protocol not in (LEAK_FREE, *card.protocols):
        raise ConfigError(unknown(f"{path}: protocol {protocol!r}", protocol, [LEAK_FREE, *card.protocols]))
    return _under(card, protocol, policies, str(path))


def _under(card: Card, name: str, policies: Mapping[str, str], where: str) -> Card:
    """The card as a protocol and the user's policies have it."""
    protocol = card.protocols.get(name, Protocol(about=""))
    content = card.model_dump()
    content["splits"] = {key: part for key, part in content["splits"].items() if key not in protocol.without}
    content["releases"] = (protocol if protocol.releases else card).model_dump()["releases"]
    stated = {"reader_options": protocol.reader_options, "policies": protocol.policies, "protocol": name}
    return validate(Card, merge(content, stated, {"policies": dict(policies)}), where)


def _content(name: str, extending: tuple[str, ...] = ()) -> tuple[Path, dict[str, Any]]:
    """A card's file and what it says. `extends: NAME` starts from another card, its releases left out."""
    if name.endswith(".yaml"):
        path = Path(name)
    elif name in (known := resources.names("shards")):
        path = resources.resource(f"shards/{name}.yaml")
    else:
        raise ConfigError(unknown(f"dataset {name!r}", name, known))
    content = resources.read_yaml(path)
    if base := content.pop("extends", None):
        if not isinstance(base, str) or Path(base).stem in (path.stem, *extending):
            raise ConfigError(f"{path}: extends: the name of another card is expected, not {base!r}")
        inherited = _content(base, (*extending, path.stem))[1]
        content = merge({key: value for key, value in inherited.items() if key != "releases"}, content)
    return path, content
