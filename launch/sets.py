"""Sets of shards that a grid reads and that are not there yet, and the command that makes each."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clef import cards
from clef.config import CellConfig
from clef.console import err
from clef.data import manifest as manifests
from clef.errors import ClefError


@dataclass(frozen=True)
class MissingSet:
    """A dataset as a protocol has it, whose source is known and whose shards are missing."""

    name: str
    folder: Path
    """Where the shards will lie, absolute: what a job must find wherever it starts."""
    card: str
    protocol: str
    source: Path

    def command(self, workers: int | None = None) -> list[str]:
        """What makes the shards, or goes on where it was broken off."""
        what = ["--dataset", self.card, "--protocol", self.protocol, "--source", str(self.source.resolve())]
        pace = ["--workers", str(workers)] if workers else []
        return [sys.executable, "-m", "clef.shard", *what, "--out", str(self.folder.parent), *pace]


def missing(configs: list[CellConfig], sources: Mapping[str, Path]) -> dict[Path, MissingSet]:
    """The sets that can be made, by their folder as the cells name it. Demo sets are drawn into their source first."""
    wanted = {config.shards: config for config in configs}
    found = {}
    for folder, config in wanted.items():
        card = cards.load(config.dataset, config.protocol)
        source = sources.get(card.name) or (Path(card.source) if card.generator else None)
        if source and not manifests.path_of(folder).exists():
            path = str(Path(config.dataset).resolve()) if config.dataset.endswith(".yaml") else config.dataset
            found[folder] = MissingSet(config.dataset_name, folder.resolve(), path, config.protocol, source)
    return found


def cards_of(configs: list[CellConfig]) -> dict[str, str]:
    """The datasets of a grid, and the folder that each one's card names as its source."""
    return {(card := cards.load(name)).name: card.source for name in dict.fromkeys(c.dataset for c in configs)}


def make_here(made: MissingSet) -> None:
    """Shard it on this machine, in a process of its own: this one never imports torch."""
    err.print(f"making the shards of {made.name} (once)")
    done = subprocess.run(made.command())
    if done.returncode:
        error = ClefError(f"sharding {made.name} failed (exit code {done.returncode}); the reason is above")
        error.exit_code = max(done.returncode, 1)  # a signal's is negative
        raise error
