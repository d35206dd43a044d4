"""The card of a dataset: what `shards/<name>.yaml` states of its classes, layout, splits and storage."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from clef import resources
from clef.config import Strict
from clef.errors import ConfigError
from clef.overrides import merge, unknown, validate


class SplitSource(Strict):
    """Where a split of ours comes from: `split` of the official layout below `root` (relative to the source)."""

    split: str
    root: str = "."


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
    splits: dict[str, SplitSource]
    test_splits: tuple[str, ...] = ("test",)
    expected: dict[str, int] = {}
    """People in each split of the official release."""
    reader_options: dict[str, Any] = {}
    storage: Storage = Storage()

    @property
    def metric(self) -> str:
        """The headline metric, in percent."""
        return "mAP" if self.task == "multi_label" else "accuracy"

    def canonical(self, label: str) -> str | None:
        """The class that a spelling stands for, or None; case and outer blanks don't matter."""
        spellings = {name.lower(): name for name in self.classes}
        spellings |= {alias.lower(): name for alias, name in self.aliases.items()}
        return spellings.get(label.strip().lower())


def load(name: str) -> Card:
    """The card called `name`, or the one at a path that ends in `.yaml`. `extends: NAME` starts from another card."""
    if name.endswith(".yaml"):
        path = Path(name)
    elif name in (known := resources.names("shards")):
        path = resources.resource(f"shards/{name}.yaml")
    else:
        raise ConfigError(unknown(f"dataset {name!r}", name, known))
    content = resources.read_yaml(path)
    if base := content.pop("extends", None):
        if not isinstance(base, str) or Path(base).stem == path.stem:
            raise ConfigError(f"{path}: extends: the name of another card is expected, not {base!r}")
        content = merge(load(base).model_dump(exclude={"expected"}), content)
    card = validate(Card, content, str(path))
    if card.name != path.stem:  # shards and cells are found by it
        raise ConfigError(f"{path}: name: {path.stem} is expected, as the file is called, not {card.name!r}")
    return card
