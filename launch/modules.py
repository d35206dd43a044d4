"""Modules of your own that a grid names (`module:Class`), and those that they import in turn: which files they are.

They are found as Python would find them, and none is run.
"""

import ast
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from clef.config import CellConfig
from clef.errors import ConfigError

INSTALLED = {"site-packages", "dist-packages"}
"""Folders of packages that are part of the environment, as torch is."""


def named(configs: Iterable[CellConfig]) -> set[str]:
    """The top-level modules that cells name."""
    names = {name for config in configs for name in (config.backbone.name, config.method.name)}
    return {name.partition(":")[0].partition(".")[0] for name in names if ":" in name}


def files(names: Iterable[str]) -> dict[str, dict[Path, Path]]:
    """For each of these top-level modules, and each of yours that they import: its files, by their path below the
    folder that Python finds it in. ConfigError for a name that it doesn't find.
    """
    found: dict[str, dict[Path, Path]] = {}
    waiting = [(name, True) for name in sorted(names)]
    seen = set()
    while waiting:
        name, wanted = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if own := _files(name, wanted):
            found[name] = own
            sources = [path for path in own.values() if path.suffix == ".py"]
            waiting += [(imported, False) for path in sources for imported in sorted(_imports(path))]
    return found


def _files(name: str, wanted: bool) -> dict[Path, Path]:
    """Nothing for what comes with Python, is installed, or is this project itself."""
    if name in sys.stdlib_module_names or name in ("clef", "__main__"):
        return {}
    spec = importlib.util.find_spec(name)
    if spec is None:
        if wanted:
            raise ConfigError(f"no module named {name!r}, which the grid names; is its folder on PYTHONPATH?")
        return {}
    if spec.submodule_search_locations is None:
        origin = Path(spec.origin or "")
        return {} if INSTALLED & set(origin.parts) else {Path(origin.name): origin}
    places = [Path(place) for place in spec.submodule_search_locations]
    return {
        Path(name) / path.relative_to(place): path
        for place in places
        if not INSTALLED & set(place.resolve().parts)
        for path in content(place)
    }


def content(folder: Path) -> list[Path]:
    """The files below a folder, but for what is hidden and what Python compiled."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in paths if not any(_apart(part) for part in path.relative_to(folder).parts)]


def _apart(part: str) -> bool:
    return part.startswith(".") or part == "__pycache__"


def _imports(path: Path) -> set[str]:
    """The top-level modules that a source file imports, wherever in it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # whoever imports it will hear of it
        return set()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found
