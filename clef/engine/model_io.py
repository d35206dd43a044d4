"""Trained models read back from a cell's folder: no shards, no training; of pre-trained files, only frozen encoders'.

For `clef.load` (`load_trained`), for scoring again (`restore_method`), and for two-stage training: a CLEF cell
that starts from the backbone of a trained vanilla cell, its parent (`load_parent_backbone`).
"""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from clef import io, methods, weights
from clef.cells import lookup, records
from clef.cells.identity import check_cell
from clef.config import AnyInput, CellConfig, InputName, resolve
from clef.data import manifest as manifests
from clef.data.batch_memory import Batch, Field
from clef.data.dataset import evaluated_dataset, frames_showing_subject, input_field
from clef.data.loader import BatchLoader, to_device
from clef.data.order import EvaluationBatches
from clef.data.shards import SplitShards
from clef.engine import atomic_dir, checkpoint
from clef.errors import CellError, ConfigError, raise_if_system_error
from clef.methods import ConfounderDictionary, Method, Prediction

BEST, LAST = "best", "last"
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TrainedModel:
    """A trained cell: its config, the names of its K classes, and the network itself, in evaluation mode."""

    folder: Path
    config: CellConfig
    classes: list[str]
    method: Method
    device: torch.device

    def predict(self, batch: Batch) -> Prediction:
        """Return scores B,K and effects for a batch as `batches` gives them, or one of your own.

        Of that, only the inputs in `config.inputs` are needed: images uint8, B,3,H,W in RGB, of the size (or crop)
        stated there, the subject black in `context`. `valid`, where there is one, says by input whether each sample has
        it. Computed in the cell's precision (fp16 on a CPU: in fp32). There are no losses. Raises ConfigError for an
        input that is missing, or of another type, layout, size or range.
        """
        inputs = self.config.inputs.present
        count = _check_batch(batch, inputs, self.config.name)
        valid: Batch = {name: torch.ones(count, dtype=torch.bool) for name in inputs} | batch.get("valid", {})
        complete = {name: batch[name] for name in inputs} | {"valid": valid} | self._no_labels(count)
        if self.config.method.blanks_subject(training=False):
            complete["without_subject"] = self._frames_without_subject(batch)
        with torch.inference_mode(), self._precision():
            prediction: Prediction = self.method(to_device(complete, inputs, self.device))
        return replace(prediction, losses={})

    def batches(self, split: str, workers: int = 0) -> Iterator[Batch]:
        """Yield all of a split of the cell's shards in batches, each sample once, in the manifest's order."""
        manifest = manifests.load(self.config.shards)
        check_cell(self.folder, self.config, manifest)
        shards = SplitShards(self.config.shards, split, manifest)
        dataset = evaluated_dataset(self.config, shards)
        yield from BatchLoader(dataset, EvaluationBatches(len(shards), self.config.batch_size, 0, 1), workers)

    def _frames_without_subject(self, batch: Batch) -> Batch:
        """Return the batch's frames with the subject black. Raises ConfigError where one is missing."""
        wanted = frames_showing_subject(self.config.inputs.present)
        given: Batch = batch.get("without_subject", {})
        if missing := [name for name in wanted if name not in given]:
            raise ConfigError(
                f"the batch lacks without_subject: {', '.join(missing)}; {self.config.method.name} needs each frame "
                "once more, with the subject's box black, as `batches` gives it"
            )
        return {name: given[name] for name in wanted}

    def _no_labels(self, count: int) -> dict[str, Any]:
        """Return labels that stand for none: a forward pass wants some, and no score depends on them."""
        single = torch.zeros(count, dtype=torch.long)
        target = single if self.method.is_single_label else torch.zeros(count, len(self.classes))
        return {"target": target, "vad": torch.full((count, 3), torch.nan)}

    def _precision(self) -> Any:
        dtype = _DTYPES.get(self.config.mixed_precision)
        if dtype is None or (dtype == torch.float16 and self.device.type == "cpu"):
            return nullcontext()
        return torch.autocast(self.device.type, dtype)


def _check_batch(batch: Batch, inputs: Mapping[InputName, AnyInput], cell: str) -> int:
    """Return the number of samples B. Raises ConfigError unless the batch holds the inputs as the cell's shards do."""
    if not isinstance(batch, Mapping):
        raise ConfigError(f"a batch is a dictionary of tensors by input ({', '.join(inputs)}), not {type(batch)}")
    if missing := sorted(set(inputs) - set(batch)):
        raise ConfigError(f"the batch lacks {', '.join(missing)}; {cell} reads {', '.join(inputs)}")
    for name, config in inputs.items():
        if fault := _input_fault(batch[name], input_field(name, config)):
            raise ConfigError(f"the batch's {name!r}: {fault}")
    counts = {str(name): len(batch[name]) for name in inputs}
    counts |= {f"valid {name}": len(value) for name, value in batch.get("valid", {}).items() if name in inputs}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ConfigError(f"the batch's inputs must be of the same people, one at least; there are: {listed}")
    return next(iter(counts.values()))


_LARGEST_PART = 10
"""Points and boxes are parts of an image, 0 to 1, or a little outside; larger ones are pixels."""


def _input_fault(value: Any, field: Field) -> str | None:
    """Return what is wrong with an input of a batch, and how to put it right; None where nothing is."""
    shape = (field.shape[-1], *field.shape[:-1]) if field.image else field.shape
    expected = f"{str(field.dtype).removeprefix('torch.')} of shape B,{','.join(map(str, shape))} is expected"
    if field.image:
        expected += ", from 0 to 255" + (", in RGB" if shape[0] == 3 else "")
    if not isinstance(value, torch.Tensor):
        return f"a tensor, {expected}, not {type(value).__name__}; make one with torch.as_tensor"
    found = f"not {str(value.dtype).removeprefix('torch.')} of shape {','.join(map(str, value.shape))}"
    if value.dtype != field.dtype:
        is_float = field.image and value.is_floating_point()
        scale = " (times 255 first if it goes to 1; the model itself normalizes it)" if is_float else ""
        return f"{expected}, {found}; convert it with .to({field.dtype}){scale}"
    if tuple(value.shape) == shape:
        return f"{expected}, {found}; add the first dimension with [None]"
    if tuple(value.shape[1:]) != shape:
        channels_last = field.image and tuple(value.shape[1:]) == field.shape
        return f"{expected}, {found}" + ("; put channels first with .permute(0, 3, 1, 2)" if channels_last else "")
    if not field.image and not bool((value.abs() <= _LARGEST_PART).all()):
        return "parts of the image are expected, from 0 to 1, not pixels or numbers that are not finite"
    return None


def load_trained(wanted: str | Path, checkpoint: str | None = None, device: str = "auto") -> TrainedModel:
    """Return the trained model of a cell: `clef.load`.

    `wanted`: the cell's folder, its name below runs/, or a part of that. `checkpoint`: as `find_weights` wants it.
    `device`: one of torch's, or auto (a GPU where there is one).
    """
    folder = lookup.find_cell(wanted)
    config = resolve.from_yaml(folder / records.CONFIG)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch_device = torch.device(device)
    weights.check_frozen(config, records.read_environment(folder).get("weights", {}))
    method = restore_method(config, find_weights(folder, checkpoint), torch_device)
    return TrainedModel(folder, config, list(config.card.classes), method, torch_device)


def find_weights(folder: Path, wanted: str | None = None) -> Path:
    """Return a cell's weights file: `best`, `last` (its newest checkpoint), a path, or a name among its checkpoints.

    Without `wanted`, what its result was scored with; the newest there is while it has no result. Raises CellError
    when there is no such file, or when the best is no longer what was scored.
    """
    result = records.read_json(folder / records.RESULT)
    wanted = wanted or (BEST if result else LAST)
    checkpoints = folder / "checkpoints"
    steps, best = atomic_dir.complete(checkpoints), checkpoints / checkpoint.BEST
    candidates = {BEST: [best], LAST: steps[-1:]}.get(wanted, [Path(wanted), checkpoints / wanted])
    files = [candidate / checkpoint.MODEL if candidate.is_dir() else candidate for candidate in candidates]
    path = next((file for file in files if file.is_file()), None)
    if path is None and not (config := resolve.from_yaml(folder / records.CONFIG)).runtime.checkpoints:
        raise CellError(no_weights_message(folder, config))
    if path is None:
        names = [BEST] * best.exists() + [step.name for step in steps]
        raise CellError(
            f"{folder}: no weights {wanted!r}; " + (f"there are: {', '.join(names)}" if names else "it has none yet")
        )
    if path == best:
        _check_scored_weights(path, result)
    return path


def no_weights_message(folder: Path, config: CellConfig) -> str:
    """Return why a cell of a config with `runtime.checkpoints=false` has no weights to read, and what to do."""
    return (
        f"{folder}: keeps no weights (runtime.checkpoints=false); to have them, remove this folder and train "
        f"{config.name} again with runtime.checkpoints=true"
    )


def _check_scored_weights(path: Path, result: dict[str, Any]) -> None:
    """Refuse the best weights of a finished cell unless they are, byte for byte, those that were scored."""
    recorded = result.get("run", {}).get("checkpoint", {}).get("sha256")
    if recorded and io.sha256(path) != recorded:
        raise CellError(f"{path}: damaged, or other weights than those that {records.RESULT} was scored with (sha256)")


def restore_method(config: CellConfig, path: Path, device: torch.device) -> Method:
    """Return the method of a cell with the weights at `path`, on `device`, in evaluation mode.

    It knows nothing of the training set, so its losses say nothing.
    """
    unknown_counts = [1] * len(config.card.classes)
    method = methods.build(
        config, unknown_counts, len(unknown_counts), lambda _: _dictionary_among_weights(path), trained=True
    )
    checkpoint.load_weights(path, method)
    if device.type == "cuda":  # as in training: another layout sums in another order
        method = method.to(memory_format=torch.channels_last)
    return method.to(device).eval()


def _dictionary_among_weights(path: Path) -> ConfounderDictionary:
    try:
        tensors = checkpoint.read_weights(path)
        return ConfounderDictionary(tensors["centers"], tensors["prior"], torch.empty(0, dtype=torch.int64))
    except (OSError, SafetensorError, KeyError) as error:
        raise_if_system_error(error, path)
        raise CellError(f"{path}: not the weights of this cell: {error}") from None


# ---- Two-stage training ----

_BACKBONE_PREFIX = "backbone."


def load_parent_backbone(config: CellConfig, method: Method) -> None:
    """Put the parent's backbone into `method`, if the cell has a parent.

    Raises CellError when the parent is untrained, or the vanilla cell of another experiment.
    """
    if config.method.parent is None:
        return
    folder = Path(config.method.parent)
    path = folder / "checkpoints" / checkpoint.BEST
    if not (folder / records.RESULT).exists():
        raise CellError(f"{folder}: the cell to start from is not trained to the end; train it first")
    parent = _check_parent(config, folder)
    if not path.exists() and not parent.runtime.checkpoints:
        raise CellError(no_weights_message(folder, parent))
    try:
        tensors = checkpoint.read_weights(path)
    except (OSError, SafetensorError) as error:
        raise_if_system_error(error, path)
        raise CellError(f"{path}: the weights to start from can't be read: {error}") from None
    prefix = _BACKBONE_PREFIX
    backbone = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    assert method.backbone is not None
    try:
        method.backbone.load_state_dict(backbone)
    except RuntimeError as error:
        raise CellError(f"{path}: not weights of this backbone: {str(error).splitlines()[-1].strip()}") from None


def _check_parent(config: CellConfig, folder: Path) -> CellConfig:
    """Return the parent's config. Refuse one that is no vanilla cell of the same dataset and backbone.

    It would be another experiment.
    """
    parent = resolve.from_yaml(folder / records.CONFIG)
    if differences := parent.card.differences(config.card):
        raise CellError(f"{folder}: trained on another card than this cell's ({differences}); train it again")
    same = parent.backbone == config.backbone
    if parent.method.name != "vanilla" or not same:
        raise CellError(
            f"{folder}: a vanilla cell of {config.backbone.name} (same settings) on {config.dataset} is expected to "
            f"start from, not {parent.method.name} of {parent.backbone.name} on {parent.dataset}"
        )
    return parent
