"""Features of frozen encoders: computed once for a dataset, kept on disk, shared by every cell that may use them.

A cell may where training sees the frame as evaluation does: no flip, no jitter, no random crop on that input.

CCIM's dictionary: prototypes of masked train contexts (CCIM section 3.3). Built once, kept, shared by all cells.

The features of a frozen network are reduced by PCA and clustered by k-means++; a centre is a confounder z, and the
share of the samples that it holds is its prior P(z).
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clef import io, signals, weights
from clef.config import CcimConfig, CellConfig, DictionaryConfig, EncoderConfig, InputConfig, InputName
from clef.data.dataset import CellDataset
from clef.data.decoded_cache import node_cache
from clef.data.loader import loader, to_device
from clef.data.manifest import SOURCE, Manifest
from clef.data.order import EveryOnce
from clef.data.shards import SplitShards
from clef.errors import ConfigError, SetupError
from clef.methods import Dictionary, Method
from clef.models import WeightLoader
from clef.models.context_branch import FEATURES, ContextBranch, frozen_encoder

BATCH = 64
VERSION = 1
"""Raised when the same encoder would see the same frame otherwise: kept features are then computed anew."""
Say = Callable[[str], None]


class FrozenFeatures:
    """The features of a cell's frozen context branch, for each split; nothing where they can't be used."""

    def __init__(self, config: CellConfig, method: Method, device: torch.device, say: Say) -> None:
        self.config, self.device, self.say = config, device, say
        branch = getattr(method, "context_branch", None) if config.method.branch else None
        self.branch: ContextBranch | None = branch
        self.used = branch is not None and branch.frozen and not config.inputs.images[branch.input].augments
        backbone = method.backbone.reads if method.backbone is not None else ()
        dropped = [branch.input] if self.used and branch is not None and branch.input not in backbone else []
        self.reads = config.inputs.without(*dropped).present
        """The inputs that are left to decode: the branch's own is not, unless the backbone reads it too."""
        self._tables: dict[str, np.ndarray] = {}

    def attach(self, batch: dict[str, Any], split: SplitShards) -> dict[str, Any]:
        """The batch with its features, B,dim float32, if the cell uses them."""
        if not self.used:
            return batch
        self.prepare(split)
        rows = self._tables[split.name][batch["index"].numpy()]
        return batch | {FEATURES: torch.from_numpy(rows)}

    def prepare(self, split: SplitShards) -> None:
        """Have the features of a split ready, which may take long: here, or in another process that has begun."""
        if self.used and split.name not in self._tables:
            self._tables[split.name] = self._table(split)

    def _table(self, split: SplitShards) -> np.ndarray:
        branch = self.config.method.branch
        assert branch is not None
        assert self.branch is not None
        name = branch.input
        recipe = Recipe(branch, "context_branch", name, self.config.inputs.images[name], self.config.seed)
        return features(recipe, self.branch.encoder, split, self.config, self.device, self.say)


class Recipe:
    """What the features of a split depend on, besides the split: the encoder, its weights, and how it sees the frame.

    `seed` gave random weights; it counts only where the weights are random.
    """

    def __init__(self, encoder: EncoderConfig, stated_as: str, name: InputName, image: InputConfig, seed: int) -> None:
        self.encoder, self.stated_as, self.name, self.image, self.seed = encoder, stated_as, name, image, seed

    def key(self, config: CellConfig, manifest: Manifest, split: str) -> str:
        """24 hexadecimal digits."""
        content = manifest.splits[split].content
        facts = {
            "version": VERSION,
            "network": self.encoder.network,
            "width": self.encoder.width,
            "weights": weights.hashes(config).get(self.stated_as, f"random {self.seed}"),
            "input": self.name,
            "image": self.image.model_dump(mode="json", include={"size", "crop", "mean", "std"}),
            "content": [content[SOURCE[self.name]], content["meta.json"]],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def features(
    recipe: Recipe, encoder: nn.Module, split: SplitShards, config: CellConfig, device: torch.device, say: Say
) -> np.ndarray:
    """The features of every sample of a split, N,dim by place, mapped from their file; computed if need be.

    They are float32 whatever the cell computes in.
    """
    key = recipe.key(config, split.manifest, split.name)
    path = Path(config.runtime.features).expanduser() / "features" / f"{split.manifest.dataset}-{split.name}-{key}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with io.lock(path.with_suffix(".lock")):  # of all the cells that start together, one computes
            if not path.exists():
                say(f"computing {recipe.encoder.network} features of {split.name} (once, kept in {path.parent})")
                table = _compute(recipe, encoder, split, config, device)
                with io.atomic(path) as file:
                    np.save(file, table)
    try:
        table = io.load(path, mapped=True)
    except ValueError as error:
        raise SetupError(f"{path}: damaged ({error}); remove that file") from None
    if table.shape[0] != len(split):
        raise SetupError(f"{path}: {table.shape[0]} rows for {len(split)} samples: damaged; remove that file")
    return table


@torch.inference_mode()
def _compute(
    recipe: Recipe, encoder: nn.Module, split: SplitShards, config: CellConfig, device: torch.device
) -> np.ndarray:
    plain = {recipe.name: recipe.image}
    dataset = CellDataset(split, plain, seed=0, augment=False, cache=node_cache(config.runtime))
    encoder = encoder.to(device).eval()
    rows: list[Tensor] = []
    for batch in loader(dataset, EveryOnce(len(split), BATCH, 0, 1), config.runtime.workers):
        signals.leave_if_asked()
        with torch.autocast(device.type, enabled=False):  # cells of other precisions share the table
            rows.append(encoder(to_device(batch, plain, device)[recipe.name]).cpu())
    return torch.cat(rows).numpy()


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
