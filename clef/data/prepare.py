"""The shards of a dataset, made if they are not there; a demo set is drawn first. Safe for many processes at once."""

from pathlib import Path

from clef import datasets
from clef.cards import Card
from clef.console import Progress
from clef.data import writer
from clef.data.manifest import Manifest


def prepare(
    card: Card,
    source: Path,
    out: Path,
    workers: int = 1,
    progress: Progress | None = None,
    cues: Path | None = None,
) -> Manifest:
    """The manifest of `out`, after building whatever was missing from `source`. Raises DataError, ShardError.

    `cues` is the folder below which the cue files lie, where that isn't the source.
    """
    datasets.draw(card, source, workers)
    return writer.build(card, source, out, workers, progress, cues)
