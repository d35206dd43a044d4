"""A trained model put together again from its cell's folder: no shards, no pre-trained files, no training."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from clef import cards, io, methods
from clef.cells import records
from clef.config import CellConfig
from clef.engine import checkpoint, vault
from clef.errors import CellError
from clef.methods import Dictionary, Method

BEST, LAST = "best", "last"


def weights_of(folder: Path, wanted: str | None = None) -> Path:
    """The weights file of a cell: `best`, `last` (its newest checkpoint), or at a path, there or among its checkpoints.

    Without `wanted`, what its result was scored with; the newest there is while it has no result. Raises CellError
    when there is no such file, or when the best is no longer what was scored.
    """
    result = records.read_json(folder / records.RESULT)
    wanted = wanted or (BEST if result else LAST)
    below, steps = folder / "checkpoints", vault.whole(folder / "checkpoints")
    best = below / "best.safetensors"
    places = {BEST: [best], LAST: steps[-1:]}.get(wanted, [Path(wanted), below / wanted])
    files_there = [place / "model.safetensors" if place.is_dir() else place for place in places]
    path = next((file for file in files_there if file.is_file()), None)
    if path is None:
        there = [BEST] * best.exists() + [step.name for step in steps]
        raise CellError(
            f"{folder}: no weights {wanted!r}; " + (f"there are: {', '.join(there)}" if there else "it has none yet")
        )
    if path == best:
        _check(path, result)
    return path


def _check(path: Path, result: dict) -> None:
    """Refuse the best weights of a finished cell unless they are, byte for byte, those that were scored."""
    recorded = result.get("run", {}).get("checkpoint", {}).get("sha256")
    if recorded and io.sha256(path) != recorded:
        raise CellError(f"{path}: damaged, or other weights than those that {records.RESULT} was scored with (sha256)")


def restore(config: CellConfig, path: Path, device: torch.device) -> Method:
    """The method of a cell with the weights at `path`, on `device`, in evaluation mode.

    It knows nothing of the training set, so its losses say nothing.
    """
    card = cards.load(config.dataset, config.protocol)
    unknown = [1] * len(card.classes)
    method = methods.build(config, unknown, len(unknown), lambda _: _dictionary(path), trained=True)
    checkpoint.load_weights(path, method)
    if device.type == "cuda":  # as in training: another layout sums in another order
        method = method.to(memory_format=torch.channels_last)
    return method.to(device).eval()


def _dictionary(path: Path) -> Dictionary:
    """CCIM's confounders, which are among the weights."""
    try:
        tensors = load_file(path)
        return Dictionary(tensors["centres"], tensors["prior"])
    except (OSError, SafetensorError, KeyError) as error:
        raise CellError(f"{path}: not the weights of this cell: {error}") from None
