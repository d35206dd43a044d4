"""Score a trained cell's weights again, and compare the numbers with the recorded ones. No training."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from clef import console, io
from clef.cells import predictions as kept_predictions
from clef.cells import records
from clef.cells.identity import check_cell
from clef.config import CellConfig, resolve
from clef.console import Progress
from clef.data import manifest as manifests
from clef.data.manifest import Manifest
from clef.data.shards import SplitShards
from clef.engine import provenance
from clef.engine.evaluation import Arrays, evaluate, sample_groups
from clef.engine.feature_cache import FrozenFeatures
from clef.engine.model_io import find_weights, restore_method
from clef.engine.run import running_ranks
from clef.errors import CellError, ConfigError, raise_if_system_error
from clef.methods import Method
from clef.metrics import summary
from clef.weights import check_frozen


@dataclass(frozen=True)
class Score:
    """The metrics of some weights on a split, and how they compare with what the cell recorded of them."""

    cell: str
    split: str
    weights: Path
    sha256: str
    metric: str
    summary: dict[str, Any]
    recorded: dict[str, Any] | None
    """What the cell says of the same weights: `value`, and for the test splits all of the summary."""
    difference: float | None
    """The largest difference to the cell's predictions: 0 if every bit is the same, None if it kept none."""
    environment: dict[str, Any]
    changed: dict[str, list[Any]]
    """What may move a score and isn't as it was, by name: [before, now]."""

    @property
    def reproduced(self) -> bool | None:
        """Return whether the recorded metrics and predictions came out again, every bit; None where there are none."""
        if self.recorded is None:
            return None
        same = all(self.summary[key] == value for key, value in self.recorded.items())
        return same and self.difference in (None, 0.0)

    def as_json(self) -> dict[str, Any]:
        """Return all of it, as `--json` writes it."""
        facts = {
            "cell": self.cell, "split": self.split, "weights": str(self.weights), "sha256": self.sha256,
            "metric": self.metric,
        }  # fmt: skip
        compared = {"recorded": self.recorded, "reproduced": self.reproduced, "largest_difference": self.difference}
        return facts | self.summary | compared | {"changed": self.changed, "environment": self.environment}


def rescore(
    folder: Path,
    split: str,
    checkpoint: str | None = None,
    runtime: dict[str, Any] | None = None,
    predictions: Path | None = None,
    progress: Progress | None = None,
) -> Score:
    """Score a cell's weights (`clef.engine.model_io.find_weights`) on a split of its shards. Called by all ranks.

    `runtime` overrides where things lie, workers and device. Nothing is written into the cell; `predictions` is a
    file to write them to. Raises ConfigError, ShardError, SetupError or CellError before anything is computed.
    """
    config = resolve.from_yaml(folder / records.CONFIG)
    config = config.model_copy(update={"runtime": config.runtime.model_copy(update=runtime or {})})
    manifest = manifests.load(config.shards)
    if split not in manifest.splits:
        raise ConfigError(f"--split {split}: no such split in {config.shards}; there are: {', '.join(manifest.splits)}")
    check_cell(folder, config, manifest)
    check_frozen(config, records.read_environment(folder).get("weights", {}))
    weights, shards = find_weights(folder, checkpoint), SplitShards(config.shards, split, manifest)
    with running_ranks(config) as accelerator:
        method = restore_method(config, weights, accelerator.device)
        main = accelerator.is_main_process
        if progress and main:
            _report_progress(method, shards, accelerator.num_processes, progress)
        say = console.err.print if main else _print_nothing
        frozen = FrozenFeatures(config, method, accelerator.device, say)
        arrays = evaluate(method, config, shards, accelerator, frozen) | {
            "group": sample_groups(shards, config.card.block)
        }
        if predictions and main:
            with io.atomic(predictions) as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        return _compare_with_record(folder, config, manifest, split, weights, arrays, accelerator)


def _print_nothing(_: str) -> None:
    pass


def _report_progress(method: Method, shards: SplitShards, ranks: int, progress: Progress) -> None:
    """Call `progress` with the samples that have passed through `method`, after each of its batches."""
    done = 0

    def count(_: Any, inputs: tuple[dict[str, Any]], __: Any) -> None:
        nonlocal done
        done = min(len(shards), done + ranks * len(inputs[0]["index"]))
        progress(shards.name, done, len(shards))

    method.register_forward_hook(count)


def _compare_with_record(
    folder: Path,
    config: CellConfig,
    manifest: Manifest,
    split: str,
    weights: Path,
    arrays: Arrays,
    accelerator: Accelerator,
) -> Score:
    metric = config.card.metric
    sha256 = io.sha256(weights)
    recorded = _recorded_score(folder, weights, sha256, split)
    predictions = kept_predictions.path_of(folder, split)
    comparable = recorded is not None and "samples" in recorded and predictions.exists()
    environment = provenance.process_facts(config, manifest, accelerator)
    return Score(
        cell=folder.name,
        split=split,
        weights=weights,
        sha256=sha256,
        metric=metric,
        summary=summary(arrays, manifest.classes, metric),
        recorded=recorded,
        difference=_difference(predictions, split, arrays) if comparable else None,
        environment=environment,
        changed=provenance.differences(records.read_environment(folder), environment),
    )


def _recorded_score(folder: Path, weights: Path, sha256: str, split: str) -> dict[str, Any] | None:
    """Return what the cell has recorded of these weights on this split."""
    result = records.read_json(folder / records.RESULT)
    if sha256 == result.get("run", {}).get("checkpoint", {}).get("sha256"):
        validated = None if result["val"] is None else {"value": result["val"]}
        scored: dict[str, Any] | None = validated if split == "val" else result["splits"].get(split)
        return scored
    step = weights.parent.name.removeprefix("step-")
    if split != "val" or weights.parent.parent != folder / "checkpoints" or not step.isdigit():
        return None
    lines = [json.loads(line) for line in (folder / records.LOG).read_text(encoding="utf-8").splitlines()]
    values = [line["val"] for line in lines if line.get("val") is not None and line["step"] == int(step)]
    return {"value": values[-1]} if values else None


def _difference(path: Path, split: str, arrays: Arrays) -> float:
    """Return the largest difference to the predictions in a file. Raises CellError when they can't be compared."""
    try:
        kept = kept_predictions.read(path, split)
    except (OSError, ValueError) as error:
        raise_if_system_error(error, path)
        raise CellError(f"{path}: predictions can't be read: {error}") from None
    if set(kept) != set(arrays) or any(kept[key].shape != arrays[key].shape for key in arrays):
        raise CellError(f"{path}: predictions of another method or split; they can't be compared")
    return max(_largest_difference(kept[key], value) for key, value in arrays.items())


def _largest_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Return the largest difference; two unknown values don't differ."""
    same = np.isnan(first) & np.isnan(second) if first.dtype.kind == "f" else False
    return float(np.where(same, 0, np.abs(first.astype(float) - second)).max())
