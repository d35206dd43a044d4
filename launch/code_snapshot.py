"""The code that a grid's jobs run: a copy, made when they are submitted, which no later edit reaches.

`<grid>/code/<16 hexadecimal digits>/` holds the package, what ships beside it in a checkout, and modules of your own.
Its name is the hash of all of it, so one tree is copied once. `code.json` and `diff.patch` say which commit it was.

Modules of your own that a grid names (`module:Class`), and those that they import in turn: which files they are.

They are found as Python would find them, and none is run.
"""

import ast
import hashlib
import importlib.util
import json
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import clef
from clef import io
from clef.cells import records
from clef.cells.code_snapshot import CODE, STARTED_IN
from clef.config import CellConfig
from clef.errors import ConfigError, SetupError

INSTALLED = {"site-packages", "dist-packages"}
"""Folders of packages that are part of the environment, as torch is."""


def named_modules(configs: Iterable[CellConfig]) -> set[str]:
    """The top-level modules that cells name."""
    names = {name for config in configs for name in (config.backbone.name, config.method.name)}
    return {name.partition(":")[0].partition(".")[0] for name in names if ":" in name}


def module_files(names: Iterable[str]) -> dict[str, dict[Path, Path]]:
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
        for path in folder_content(place)
    }


def folder_content(folder: Path) -> list[Path]:
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


FOLDER, DIFF = "code", "diff.patch"
PACKAGE = Path(clef.__file__).resolve().parent
BESIDE = ("launch/**/*.py", "configs/**/*.yaml", "shards/*.yaml", "slurm/profiles/*.yaml")
"""What a checkout has beside the package: jobs read some of it, and some run the launcher again."""
MOST = 64 * 1024**2
"""Bytes of code that can be meant."""
Content = dict[Path, bytes]


def take(grid: Path, configs: Iterable[CellConfig]) -> Path:
    """The snapshot of the code as it is now, with the modules that these cells name; made unless it is there.

    ConfigError for a module that Python doesn't find, SetupError for one that is too large to copy.
    """
    content = _content(list(configs))
    digest = hashlib.sha256()
    for path in sorted(content):
        digest.update(f"{path}\0{len(content[path])}\0".encode() + content[path])
    final = (grid / FOLDER / digest.hexdigest()[:16]).resolve()
    if not final.exists():
        _write(final, content)
    return final


def python(code: Path) -> str:
    """A command line that starts Python in a snapshot, for submitit to go on with (`-m ...`).

    Python looks into the folder that it is started in first. A warning that comes before Python can handle it must not
    end the process.
    """
    script = (
        f'trap "" USR2; {STARTED_IN}=$PWD {CODE}={shlex.quote(str(code))}; export {STARTED_IN} {CODE}; '
        f'unset PYTHONSAFEPATH; cd "${CODE}" && exec "$0" "$@"'
    )
    return shlex.join(["sh", "-c", script, sys.executable])


def _content(configs: list[CellConfig]) -> Content:
    """All files of the snapshot, by their path in it."""
    root = PACKAGE.parent
    paths = {Path("clef") / path.relative_to(PACKAGE): path for path in folder_content(PACKAGE)}
    paths |= {path.relative_to(root): path for pattern in BESIDE for path in sorted(root.glob(pattern))}
    own = module_files(named_modules(configs))
    for name, found in own.items():
        _check_size(name, found)
        paths |= found
    content = {below: path.read_bytes() for below, path in paths.items()}
    facts = records.code_version() | {"modules": sorted(own)}
    content[Path(records.CODE)] = (json.dumps(facts, indent=1) + "\n").encode()
    if facts["dirty"]:
        content[Path(DIFF)] = _diff(root)
    return content


def _check_size(name: str, found: dict[Path, Path]) -> None:
    size = sum(path.stat().st_size for path in found.values())
    if size > MOST:
        raise SetupError(
            f"module {name}: {size / 1e6:,.0f} MB lie in its folder, which is copied for the jobs; "
            f"{MOST / 1e6:,.0f} MB is the most: keep data elsewhere"
        )


def _diff(root: Path) -> bytes:
    """That of a snapshot, where this runs from one."""
    kept = root / DIFF
    return kept.read_bytes() if kept.exists() else records.code_diff()


def _write(final: Path, content: Content) -> None:
    """Write the folder under a temporary name, and have it on disk before it gets its own."""
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
    try:
        for path, data in content.items():
            io.write(temporary / path, data)
            (temporary / path).chmod(0o444)
        for folder in (temporary, *(path for path in temporary.rglob("*") if path.is_dir())):
            io.flush(folder)
        os.rename(temporary, final)
    except OSError:
        if not final.exists():  # else another launcher was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    io.flush(final.parent)
