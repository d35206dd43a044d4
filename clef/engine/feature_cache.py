"""What frozen networks compute once and all cells share, on disk: features, and CCIM's dictionary of confounders.

A cell may use kept features of a frozen encoder where training sees no more than two pictures of a sample: as it is,
and mirrored. Color jitter and random crops need the network itself. `clef.cells.feature_tables` says what a table
depends on. A cell all of whose inputs are kept opens no picture: its batches come from tables in memory.

CCIM's dictionary holds prototypes of the masked train contexts (CCIM section 3.3). The features of a frozen network
are reduced by PCA and clustered by k-means++; a center is a confounder z, and the share of the samples that it holds
is its prior P(z).
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from clef import io, signals, weights
from clef.cells import feature_tables
from clef.cells.feature_tables import DTYPES, FeatureTable, feature_table
from clef.cells.records import read_json
from clef.config import CellConfig, DictionaryConfig, DictionaryMethodConfig, InputName
from clef.data import coins
from clef.data.batch_memory import Batch
from clef.data.dataset import CellDataset
from clef.data.decoded_cache import node_cache
from clef.data.loader import BatchLoader, Items, to_device
from clef.data.manifest import KINDS, MEMBER_OF_INPUT
from clef.data.order import EvaluationBatches
from clef.data.shards import SplitShards
from clef.errors import ConfigError, SetupError, raise_if_system_error
from clef.methods import ConfounderDictionary, Method
from clef.models import WeightLoader
from clef.models.frozen import FEATURES, FrozenEncoder
from clef.models.pretrained import Pretrained

BATCH_SIZE = 64
SAVE_SECONDS = 10.0
"""Between two notes of how far a computation is, from which another process can go on."""
T = TypeVar("T")
Say = Callable[[str], None]
Progress = Callable[[int, int], None]
"""Called with how many rows are done, and how many there are."""


# ---- A cell's features ----


class FrozenFeatures:
    """The features of a cell's frozen encoders, for each split; none where they can't be kept."""

    def __init__(self, config: CellConfig, method: Method, device: torch.device, say: Say) -> None:
        self.config, self.device, self.say = config, device, say
        encoders = {encoder.role: encoder for encoder in method.frozen_encoders()}
        kept = [each for each in feature_tables.kept_inputs(config) if each.role in encoders]
        self.kept = {each.role: (each, encoders[each.role]) for each in kept}
        """The encoders whose features are kept, by role."""
        self.decoded_inputs = config.inputs.without(*self._unread(method)).present
        """The inputs to decode: not those that only encoders with kept features read."""
        self._tables: dict[tuple[str, str, bool], Tensor] = {}
        """By role, split and whether mirrored: N,dim, float32 or float16."""

    def _unread(self, method: Method) -> set[InputName]:
        streams = {e.role for e in method.backbone.frozen_encoders()} if method.backbone is not None else set()
        backbone = set(method.backbone.reads) - (streams & self.kept.keys()) if method.backbone is not None else set()
        branch = self.config.method.branch
        others = {branch.input} if branch and "context_branch" not in self.kept else set()
        return {each.input for each, _ in self.kept.values()} - backbone - others

    def prepare(self, split: SplitShards) -> None:
        """Get the features of a split ready, which may take long: here, or in another process that has begun."""
        for role, (frozen, encoder) in self.kept.items():
            for mirrored in frozen.mirrors(split.name):
                if (role, split.name, mirrored) not in self._tables:
                    table = feature_table(frozen, self.config, split.manifest, split.name, mirrored)
                    array = computed_table(table, encoder, split, self.config, self.device, self.say)
                    self._tables[role, split.name, mirrored] = torch.from_numpy(array)

    def add_features(self, batch: Batch, split: SplitShards, epochs: np.ndarray | None = None) -> Batch:
        """Return the batch with features, B,dim float32, of all encoders that have them, and which inputs are there.

        `epochs`, B: those of the samples in training, where some are mirrored; None in evaluation.
        """
        if not self.kept:
            return batch
        self.prepare(split)
        index = batch["index"]
        mirrored = None if epochs is None else torch.from_numpy(self._mirrored(split, index.numpy(), epochs))
        features = {role: self._rows(role, split, index, mirrored) for role in self.kept}
        present = _present(split)
        valid = {
            each.input: present[each.input].index_select(0, index)
            for each, _ in self.kept.values()
            if each.input not in batch.get("valid", {})
        }
        return batch | {FEATURES: features, "valid": batch.get("valid", {}) | valid}

    def _rows(self, role: str, split: SplitShards, index: Tensor, mirrored: Tensor | None) -> Tensor:
        rows = self._tables[role, split.name, False].index_select(0, index)
        if mirrored is not None and self.kept[role][0].image.flip:
            rows[mirrored] = self._tables[role, split.name, True].index_select(0, index[mirrored])
        return rows.float()

    def _mirrored(self, split: SplitShards, index: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """Return which samples of a batch are mirrored: B bool, by the coins of augmentation."""
        result = np.empty(len(index), bool)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            of_epoch = epochs == epoch
            result[of_epoch] = coins.mirrored(self.config.seed, epoch, len(split))[index[of_epoch]]
        return result

    def batches(self, split: SplitShards, items: Iterable[Items], augment: bool) -> Generator[Batch, None, None]:
        """Yield a batch for each list of (epoch, index), on the host; features are yet to be added.

        Where no input is left to decode, nothing but labels is read, and these from memory.
        """
        if self.decoded_inputs:
            cache, workers = node_cache(self.config.runtime), self.config.runtime.num_workers
            blanks = self.config.method.blanks_subject(training=augment)
            dataset = CellDataset(split, self.decoded_inputs, self.config.seed, augment, cache, without_subject=blanks)
            yield from BatchLoader(dataset, items, workers)
            return
        labels = split_labels(split, self.config)
        for batch in items:
            index = torch.tensor([index for _, index in batch])
            yield {"index": index} | {name: values.index_select(0, index) for name, values in labels.items()}


_shared: dict[tuple[Any, ...], Any] = {}
"""What the cells that this process trains have in common, by what it depends on."""


def _once(key: tuple[Any, ...], make: Callable[[], T]) -> T:
    if key not in _shared:
        _shared[key] = make()
    value: T = _shared[key]
    return value


def _present(split: SplitShards) -> dict[str, Tensor]:
    """Return which samples of a split have each input: N bool."""

    def read() -> dict[str, Tensor]:
        there = np.asarray(split.rows["size"]) >= 0
        return {name: torch.from_numpy(there[:, KINDS.index(kind)]) for name, kind in MEMBER_OF_INPUT.items()}

    return _once(("present", split.root, split.name, split.split.index_sha256), read)


LABELS_VERSION = 1
"""Raised when the same people would have other targets."""


def split_labels(split: SplitShards, config: CellConfig) -> dict[str, Tensor]:
    """Return `target`, N,K float32 or N int64, and where the set has it `vad`, N,3, of a split.

    They are read once from the shards and kept on disk, and once from there in each process. Raises SetupError for a
    damaged file.
    """
    manifest = split.manifest
    facts = [
        LABELS_VERSION,
        split.split.content["meta.json"],
        manifest.task,
        manifest.classes,
        manifest.vad,
        len(split),
    ]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    path = Path(config.runtime.features) / "labels" / f"{manifest.dataset}-{split.name}-{key}.npz"
    return _once(("labels", path), lambda: _read_labels(split, path))


def _read_labels(split: SplitShards, path: Path) -> dict[str, Tensor]:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with io.lock(path.with_suffix(".lock")):
            if not path.exists():
                _write_labels(split, path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise_if_system_error(error, path)
        raise SetupError(f"{path}: damaged ({error}); remove that file, and it is written again") from None


def _write_labels(split: SplitShards, path: Path) -> None:
    dataset = CellDataset(split, {}, seed=0, augment=False)
    batches = list(BatchLoader(dataset, EvaluationBatches(len(split), 1024, 0, 1), workers=0))
    names = [name for name in ("target", "vad") if name in batches[0]]
    arrays: dict[str, Any] = {name: torch.cat([batch[name] for batch in batches]).numpy() for name in names}
    with io.atomic(path) as file:
        np.savez(file, **arrays)


# ---- Tables ----


def computed_table(
    table: FeatureTable,
    encoder: FrozenEncoder,
    split: SplitShards,
    config: CellConfig,
    device: torch.device,
    say: Say,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return the features of every sample of a split, N,dim by index, mapped from their file; compute them if need be.

    Of all processes that want them, the first computes, and the others wait. They are computed in float32 whatever the
    cell computes in. Raises SetupError for a damaged file.
    """
    if not table.path.exists():
        table.path.parent.mkdir(parents=True, exist_ok=True)
        with io.lock(table.path.with_suffix(".lock")):
            if not table.path.exists():
                what = f"{table.split}{' (mirrored)' if table.mirrored else ''}"
                say(f"computing {encoder.config.network} features of {what} (once, kept in {table.path.parent})")
                _compute(table, encoder, split, config, device, progress or _spoken(what, say))
    return table.open()


@torch.inference_mode()
def _compute(
    table: FeatureTable,
    encoder: FrozenEncoder,
    split: SplitShards,
    config: CellConfig,
    device: torch.device,
    progress: Progress,
) -> None:
    """Write a table, from where another process was interrupted if one was."""
    inputs = {table.frozen.input: table.frozen.image}
    cache_ = node_cache(config.runtime)
    dataset = CellDataset(split, inputs, seed=0, augment=False, cache=cache_, mirrored=table.mirrored)
    rows, done = _open_partial(table, encoder.dim)
    indices = range(done, len(split))
    batches = [[(0, index) for index in indices[i : i + BATCH_SIZE]] for i in range(0, len(indices), BATCH_SIZE)]
    saved_at = time.monotonic()
    for batch in BatchLoader(dataset, batches, config.runtime.num_workers):
        if signals.stop_requested():
            _note_progress(table, rows, done)
        signals.raise_if_stop_requested()
        features = encoder.encode(to_device(batch, inputs, device)[table.frozen.input]).cpu().numpy()
        rows[done : done + len(features)] = features
        done += len(features)
        progress(done, len(split))
        if time.monotonic() > saved_at + SAVE_SECONDS:
            _note_progress(table, rows, done)
            saved_at = time.monotonic()
    rows.flush()
    del rows
    feature_tables.write_record(table, table.partial)
    table.partial.rename(table.path)
    io.flush_folder(table.path.parent)
    _position_of(table).unlink(missing_ok=True)


def _open_partial(table: FeatureTable, dim: int) -> tuple[np.memmap, int]:
    """Return the file that a table is computed into, N,dim, and how many of its rows are there already."""
    shape, dtype = (table.rows, dim), np.dtype(DTYPES[table.frozen.encoder.features])
    known = read_json(_position_of(table))
    if known.get("facts") == json.loads(json.dumps(table.facts)):
        try:
            io.load_array(table.partial, mapped=True)  # "r+" would fill up a file that was cut short, with zeros
            rows = open_memmap(table.partial, mode="r+")
            if rows.shape == shape and rows.dtype == dtype:
                return rows, int(known["rows"])
        except (OSError, ValueError) as error:  # damaged: from the start
            raise_if_system_error(error, table.partial)
    _position_of(table).unlink(missing_ok=True)
    rows = open_memmap(table.partial, mode="w+", dtype=dtype, shape=shape)
    try:
        with table.partial.open("r+b") as file:  # on a full disk, a write to a mapped file would end the process
            os.posix_fallocate(file.fileno(), 0, table.partial.stat().st_size)
    except OSError:
        table.partial.unlink()
        raise
    return rows, 0


def _note_progress(table: FeatureTable, rows: np.memmap, done: int) -> None:
    """Write how many rows are on disk, once they are."""
    rows.flush()
    io.write(_position_of(table), io.to_json({"facts": table.facts, "rows": done}))


def _position_of(table: FeatureTable) -> Path:
    return table.path.with_suffix(".partial.json")


SPOKEN_SECONDS = 30.0
"""Between two lines on a table that a cell computes."""


def _spoken(what: str, say: Say) -> Progress:
    """Return a progress that says now and then how far it is."""
    said_at = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal said_at
        if done < total and time.monotonic() > said_at + SPOKEN_SECONDS:
            said_at = time.monotonic()
            say(f"features of {what}: {done:,} of {total:,}")

    return progress


def compute_tables(
    tables: Iterable[tuple[FeatureTable, CellConfig]], device: torch.device, bar: Callable[[FeatureTable], Progress]
) -> None:
    """Compute the tables that are missing, each for a cell that uses it. `bar` gives the progress of a table."""
    encoder, built = None, None
    for table, config in sorted(tables, key=lambda each: json.dumps(_network_of(each[0]))):
        frozen = table.frozen
        if built != _network_of(table):  # one network in memory at a time
            load = Pretrained(config)
            encoder = FrozenEncoder(frozen.role, frozen.input, frozen.encoder, load, frozen.seed)
            built = _network_of(table)
        assert encoder is not None
        split = SplitShards(config.shards, table.split)
        computed_table(table, encoder, split, config, device, lambda _: None, bar(table))


def _network_of(table: FeatureTable) -> list[Any]:
    return [table.facts[key] for key in ("network", "width", "weights", "precision")]


# ---- CCIM's dictionary ----

DICTIONARY_VERSION = 2
"""Raised when the same features would give other files."""
KMEANS_RESTARTS = 4
"""Runs of k-means++ from other starts; the tightest is kept."""


def cached_dictionary(
    config: CellConfig, load: WeightLoader, split: SplitShards, device: torch.device, say: Say
) -> ConfounderDictionary:
    """Return the confounders of a cell's train split, from their file; build them if need be."""
    method = config.method
    assert isinstance(method, DictionaryMethodConfig)
    settings = method.dictionary
    frozen = next(each for each in feature_tables.frozen_inputs(config) if each.role == weights.DICTIONARY)
    table = feature_table(frozen, config, split.manifest, split.name)
    facts = [DICTIONARY_VERSION, table.path.name, settings.size, settings.components, settings.seed, KMEANS_RESTARTS]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    path = Path(config.runtime.features) / "dictionaries" / f"{split.manifest.dataset}-{key}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with io.lock(path.with_suffix(".lock")):
        if not path.exists():
            encoder = FrozenEncoder(frozen.role, frozen.input, settings, load, settings.seed)
            features = computed_table(table, encoder, split, config, device, say)
            centers, clusters = cluster_features(features.astype(np.float32), settings)
            with io.atomic(path) as file:
                np.savez(file, centers=centers, clusters=clusters)
    with np.load(path, allow_pickle=False) as arrays:
        centers, clusters = arrays["centers"], arrays["clusters"]
    prior = (np.bincount(clusters, minlength=settings.size) / len(clusters)).astype(np.float32)
    return ConfounderDictionary(*map(torch.from_numpy, (centers, prior, clusters)))


def cluster_features(table: np.ndarray, config: DictionaryConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return centers N,d float32 and the cluster of each sample, M int64, of features M,dim.

    Sums depend on the number of threads, so scikit-learn gets as many as PyTorch, whatever else the environment says.
    Raises ConfigError when samples or dimensions are too few.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    samples, dim = table.shape
    if config.size > samples:
        raise ConfigError(f"method.dictionary.size: {config.size} clusters of {samples} train samples; ask for fewer")
    if config.components is not None and config.components > min(samples, dim):
        raise ConfigError(
            f"method.dictionary.components: {config.components} of {samples} samples of {dim} features; ask for "
            f"at most {min(samples, dim)}"
        )
    with threadpool_limits(torch.get_num_threads()):
        if config.components is not None:
            table = PCA(config.components, random_state=config.seed).fit_transform(table)
        clusters = KMeans(config.size, init="k-means++", n_init=KMEANS_RESTARTS, random_state=config.seed).fit(table)
    return clusters.cluster_centers_.astype(np.float32), clusters.labels_.astype(np.int64)
