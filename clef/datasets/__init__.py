"""Readers of datasets in the layouts in which they circulate.

To add a reader: a file here, a line in `READERS`, a card in `shards/`. docs/datasets.md shows every layout that is
read, and how to add a dataset of your own.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clef import io, registry
from clef.datasets.cards import Card
from clef.datasets.person import Person, Reader, Reading
from clef.errors import ConfigError

__all__ = ["READERS", "Person", "Reader", "Reading", "generate_demo", "open_reader"]

READERS = {
    "emotic": "clef.datasets.emotic:Emotic",
    "caer_s": "clef.datasets.caer_s:CaerS",
    "table": "clef.datasets.table:TableReader",
}
"""Name in a card -> `module:Class`."""


def open_reader(card: Card, root: Path) -> Reader:
    """Return the reader that the card names, opened on the folder `root`. Raises ConfigError, DataError."""
    reader: Reader = registry.find("reader", card.reader, READERS)(root, card)
    return reader


def generate_demo(card: Card, source: Path, workers: int = 1) -> None:
    """Generate a demo dataset in `source` unless it is there; do nothing for a card without a generator.

    Many processes may call this at once: one generates, the others wait.
    """
    if card.generator:
        with io.lock(source.with_name(f".{source.name}.lock")):
            _call_generator(registry.find("generator", card.generator, {}), card, root=source, workers=workers)


def _call_generator(generator: Callable[..., None], card: Card, **arguments: Any) -> None:
    try:
        inspect.signature(generator).bind(**arguments, **card.generator_options)
    except TypeError as error:
        raise ConfigError(f"card {card.name}: generator_options: {error} ({card.generator})") from None
    generator(**arguments, **card.generator_options)
