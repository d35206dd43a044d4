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
from clef.datasets.cards import Card
from clef.errors import CellError, ConfigError, ShardError

SCHEMA = 8
"""Raised whenever the meaning of a config changes. 2: switches of methods and inputs; cues in shards. 3: protocols.
4: accumulation, batch statistics over ranks, TF32. 5: standard names of keys (`clef.config.cell.RENAMED`).
6: the card's part (`clef.datasets.cards.IN_SIGNATURE`); weights by their content alone.
7: encoders by name, with the filter and the shape in which an image reaches them.
8: CLEF's fusions.
"""

NOT_IDENTITY = ("runtime", "resources", "label", "backbone_label", "against", "dataset", "card")
"""Parts of the config that can't change the result, and those that enter in another form: a dataset is known by what
its card says, not by the path of that file.
"""


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
    identity["card"] = config.card.identity
    encoders = [identity["backbone"], *identity["backbone"].get("encoders", {}).values()]
    for encoder in (*encoders, *(identity["method"][key] for key in config.method.encoders)):
        encoder.pop("weights", None)  # by their sha256, in `weights`; an encoder that isn't there starts at random
    identity["method"].pop("probabilities", None)  # a custom method's; it changes no result
    if not identity["optimizer"]["options"]:  # said by cells with an optimizer of your own alone
        del identity["optimizer"]["options"]
    if parent is not None:
        identity["method"]["start_from"] = parent
    text = json.dumps([SCHEMA, identity, content, weights], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_shards(config: CellConfig, manifest: Manifest) -> None:
    """Refuse shards that contradict the cell's card, or that lack a split or a member that the cell reads."""
    if differences := _differences_to_card(config.card, manifest):
        command = f"python -m clef.shard --dataset {config.dataset} --protocol {config.protocol}"
        raise ShardError(
            f"{config.shards}: made with another card than the cell's ({differences}); restore that card, or make "
            f"shards of this one in another folder, to be named by runtime.shards: {command} --out FOLDER"
        )
    _check_scored(config, manifest)
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


def _differences_to_card(card: Card, manifest: Manifest) -> str:
    """Return in words how shards differ from a card; empty where they don't."""
    made = manifest.model_dump(include={"protocol", "task", "classes", "vad"})
    made |= {"name": manifest.dataset, "splits": sorted(manifest.splits)}
    stated = card.model_dump(include={"protocol", "task", "vad", "name"})
    stated |= {"classes": list(card.classes), "splits": sorted(card.splits)}
    if manifest.storage:
        made["storage"], stated["storage"] = manifest.storage, card.stored_as
    return "; ".join(f"{key}: {made[key]} there, {stated[key]} here" for key in made if made[key] != stated[key])


def _check_scored(config: CellConfig, manifest: Manifest) -> None:
    """Refuse shards without a split that the cell is trained or tested on, or in which nobody there has a label."""
    card = config.card
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
    recorded = records.read_environment(folder)
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
