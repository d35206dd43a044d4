"""The tables of features that frozen encoders compute once: what each depends on, where it lies, how it is. No torch.

A table holds the features of one split, N,dim, as one encoder sees one input, mirrored or not. Its name ends with a
key: whatever changes the numbers (weights, size, filter, normalization, the pictures) gives another key, and so another
file. Beside it lies a record (`.json`): the facts behind the key, and the sha256 of the file.
"""

import hashlib
import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from clef import io, networks, weights
from clef.cells.records import read_json
from clef.config import (
    CONTEXT_SHOWING_SUBJECT,
    CellConfig,
    DictionaryMethodConfig,
    EncoderConfig,
    EncodersConfig,
    InputConfig,
    InputName,
)
from clef.data import manifest as manifests
from clef.data.manifest import MEMBER_OF_INPUT, Manifest
from clef.errors import SetupError

VERSION = 2
"""Raised when the same encoder would see the same picture otherwise: features are then computed again."""
DTYPES = {"fp32": np.float32, "fp16": np.float16}
COMMAND = "python -m clef.features --verify --grid GRID"


@dataclass(frozen=True)
class FrozenInput:
    """A frozen encoder of a cell, and how its input reaches it."""

    role: str
    """Its name in `clef.weights`: that of its input, context_branch or dictionary."""
    encoder: EncoderConfig
    input: InputName
    image: InputConfig
    seed: int
    """Gave the weights where they are random."""
    splits: tuple[str, ...] | None = None
    """The splits whose features are used; None: all."""

    @property
    def is_kept(self) -> bool:
        """Return whether training sees no more than two pictures of a sample: as it is, and mirrored."""
        return not self.image.varies

    def mirrors(self, split: str) -> tuple[bool, ...]:
        """Return which tables of a split are used: as it is, and in train mirrored too where the input flips."""
        return (False, True) if split == "train" and self.image.flip and self.role != weights.DICTIONARY else (False,)


def frozen_inputs(config: CellConfig) -> list[FrozenInput]:
    """Return the frozen encoders of a cell's backbone, context branch and dictionary."""
    found: list[FrozenInput] = []
    backbone, method, images = config.backbone, config.method, config.inputs.images
    if isinstance(backbone, EncodersConfig) and method.builds_backbone:
        for name in backbone.reads:
            stream = backbone.streams[name]
            if not stream.trainable:
                found.append(FrozenInput(name, stream, name, images[name], 0))
    if method.branch and not method.branch.trainable:
        branch = method.branch
        found.append(FrozenInput("context_branch", branch, branch.input, images[branch.input], config.seed))
    if isinstance(method, DictionaryMethodConfig):
        dictionary = method.dictionary
        image = dictionary.input
        found.append(FrozenInput(weights.DICTIONARY, dictionary, "context", image, dictionary.seed, ("train",)))
    return found


def kept_inputs(config: CellConfig) -> list[FrozenInput]:
    """Return those whose features are kept: training sees two pictures of a sample at most.

    A method that blanks the subject sees another picture of each frame that shows it.
    """
    blanked = CONTEXT_SHOWING_SUBJECT if config.method.blanks_subject(training=True) else ()
    return [each for each in frozen_inputs(config) if each.is_kept and each.input not in blanked]


@dataclass(frozen=True)
class FeatureTable:
    """One table: its file, and what its numbers depend on."""

    path: Path
    facts: dict[str, Any]
    frozen: FrozenInput
    split: str
    mirrored: bool
    rows: int

    @property
    def record(self) -> Path:
        """Return the file beside it, which says what it holds."""
        return self.path.with_suffix(".json")

    @property
    def partial(self) -> Path:
        """Return the file that a computation which was interrupted left."""
        return self.path.with_suffix(".partial")

    @property
    def state(self) -> str:
        """Return whether it is here, partial or missing."""
        return "here" if self.path.exists() else "partial" if self.partial.exists() else "missing"

    def open(self) -> np.ndarray:
        """Return the features, rows,dim float32 or float16, mapped from the file.

        A process checks each table once, and shares it between its cells. Raises SetupError for a damaged table, or
        one that its record says is another.
        """
        facts = self.path.stat()
        return _open_checked(self.path, json.dumps(self.facts, sort_keys=True), facts.st_mtime_ns, facts.st_size)

    def check(self) -> None:
        """Read every byte. Raises SetupError for a damaged table."""
        _open(self.path, self.facts)


def feature_table(
    frozen: FrozenInput, config: CellConfig, manifest: Manifest, split: str, mirrored: bool = False
) -> FeatureTable:
    """Return the table of a split for one of a cell's frozen encoders."""
    from clef.data import decode  # only now: it imports OpenCV, for which planning need not wait

    content = manifest.splits[split].content
    facts = {
        "version": [VERSION, decode.VERSION],
        "network": frozen.encoder.network,
        "width": frozen.encoder.width,
        "precision": frozen.encoder.features,
        "weights": weights.hashes(config).get(frozen.role, f"random {frozen.seed}"),
        "input": frozen.input,
        "image": frozen.image.model_dump(mode="json", exclude={"flip", "jitter"}),
        "mirrored": mirrored,
        "rows": manifest.splits[split].samples,
        "code": code_of(frozen.encoder),
        "content": [content[MEMBER_OF_INPUT[frozen.input]], content["meta.json"]],
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
    name = f"{manifest.dataset}-{split}-{frozen.input}{'-mirrored' if mirrored else ''}-{key}.npy"
    path = Path(config.runtime.features) / "features" / name
    return FeatureTable(path, facts, frozen, split, mirrored, manifest.splits[split].samples)


@cache
def _source_hash(module: str) -> str | None:
    spec = importlib.util.find_spec(module)
    return io.sha256(Path(spec.origin)) if spec and spec.origin and Path(spec.origin).is_file() else None


def code_of(encoder: EncoderConfig) -> str | None:
    """Return what builds the network: its library with the version, or the sha256 of a user's file; None for ours."""
    if encoder.library:
        return f"{encoder.library} {networks.version(encoder.library)}"
    return _source_hash(encoder.network.partition(":")[0]) if encoder.is_named else None


def tables_of(config: CellConfig, manifest: Manifest) -> list[FeatureTable]:
    """Return all tables that a cell uses."""
    return [
        feature_table(frozen, config, manifest, split, mirrored)
        for frozen in kept_inputs(config)
        for split in frozen.splits or tuple(manifest.splits)
        for mirrored in frozen.mirrors(split)
    ]


def needed_tables(configs: Iterable[CellConfig]) -> dict[Path, tuple[FeatureTable, CellConfig, int]]:
    """Return the tables that cells use, by path, each with one cell that does and how many do.

    Cells whose shards are not there are left out. Raises SetupError where pre-trained weights are missing.
    """
    tables: dict[Path, tuple[FeatureTable, CellConfig, int]] = {}
    loaded = cache(manifests.load)
    for config in configs:
        if not manifests.path_of(config.shards).exists():
            continue
        for table in tables_of(config, loaded(config.shards)):
            first = tables.get(table.path, (table, config, 0))
            tables[table.path] = (*first[:2], first[2] + 1)
    return tables


# ---- The file and its record ----


def write_record(table: FeatureTable, partial: Path) -> None:
    """Write what a table holds, once all of it is in `partial`: then that file may take the table's name."""
    array = io.load_array(partial, mapped=True)
    content = {"facts": table.facts, "shape": array.shape, "dtype": str(array.dtype), "sha256": io.sha256(partial)}
    io.write(table.record, io.to_json(content) + "\n")


@cache
def _open_checked(path: Path, facts: str, _mtime: int, _size: int) -> np.ndarray:
    """Return a table, checked; cached as long as the file doesn't change."""
    return _open(path, json.loads(facts))


def _open(path: Path, facts: dict[str, Any]) -> np.ndarray:
    record = read_json(path.with_suffix(".json"))
    remedy = (
        f"remove it and its record ({path.with_suffix('.json').name}), and it is computed again; {COMMAND} finds all"
    )
    if not record:
        raise SetupError(f"{path}: its record is missing or damaged, so what it holds is not known; {remedy}")
    if record.get("facts") != json.loads(json.dumps(facts)):
        raise SetupError(f"{path}: its record says that it holds other features than its name; {remedy}")
    try:
        array = io.load_array(path, mapped=True)
    except ValueError as error:
        raise SetupError(f"{path}: damaged ({error}); {remedy}") from None
    expected = [facts["rows"], *record.get("shape", [])[1:]]
    if list(array.shape) != expected:
        raise SetupError(f"{path}: {array.shape[0]} rows for {facts['rows']} samples: damaged; {remedy}")
    if io.sha256(path) != record.get("sha256"):
        raise SetupError(f"{path}: damaged: its sha256 is not the one that was recorded with it; {remedy}")
    return array
