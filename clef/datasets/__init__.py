"""Readers of datasets in the layouts in circulation. To add one: a file here, a line in READERS, a card in `shards/`.

docs/datasets.md shows every layout that is read, and how to add a set of your own.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clef import io, registry
from clef.datasets.cards import Card
from clef.datasets.person import Box, Person, Reader, Reading
from clef.errors import ConfigError

__all__ = ["READERS", "Box", "Person", "Reader", "Reading", "draw", "open_reader"]

READERS = {
    "emotic": "clef.datasets.emotic:Emotic",
    "caer_s": "clef.datasets.caer_s:CaerS",
    "table": "clef.datasets.table:TableReader",
}


def open_reader(card: Card, root: Path) -> Reader:
    """The card's reader, looking at `root`."""
    reader: Reader = registry.find("reader", card.reader, READERS)(root, card)
    return reader


def draw(card: Card, source: Path, workers: int = 1) -> None:
    """Make a demo set that isn't in `source` yet; other sets are left alone. Safe for many processes at once."""
    if card.generator:
        with io.lock(source.with_name(f".{source.name}.lock")):
            _call(registry.find("generator", card.generator, {}), card, root=source, workers=workers)


def _call(generator: Callable[..., None], card: Card, **places: Any) -> None:
    try:
        inspect.signature(generator).bind(**places, **card.generator_options)
    except TypeError as error:
        raise ConfigError(f"card {card.name}: generator_options: {error} ({card.generator})") from None
    generator(**places, **card.generator_options)
