"""The audit of one cell, from its folder to `audit.json`."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clef.audit.context_prior import ContextPrior
from clef.audit.interventions import (
    AuditSplit,
    ScoredCallback,
    count_predictions,
    inputs_read,
    run_passes,
)
from clef.audit.measures import RowMaker, audit_rows
from clef.cells import records
from clef.cells.audits import VERSION, Audit, AuditRow, read_audit, write_audit
from clef.cells.identity import check_cell
from clef.config import CONTEXT, CONTEXT_SHOWING_SUBJECT, SUBJECT, resolve
from clef.console import Progress
from clef.data import manifest as manifests
from clef.data.dataset import load_targets
from clef.data.manifest import MEMBER_OF_INPUT, Manifest
from clef.data.shards import SplitShards
from clef.engine import model_io
from clef.engine.model_io import TrainedModel
from clef.errors import CellError, ConfigError


@dataclass(frozen=True)
class AuditSettings:
    """What the user chooses about an audit."""

    draws: int = 5
    """How often every subject is given another's context."""
    seed: int = 0
    """The seed of those draws."""
    splits: tuple[str, ...] = ()
    """The splits to audit; empty: the card's test splits."""


def audit_cell(
    folder: Path, settings: AuditSettings, runtime: dict[str, Any], again: bool, progress: Progress
) -> Audit:
    """Return the audit of a trained cell: read from its folder if the same audit is there, else computed and written.

    `again` computes it in any case. `runtime` overrides settings of the cell's `runtime` (shards, workers, device).
    Raises CellError for a cell that is not done, ShardError for shards that are not its own, ConfigError for a split
    that the shards lack, or that holds too little for an audit.
    """
    weights = records.read_json(folder / records.RESULT).get("run", {}).get("checkpoint", {}).get("sha256")
    if weights is None:
        raise CellError(f"{folder}: not trained to its end ({records.state_of(folder)}); an audit needs its result")
    model = _load_model(folder, runtime)
    manifest = manifests.load(model.config.shards)
    check_cell(folder, model.config, manifest)
    splits = tuple(dict.fromkeys(settings.splits or model.config.card.test_splits))
    if unknown := sorted(set(splits) - set(manifest.splits)):
        existing = ", ".join(manifest.splits)
        raise ConfigError(f"--split {unknown[0]}: no such split in {model.config.shards}; there are: {existing}")
    facts = _facts(folder, model, weights, manifest, replace(settings, splits=splits))
    existing_audit = None if again else read_audit(folder)
    if existing_audit and _is_same_audit(existing_audit.facts, facts):
        return existing_audit
    audit = Audit(facts, _audit_splits(model, manifest, splits, settings, progress))
    write_audit(folder, audit)
    return audit


def _load_model(folder: Path, overrides: dict[str, Any]) -> TrainedModel:
    """Load the model with the `runtime` settings of its training, except for `overrides`."""
    config = resolve.from_yaml(folder / records.CONFIG)
    runtime = config.runtime.model_copy(update=overrides)
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    model = model_io.load_trained(folder, device=runtime.device)
    return replace(model, config=config.model_copy(update={"runtime": runtime}))


def _facts(
    folder: Path, model: TrainedModel, weights: str, manifest: Manifest, settings: AuditSettings
) -> dict[str, Any]:
    """Return what the numbers depend on, and what names the cell."""
    config, frames = model.config, manifest.content({MEMBER_OF_INPUT["context"]})
    return {
        "version": VERSION,
        "cell": folder.name,
        "signature": folder.name.rpartition("-")[2],
        "dataset": config.dataset_name,
        "backbone": config.backbone_name,
        "method": config.method_label,
        "seed": config.seed,
        "metric": config.card.metric,
        "weights": weights,
        "draws": settings.draws,
        "draws_seed": settings.seed,
        "splits": list(settings.splits),
        "subject": inputs_read(config, SUBJECT),
        "context": inputs_read(config, CONTEXT),
        "context_shows_subject": inputs_read(config, CONTEXT_SHOWING_SUBJECT),
        # The context prior reads the masked frames of every cell; the signature of a cell that does not read them
        # itself says nothing about them.
        "frames": {name: frames[f"{name}/{MEMBER_OF_INPUT['context']}"] for name in ("train", *settings.splits)},
        "code": records.code_version(),
    }


def _is_same_audit(existing: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Compare the facts of two audits. Another commit of the same VERSION gives the same numbers."""
    return {**existing, "code": None} == {**wanted, "code": None}


def _audit_splits(
    model: TrainedModel, manifest: Manifest, splits: tuple[str, ...], settings: AuditSettings, progress: Progress
) -> list[AuditRow]:
    config = model.config
    prior = _fit_prior(config.shards, manifest.source, config.runtime.num_workers)
    rows: list[AuditRow] = []
    for name in splits:
        shards = SplitShards(config.shards, name, manifest)
        split = AuditSplit(config, shards)
        _check_split(name, load_targets(shards))
        on_scored = _progress_callback(name, count_predictions(split, settings.draws), progress)
        passes = run_passes(model, split, settings.draws, settings.seed, on_scored)
        maker = RowMaker(name, model.classes, passes.plain["target"], config.card.metric)
        numbers = audit_rows(config, passes, prior.probabilities(shards), maker)
        rows += [row for row in numbers if not np.isnan(row.value)]  # what is undefined is left out
    return rows


def _check_split(name: str, target: np.ndarray) -> None:
    """Refuse a split in which no context can be swapped, or which has no label at all."""
    if len(target) < 2:
        raise ConfigError(f"--split {name}: it holds one person, and an audit swaps contexts between people")
    if target.ndim == 2 and not target.any():
        raise ConfigError(f"--split {name}: nobody there has any label: no metric is computed")


@lru_cache(maxsize=1)  # the cells of a grid share it, dataset by dataset
def _fit_prior(shards: Path, source: str, workers: int) -> ContextPrior:
    """Fit the context prior on train. `source` is the shards' fingerprint: it is fitted again for new shards there."""
    return ContextPrior(SplitShards(shards, "train"), workers)


def _progress_callback(name: str, total: int, progress: Progress) -> ScoredCallback:
    """Return a callback that sums up what has been scored and passes the sum to `progress`."""
    done = 0

    def on_scored(more: int) -> None:
        nonlocal done
        done += more
        progress(name, done, total)

    return on_scored
