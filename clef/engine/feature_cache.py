"""What frozen networks compute once and all cells share, on disk: features, and CCIM's dictionary of confounders.

A cell may use kept features of its frozen context branch where training sees the frame as evaluation does: no flip, no
jitter, no random crop on that input.

CCIM's dictionary holds prototypes of the masked train contexts (CCIM section 3.3). The features of a frozen network
are reduced by PCA and clustered by k-means++; a center is a confounder z, and the share of the samples that it holds
is its prior P(z).
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clef import io, signals, weights
from clef.config import CcimConfig, CellConfig, DictionaryConfig, EncoderConfig, InputConfig, InputName
from clef.data.batch_memory import Batch
from clef.data.dataset import CellDataset
from clef.data.decoded_cache import node_cache
from clef.data.loader import BatchLoader, to_device
from clef.data.manifest import MEMBER_OF_INPUT, Manifest
from clef.data.order import EvaluationBatches
from clef.data.shards import SplitShards
from clef.errors import ConfigError, SetupError
from clef.methods import ConfounderDictionary, Method
from clef.models import WeightLoader
from clef.models.frozen import FEATURES, FrozenEncoder

BATCH_SIZE = 64
VERSION = 1
"""Raised when the same encoder would see the same frame otherwise: kept features are then computed again."""
Say = Callable[[str], None]

# ---- Features ----


class FrozenFeatures:
    """The features of a cell's frozen context branch, for each split; nothing where they can't be used."""

    def __init__(self, config: CellConfig, method: Method, device: torch.device, say: Say) -> None:
        self.config, self.device, self.say = config, device, say
        branch = next((e for e in method.frozen_encoders() if e.role == "context_branch"), None)
        self.encoder = None if branch is None or config.inputs.images[branch.input].augments else branch
        self.used = self.encoder is not None
        backbone_reads = method.backbone.reads if method.backbone is not None else ()
        dropped = [self.encoder.input] if self.encoder and self.encoder.input not in backbone_reads else []
        self.decoded_inputs = config.inputs.without(*dropped).present
        """The inputs to decode. A frozen context branch gets features in place of its own, which is decoded only if the
        backbone reads it too."""
        self._tables: dict[str, np.ndarray] = {}
        """By split: N,dim float32."""

    def add_features(self, batch: Batch, split: SplitShards) -> Batch:
        """Return the batch with its features, B,dim float32, if the cell uses them."""
        if not self.used:
            return batch
        self.prepare(split)
        rows = self._tables[split.name][batch["index"].numpy()]
        return batch | {FEATURES: {"context_branch": torch.from_numpy(rows)}}

    def prepare(self, split: SplitShards) -> None:
        """Get the features of a split ready, which may take long: here, or in another process that has begun."""
        if not self.used or split.name in self._tables:
            return
        assert self.encoder is not None
        image = self.config.inputs.images[self.encoder.input]
        recipe = FeatureRecipe(self.encoder.config, self.encoder.role, self.encoder.input, image, self.config.seed)
        table = cached_features(recipe, self.encoder, split, self.config, self.device, self.say)
        self._tables[split.name] = table


class FeatureRecipe:
    """What the features of a split depend on, besides the split: the encoder, its weights, and how it sees the frame.

    `role`: the encoder's name in `clef.weights`. `seed` gave random weights; it counts only where weights are random.
    """

    def __init__(self, encoder: EncoderConfig, role: str, name: InputName, image: InputConfig, seed: int) -> None:
        self.encoder, self.role, self.name, self.image, self.seed = encoder, role, name, image, seed

    def key(self, config: CellConfig, manifest: Manifest, split: str) -> str:
        """Return 24 hexadecimal digits that name these features of a split."""
        content = manifest.splits[split].content
        facts = {
            "version": VERSION,
            "network": self.encoder.network,
            "width": self.encoder.width,
            "precision": self.encoder.features,
            "weights": weights.hashes(config).get(self.role, f"random {self.seed}"),
            "input": self.name,
            "image": self.image.model_dump(mode="json", exclude={"flip", "jitter"}),
            "content": [content[MEMBER_OF_INPUT[self.name]], content["meta.json"]],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def cached_features(
    recipe: FeatureRecipe,
    encoder: FrozenEncoder,
    split: SplitShards,
    config: CellConfig,
    device: torch.device,
    say: Say,
) -> np.ndarray:
    """Return the features of every sample of a split, N,dim by index, mapped from their file; compute them if need be.

    They are float32 whatever the cell computes in. Raises SetupError for a damaged file.
    """
    key = recipe.key(config, split.manifest, split.name)
    path = Path(config.runtime.features) / "features" / f"{split.manifest.dataset}-{split.name}-{key}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with io.lock(path.with_suffix(".lock")):  # of all the cells that start together, one computes
            if not path.exists():
                say(f"computing {recipe.encoder.network} features of {split.name} (once, kept in {path.parent})")
                table = _compute_features(recipe, encoder, split, config, device)
                with io.atomic(path) as file:
                    np.save(file, table)
    try:
        table = io.load_array(path, mapped=True)
    except ValueError as error:
        raise SetupError(f"{path}: damaged ({error}); remove that file") from None
    if table.shape[0] != len(split):
        raise SetupError(f"{path}: {table.shape[0]} rows for {len(split)} samples: damaged; remove that file")
    return table


@torch.inference_mode()
def _compute_features(
    recipe: FeatureRecipe, encoder: FrozenEncoder, split: SplitShards, config: CellConfig, device: torch.device
) -> np.ndarray:
    inputs = {recipe.name: recipe.image}
    dataset = CellDataset(split, inputs, seed=0, augment=False, cache=node_cache(config.runtime))
    rows: list[Tensor] = []
    for batch in BatchLoader(dataset, EvaluationBatches(len(split), BATCH_SIZE, 0, 1), config.runtime.num_workers):
        signals.raise_if_stop_requested()
        rows.append(encoder.encode(to_device(batch, inputs, device)[recipe.name]).cpu())
    return torch.cat(rows).numpy()


# ---- CCIM's dictionary ----

KMEANS_RESTARTS = 4
"""Runs of k-means++ from other starts; the tightest is kept."""


def cached_dictionary(
    config: CellConfig, load: WeightLoader, split: SplitShards, device: torch.device, say: Say
) -> ConfounderDictionary:
    """Return the confounders of a cell's train split, from their file; build them if need be."""
    method = config.method
    assert isinstance(method, CcimConfig)
    settings = method.dictionary
    recipe = FeatureRecipe(settings, "dictionary", "context", settings.input, settings.seed)
    features_key = recipe.key(config, split.manifest, split.name)
    facts = [features_key, settings.size, settings.components, settings.seed, KMEANS_RESTARTS]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    path = Path(config.runtime.features) / "dictionaries" / f"{split.manifest.dataset}-{key}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with io.lock(path.with_suffix(".lock")):
        if not path.exists():
            encoder = FrozenEncoder("dictionary", "context", settings, load, settings.seed)
            centers, prior = cluster_features(cached_features(recipe, encoder, split, config, device, say), settings)
            with io.atomic(path) as file:
                np.savez(file, centres=centers, prior=prior)
    with np.load(path, allow_pickle=False) as arrays:
        return ConfounderDictionary(torch.from_numpy(arrays["centres"]), torch.from_numpy(arrays["prior"]))


def cluster_features(table: np.ndarray, config: DictionaryConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return centers N,d and prior N, float32, of features M,dim.

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
    prior = np.bincount(clusters.labels_, minlength=config.size) / samples
    return clusters.cluster_centers_.astype(np.float32), prior.astype(np.float32)
