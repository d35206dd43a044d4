"""The shards of a dataset, made if they are not there; a demo set is drawn first. Safe for many processes at once."""

from pathlib import Path

from clef import files, plugins
from clef.cards import Card
from clef.data import writer
from clef.data.manifest import Manifest


def prepare(card: Card, source: Path, out: Path, workers: int = 1, progress: writer.Progress | None = None) -> Manifest:
    """The manifest of `out`, after building whatever was missing from `source`. Raises DataError, ShardError."""
    if card.generator:
        with files.lock(source.with_name(f".{source.name}.lock")):
            plugins.find("generator", card.generator, {})(card.name, source, workers=workers)
    return writer.build(card, source, out, workers, progress)
