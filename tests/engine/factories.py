"""A tiny cell trained in the folder that its signature names, as commands leave it."""

from pathlib import Path
from typing import Any

from clef.cells.identity import folder_of, signature_of, write_config
from clef.config import CellConfig
from clef.data import manifest as manifests
from clef.engine.run import run_cell


def train_cell(config: CellConfig, **runtime: Any) -> Path:
    """Train it, or as far as `stop_after` says; its folder."""
    changed = config.model_copy(update={"runtime": config.runtime.model_copy(update=runtime)})
    folder = folder_of(changed, "single", signature_of(changed, manifests.load(changed.shards)))
    write_config(folder, changed)
    run_cell(folder)
    return folder
