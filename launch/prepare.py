"""A cell's folder made ready for the job that will train it, wherever that runs."""

from pathlib import Path

from clef.cells import records
from clef.cells.identity import write_config
from clef.config import CellConfig
from launch.plan import PlannedCell


def folder_of(cell: PlannedCell) -> Path:
    """The folder of a cell that has a signature."""
    assert cell.folder is not None
    return cell.folder


def prepare(cell: PlannedCell, threads: int, scratch: str = "") -> str:
    """Make the cell's folder, with its config in it and no state of an earlier try.

    All paths are absolute: the job may run elsewhere. `threads` and `scratch` are for cells that don't state their own.
    """
    config = _with_absolute_paths(cell.config)
    stated = config.runtime
    runtime = stated.model_copy(update={"threads": stated.threads or threads, "scratch": stated.scratch or scratch})
    write_config(folder_of(cell), config.model_copy(update={"runtime": runtime}))
    for name in (records.STATE, records.CANCELLED):
        (folder_of(cell) / name).unlink(missing_ok=True)
    return str(folder_of(cell).resolve())


def _with_absolute_paths(config: CellConfig) -> CellConfig:
    """Every path in the config made absolute: places, weights named by their file, the cell to start from."""
    content = config.model_dump(mode="json")
    method, stated = content["method"], content["backbone"]["weights"]
    runtime = content["runtime"]
    found = [(runtime, key) for key in ("shards", "out", "weights", "features")]
    found += [(runtime, "scratch")] if runtime["scratch"] and "$" not in runtime["scratch"] else []
    found += [(method, "start_from")] if method.get("start_from") else []
    encoders = [encoder for encoder in (method.get("context_branch"), method.get("dictionary")) if encoder]
    named = [(stated, key) for key in stated] + [(encoder, "weights") for encoder in encoders]
    found += [(place, key) for place, key in named if "/" in place[key]]
    for place, key in found:
        place[key] = _absolute(place[key])
    return CellConfig.model_validate(content)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())
