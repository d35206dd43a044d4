"""Which cell this is: its signature and its folder. Imports no torch.

The signature is a pure function of the config and of the bytes that the cell reads: shards and pre-trained weights.
The planner and the trainer share this file, so that both mean the same cell.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from clef import io, weights
from clef.cells import records
from clef.config import CellConfig
from clef.config.resolve import to_yaml
from clef.data.manifest import MEMBER_OF_INPUT, Manifest
from clef.datasets import cards
from clef.errors import CellError, ConfigError, ShardError

SCHEMA = 5
"""Raised whenever the meaning of a config changes. 2: switches of methods and inputs; cues in shards. 3: protocols.
4: accumulation, batch statistics over ranks, TF32. 5: standard names of keys (`clef.config.cell.RENAMED`).
"""

NOT_IDENTITY = ("runtime", "resources", "label", "against")
"""Parts of the config that can't change the result."""


def compute_signature(
    config: CellConfig, content: dict[str, str], weights: dict[str, str], parent: str | None = None
) -> str:
    """Return the 16 hexadecimal digits that name the cell.

    `content` holds the content hash of each member kind that the cell reads, by `split/kind`, and `weights` the
    sha256 of each pre-trained file, by encoder. The config enters resolved and whole, never as a difference from
    defaults: a default that changes must not alias two experiments. A cell that starts from another's weights is known
    by its parent's signature, wherever that lies.
    """
    identity: dict[str, Any] = config.model_dump(mode="json", exclude=set(NOT_IDENTITY))
    identity["method"].pop("probabilities", None)  # a custom method's; it changes no result
    if not identity["optimizer"]["options"]:  # said by cells with an optimizer of your own alone
        del identity["optimizer"]["options"]
    if parent is not None:
        identity["method"]["start_from"] = parent
    text = json.dumps([SCHEMA, identity, content, weights], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_shards(config: CellConfig, manifest: Manifest) -> None:
    """Refuse shards of another dataset than the card states, or that lack a split or a member that the cell reads."""
    card = cards.load(config.dataset, config.protocol)
    expected = (card.name, card.protocol, card.task, list(card.classes), card.vad)
    stated = (manifest.dataset, manifest.protocol, manifest.task, manifest.classes, manifest.vad)
    if stated != expected or set(card.splits) != set(manifest.splits):
        command = f"python -m clef.shard --dataset {config.dataset} --protocol {config.protocol}"
        parts = "name, protocol, task, classes, VAD, splits"
        raise ShardError(
            f"{config.shards}: these shards don't match the card of {card.name} ({parts}); restore the card that they "
            f"were made with, or make others in another folder ({command} --out FOLDER; runtime.shards=FOLDER)"
        )
    _check_scored(config, card, manifest)
    if "scene_without_person" in config.inputs.present and "person" not in manifest.cues:
        raise ShardError(
            f"{config.shards}: made without the cue `person`, whose boxes scene_without_person hides; find them with "
            f"python -m clef.cues --dataset {config.dataset} --cue person, and shard again"
        )
    for name in config.inputs.present:
        member = MEMBER_OF_INPUT[name]
        for split_name, split in manifest.splits.items():
            if not split.members[member]:
                raise ShardError(
                    f"{config.dataset}: nobody in {split_name} has a {member}, which {config.backbone.name} "
                    f"reads as {name!r}; was the source sharded without its boxes?"
                )


def _check_scored(config: CellConfig, card: cards.Card, manifest: Manifest) -> None:
    """Refuse shards without a split that the cell is trained or tested on, or in which nobody there has a label."""
    for name in ("train", *card.test_splits):
        if name not in manifest.splits:
            raise ShardError(f"{config.shards}: no split {name}, which cells need (splits, test_splits in the card)")
    for name in ("train", "val", *card.test_splits):
        if name in manifest.splits and not any(manifest.splits[name].classes.values()):
            key = {"train": "", "val": ", or leave val out of the card's splits"}
            raise ShardError(
                f"{config.shards}: nobody in {name} has any label, so {card.metric} can't be computed; give these "
                f"people labels and shard the dataset again{key.get(name, f', or leave {name} out of test_splits')}"
            )


def signature_of(config: CellConfig, manifest: Manifest, hashes: dict[str, str] | None = None) -> str:
    """Return the cell's signature. Raises SetupError where pre-trained weights are missing.

    `hashes`: those of the weights, where they are known and the files need not be here.
    """
    hashes = weights.hashes(config) if hashes is None else hashes
    return compute_signature(config, content_of(config, manifest), hashes, _parent_signature(config))


def content_of(config: CellConfig, manifest: Manifest) -> dict[str, str]:
    """Return the content hash of each kind of member that the cell reads, in every split, by `split/kind`."""
    kinds = {MEMBER_OF_INPUT[name] for name in config.inputs.present} | {"meta.json"}
    kinds |= {MEMBER_OF_INPUT[name] for name in config.method.prepared_from}
    return manifest.content(kinds)


def check_cell(folder: Path, config: CellConfig, manifest: Manifest) -> None:
    """Refuse shards, or a config, that are not those of the cell in `folder`: its name ends with its signature.

    Pre-trained files need not be here where the cell has recorded what it started from.
    """
    check_shards(config, manifest)
    recorded = records.read_json(folder / records.ENVIRONMENT)
    signature, content = signature_of(config, manifest, recorded.get("weights")), content_of(config, manifest)
    if folder.name.rpartition("-")[2] == signature:
        return
    if other := [key for key, value in content.items() if recorded.get("content", content).get(key) != value]:
        raise ShardError(
            f"{config.shards}: not the shards that {folder.name} was trained on: other content in {', '.join(other)}; "
            "say where its shards are with --shards"
        )
    raise CellError(
        f"{folder}: its name should end with {signature}, by its config and the shards: {records.CONFIG} was "
        "changed, or this is no cell's folder"
    )


def _parent_signature(config: CellConfig) -> str | None:
    """Return the signature of the cell that this one starts from, which its folder's name ends with."""
    if config.method.parent is None:
        return None
    parent = Path(config.method.parent).name.rpartition("-")[2]
    if not re.fullmatch("[0-9a-f]{16}", parent):
        raise ConfigError(f"method.start_from={config.method.parent}: a cell's folder, NAME-SIGNATURE, is expected")
    return parent


def folder_of(config: CellConfig, grid: str, signature: str) -> Path:
    """Return the folder of a cell with this signature."""
    return Path(config.runtime.output_dir) / grid / f"{config.name}-{signature}"


def write_config(folder: Path, config: CellConfig) -> None:
    """Write the resolved config where `clef.engine.run.run_cell` finds it."""
    io.write(folder / "config.yaml", to_yaml(config))
