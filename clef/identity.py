"""Which cell this is: its signature from config, shards and weights, and its folder. Imports no torch.

The planner and the trainer share this file, so that both mean the same cell.
"""

import re
from pathlib import Path

from clef import cards, files, weights
from clef.cell import to_yaml
from clef.config import CcimConfig, CellConfig
from clef.data.manifest import SOURCE, Manifest
from clef.errors import ConfigError, ShardError
from clef.signature import signature


def check_shards(config: CellConfig, manifest: Manifest) -> None:
    """Refuse shards of another dataset than the card states, or that lack a split or a member that the cell reads."""
    card = cards.load(config.dataset, config.protocol)
    stated = (card.name, card.protocol, card.task, list(card.classes), card.vad)
    found = (manifest.dataset, manifest.protocol, manifest.task, manifest.classes, manifest.vad)
    if stated != found or set(card.splits) != set(manifest.splits):
        command = f"python -m clef.shard --dataset {config.dataset} --protocol {config.protocol}"
        parts = "name, protocol, task, classes, VAD, splits"
        raise ShardError(
            f"{config.shards}: not shards of {card.name} as its card stands ({parts}); remove that folder and run: "
            f"{command} --out {config.runtime.shards}"
        )
    if "scene_without_person" in config.inputs.present and "person" not in manifest.cues:
        raise ShardError(
            f"{config.shards}: made without the cue `person`, whose boxes scene_without_person hides; find them with "
            f"python -m clef.cues --dataset {config.dataset} --cue person, and shard again"
        )
    for name in config.inputs.present:
        for split_name, split in manifest.splits.items():
            if not split.members[SOURCE[name]]:
                raise ShardError(
                    f"{config.dataset}: nobody in {split_name} has a {SOURCE[name]}, which {config.backbone.name} "
                    f"reads as {name!r}; was the source sharded without its boxes?"
                )


def identify(config: CellConfig, manifest: Manifest) -> str:
    """The cell's signature. Raises SetupError where pre-trained weights are missing."""
    kinds = {SOURCE[name] for name in config.inputs.present} | {"meta.json"}
    if isinstance(config.method, CcimConfig):  # its dictionary is made of the masked frames
        kinds.add(SOURCE["context"])
    return signature(config, manifest.content(kinds), weights.hashes(config), _parent(config))


def _parent(config: CellConfig) -> str | None:
    """The signature of the cell that this one starts from, which its folder's name ends with."""
    if config.method.parent is None:
        return None
    mark = Path(config.method.parent).name.rpartition("-")[2]
    if not re.fullmatch("[0-9a-f]{16}", mark):
        raise ConfigError(f"method.start_from={config.method.parent}: a cell's folder, NAME-SIGNATURE, is expected")
    return mark


def folder_of(config: CellConfig, grid: str, mark: str) -> Path:
    """Where a cell with this signature lives."""
    return Path(config.runtime.out) / grid / f"{config.name}-{mark}"


def write_config(folder: Path, config: CellConfig) -> None:
    """Put the resolved config where `clef.engine.job.run_cell` finds it."""
    files.write(folder / "config.yaml", to_yaml(config))
