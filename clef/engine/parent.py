"""Two-stage training: a CLEF cell that starts from the backbone of a trained vanilla cell, its parent."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from clef.cells import records
from clef.config import CellConfig, ClefConfig, resolve
from clef.errors import CellError
from clef.methods import Method

_PREFIX = "backbone."


def load_backbone(config: CellConfig, method: Method) -> None:
    """Put the parent's backbone into `method`, if the cell has a parent. CellError when it is untrained or another."""
    if not isinstance(config.method, ClefConfig) or config.method.start_from is None:
        return
    folder = Path(config.method.start_from)
    path = folder / "checkpoints" / "best.safetensors"
    if not (folder / records.RESULT).exists():
        raise CellError(f"{folder}: the cell to start from is not trained to the end; train it first")
    _check(config, folder)
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CellError(f"{path}: the weights to start from can't be read: {error}") from None
    backbone = {key.removeprefix(_PREFIX): value for key, value in weights.items() if key.startswith(_PREFIX)}
    assert method.backbone is not None
    try:
        method.backbone.load_state_dict(backbone)
    except RuntimeError as error:
        raise CellError(f"{path}: not weights of this backbone: {str(error).splitlines()[-1].strip()}") from None


def _check(config: CellConfig, folder: Path) -> None:
    """Refuse a parent that is no vanilla cell of the same dataset and backbone: it would be another experiment."""
    other = resolve.from_yaml(folder / records.CONFIG)
    if other.method.name != "vanilla" or other.backbone != config.backbone or other.shards.name != config.shards.name:
        raise CellError(
            f"{folder}: a vanilla cell of {config.backbone.name} (same settings) on {config.dataset} is expected to "
            f"start from, not {other.method.name} of {other.backbone.name} on {other.dataset}"
        )
