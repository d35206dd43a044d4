"""The audit of one cell."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clef.audit import interventions
from clef.audit.context_prior import ContextPrior
from clef.audit.interventions import CONTEXT, SHOWING, SUBJECT, Split, of
from clef.audit.measures import measured
from clef.audit.records import VERSION, Audit, Row, Rows, read, write
from clef.cells import records
from clef.cells.identity import check_cell
from clef.config import resolve
from clef.console import Progress
from clef.data import manifest as manifests
from clef.data.dataset import targets
from clef.data.manifest import SOURCE, Manifest
from clef.data.shards import SplitShards
from clef.datasets import cards
from clef.engine import model_io
from clef.engine.model_io import Trained
from clef.errors import CellError, ConfigError


@dataclass(frozen=True)
class Settings:
    """What may be chosen of an audit."""

    draws: int = 5
    """How often every subject is given another's context."""
    seed: int = 0
    """Of those draws."""
    splits: tuple[str, ...] = ()
    """Which are audited; none: the card's test splits."""


def audit(folder: Path, settings: Settings, runtime: dict[str, Any], again: bool, progress: Progress) -> Audit:
    """The audit of a trained cell, from its folder where the same one lies there; else, or `again`, made and written.

    `runtime` overrides where shards lie, workers and device. Raises CellError for a cell that isn't done, ShardError
    for shards that aren't its own, ConfigError for a split that they lack, or that holds too little for an audit.
    """
    weights = records.read_json(folder / records.RESULT).get("run", {}).get("checkpoint", {}).get("sha256")
    if weights is None:
        raise CellError(f"{folder}: not trained to its end ({records.state_of(folder)}); an audit needs its result")
    model = _loaded(folder, runtime)
    manifest = manifests.load(model.config.shards)
    check_cell(folder, model.config, manifest)
    card = cards.load(model.config.dataset, model.config.protocol)
    splits = tuple(dict.fromkeys(settings.splits or card.test_splits))
    if strange := sorted(set(splits) - set(manifest.splits)):
        there = ", ".join(manifest.splits)
        raise ConfigError(f"--split {strange[0]}: no such split in {model.config.shards}; there are: {there}")
    facts = _facts(folder, model, weights, manifest, replace(settings, splits=splits))
    kept = None if again else read(folder)
    if kept and _same(kept.facts, facts):
        return kept
    made = Audit(facts, _rows(model, manifest, splits, settings, progress))
    write(folder, made)
    return made


def _loaded(folder: Path, runtime: dict[str, Any]) -> Trained:
    """The model, with places, workers, threads and device as in training but for what `runtime` says."""
    config = resolve.from_yaml(folder / records.CONFIG)
    changed = config.runtime.model_copy(update=runtime)
    if changed.threads:
        torch.set_num_threads(changed.threads)
    model = model_io.load(folder, device=changed.device)
    return replace(model, config=config.model_copy(update={"runtime": changed}))


def _facts(folder: Path, model: Trained, weights: str, manifest: Manifest, settings: Settings) -> dict[str, Any]:
    config, frames = model.config, manifest.content({SOURCE["context"]})
    return {
        "version": VERSION,
        "cell": folder.name,
        "signature": folder.name.rpartition("-")[2],
        "dataset": config.dataset_name,
        "backbone": config.backbone.name,
        "method": config.method_label,
        "seed": config.seed,
        "metric": cards.load(config.dataset, config.protocol).metric,
        "weights": weights,
        "draws": settings.draws,
        "draws_seed": settings.seed,
        "splits": list(settings.splits),
        "subject": of(config, SUBJECT),
        "context": of(config, CONTEXT),
        "context_shows_subject": of(config, SHOWING),
        # Masked frames are read of every cell; where the cell itself doesn't, its signature doesn't know them.
        "frames": {name: frames[f"{name}/{SOURCE['context']}"] for name in ("train", *settings.splits)},
        "code": records.code_version(),
    }


def _same(kept: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether an audit was made as this one would be; by another commit of the same VERSION, it was."""
    return {**kept, "code": None} == {**wanted, "code": None}


def _rows(
    model: Trained, manifest: Manifest, splits: tuple[str, ...], settings: Settings, progress: Progress
) -> list[Row]:
    config = model.config
    prior = _prior(config.shards, manifest.source, config.runtime.workers)
    rows: list[Row] = []
    for name in splits:
        shards = SplitShards(config.shards, name, manifest)
        split = Split(config, shards)
        _check(name, targets(shards))
        scored = _counting(name, interventions.count(split, settings.draws), progress)
        found = interventions.run(model, split, settings.draws, settings.seed, scored)
        known = Rows(name, model.classes, found.plain["target"])
        rows += measured(config, found, prior.probabilities(shards), known)
    return rows


def _check(name: str, target: np.ndarray) -> None:
    """Refuse a split in which no context can be swapped, or no label can be found."""
    if len(target) < 2:
        raise ConfigError(f"--split {name}: it holds one person, and an audit swaps contexts between people")
    if target.ndim == 2 and not target.any():
        raise ConfigError(f"--split {name}: nobody there has any label: no metric is computed")


@lru_cache(maxsize=1)  # the cells of a grid share it, dataset by dataset
def _prior(shards: Path, source: str, workers: int) -> ContextPrior:
    """The prior of a dataset whose shards were made of that `source`."""
    return ContextPrior(SplitShards(shards, "train"), workers)


def _counting(name: str, total: int, progress: Progress) -> interventions.Scored:
    done = 0

    def scored(more: int) -> None:
        nonlocal done
        done += more
        progress(name, done, total)

    return scored
