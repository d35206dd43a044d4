"""CCIM's dictionary: prototypes of masked train contexts (CCIM section 3.3). Built once, kept, shared by all cells.

The features of a frozen network are reduced by PCA and clustered by k-means++; a centre is a confounder z, and the
share of the samples that it holds is its prior P(z).
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from clef import io
from clef.config import CcimConfig, CellConfig, DictionaryConfig
from clef.data.shards import SplitShards
from clef.engine.frozen import Recipe, Say, features
from clef.errors import ConfigError
from clef.methods import Dictionary
from clef.models import WeightLoader
from clef.models.context_branch import frozen_encoder

RESTARTS = 4
"""Runs of k-means++ from other starts; the tightest is kept."""


def dictionary(
    config: CellConfig, load: WeightLoader, split: SplitShards, device: torch.device, say: Say
) -> Dictionary:
    """The confounders of a cell's train split, kept ones or built now."""
    method = config.method
    assert isinstance(method, CcimConfig)
    chosen = method.dictionary
    recipe = Recipe(chosen, "dictionary", "context", chosen.input, chosen.seed)
    facts = [recipe.key(config, split.manifest, split.name), chosen.size, chosen.components, chosen.seed, RESTARTS]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    path = Path(config.runtime.features).expanduser() / "dictionaries" / f"{split.manifest.dataset}-{key}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with io.lock(path.with_suffix(".lock")):
        if not path.exists():
            encoder = frozen_encoder(chosen, "dictionary", load, chosen.seed)
            centres, prior = build(features(recipe, encoder, split, config, device, say), chosen)
            with io.atomic(path) as file:
                np.savez(file, centres=centres, prior=prior)
    with np.load(path, allow_pickle=False) as made:
        return Dictionary(torch.from_numpy(made["centres"]), torch.from_numpy(made["prior"]))


def build(table: np.ndarray, config: DictionaryConfig) -> tuple[np.ndarray, np.ndarray]:
    """Centres N,d and prior N, float32, from features M,dim. ConfigError when samples or dimensions are too few."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    samples, dim = table.shape
    if config.size > samples:
        raise ConfigError(f"method.dictionary.size: {config.size} clusters of {samples} train samples; ask for fewer")
    if config.components is not None:
        if config.components > min(samples, dim):
            raise ConfigError(
                f"method.dictionary.components: {config.components} of {samples} samples of {dim} features; ask for "
                f"at most {min(samples, dim)}"
            )
        table = PCA(config.components, random_state=config.seed).fit_transform(table)
    clusters = KMeans(config.size, init="k-means++", n_init=RESTARTS, random_state=config.seed).fit(table)
    prior = np.bincount(clusters.labels_, minlength=config.size) / samples
    return clusters.cluster_centers_.astype(np.float32), prior.astype(np.float32)
