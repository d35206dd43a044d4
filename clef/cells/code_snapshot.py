"""The snapshot of the code that a submitted job runs from (`launch/code_snapshot.py` makes it). Imports no torch."""

import importlib.util
import os
from pathlib import Path

import clef
from clef.cells import records
from clef.errors import SetupError

CODE, STARTED_IN = "CLEF_CODE", "CLEF_STARTED_IN"
"""Variables of a job: the snapshot's folder, and the folder in which the job was started."""


def confirm() -> None:
    """Check that the code comes from the job's snapshot, then go to the folder in which the job was started.

    The job starts Python in the snapshot, so that this comes first on its path, before an editable installation and
    all else. Where there is no snapshot, this does nothing. Raises SetupError for code from elsewhere.
    """
    stated = os.environ.get(CODE)
    if stated is None:
        return
    folder = Path(stated).resolve()
    for name, paths in _import_paths(folder).items():
        if outside := next((path for path in paths if not path.resolve().is_relative_to(folder)), None):
            raise SetupError(
                f"{name} is imported from {outside}, not from the snapshot of the code that this job was submitted "
                f"with, {folder}: look for what puts that first on Python's path (sitecustomize, an import hook)"
            )
    os.chdir(os.environ.get(STARTED_IN, "."))


def _import_paths(folder: Path) -> dict[str, list[Path]]:
    """Return where the package comes from, and where the out-of-tree modules in the snapshot would come from."""
    paths = {"clef": [Path(clef.__file__)]}
    for name in records.read_json(folder / records.CODE).get("modules", []):
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise SetupError(f"{name} is in the snapshot {folder}, but Python doesn't find it")
        locations = spec.submodule_search_locations or [spec.origin or "nowhere"]
        paths[name] = [Path(location) for location in locations]
    return paths
