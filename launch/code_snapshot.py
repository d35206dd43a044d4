"""The code that a grid's jobs run: a copy, made when they are submitted, which no later edit reaches.

`<grid>/code/<16 hexadecimal digits>/` holds both packages (clef, launch), the configs, cards and profiles that ship
with them, and your own modules that the grid names (`module:Class`), with those that these import. Its name is the hash
of all of it, so one tree is copied once. `code.json` and `diff.patch` say which commit it was. It can be taken from a
checkout, from an installed package and from another snapshot.
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

SNAPSHOTS, DIFF = "code", "diff.patch"
PACKAGES = {"clef": Path(clef.__file__).resolve().parent, "launch": Path(__file__).resolve().parent}
CHECKOUT_FILES = ("configs/**/*.yaml", "shards/*.yaml", "slurm/profiles/*.yaml")
"""What ships and lies beside the packages in a checkout. A wheel has it inside of clef, in BUNDLED."""
BUNDLED = "_bundled"
INSTALLED = {"site-packages", "dist-packages"}
"""Folders of packages that are part of the environment, as torch is."""
MAX_MODULE_BYTES = 64 * 1024**2
"""A module with more in its folder has data there, which is not meant to be copied."""
Content = dict[Path, bytes]


def take_snapshot(grid: Path, configs: Iterable[CellConfig]) -> Path:
    """Return the snapshot of the code as it is now, with the modules that these cells name; made unless it exists.

    ConfigError for a module that Python doesn't find, SetupError for one that is too large to copy.
    """
    content = _snapshot_content(list(configs))
    digest = hashlib.sha256()
    for path in sorted(content):
        digest.update(f"{path}\0{len(content[path])}\0".encode() + content[path])
    final = (grid / SNAPSHOTS / digest.hexdigest()[:16]).resolve()
    if not final.exists():
        _write_snapshot(final, content)
    return final


def python_command(code: Path) -> str:
    """Return a command line that starts Python in a snapshot; submitit appends to it (`-m ...`).

    Python looks for modules first in the folder that it is started in. USR2, which warns of a preemption, is ignored
    until Python handles it: its default is to end the process.
    """
    script = (
        f'trap "" USR2; {STARTED_IN}=$PWD {CODE}={shlex.quote(str(code))}; export {STARTED_IN} {CODE}; '
        f'unset PYTHONSAFEPATH; cd "${CODE}" && exec "$0" "$@"'
    )
    return shlex.join(["sh", "-c", script, sys.executable])


def _snapshot_content(configs: list[CellConfig]) -> Content:
    """Return all files of the snapshot, by their path in it."""
    root = PACKAGES["clef"].parent
    paths = {
        Path(name) / path.relative_to(folder): path
        for name, folder in PACKAGES.items()
        for path in folder_content(folder)
    }
    if not (PACKAGES["clef"] / BUNDLED).exists():
        paths |= {path.relative_to(root): path for pattern in CHECKOUT_FILES for path in sorted(root.glob(pattern))}
    modules = module_files(named_modules(configs))
    for name, files in modules.items():
        _check_size(name, files)
        paths |= files
    content = {relative: path.read_bytes() for relative, path in paths.items()}
    facts = records.code_version() | {"modules": sorted(modules)}
    content[Path(records.CODE)] = (json.dumps(facts, indent=1) + "\n").encode()
    if facts["dirty"]:
        content[Path(DIFF)] = _diff(root)
    return content


def _check_size(name: str, files: dict[Path, Path]) -> None:
    size = sum(path.stat().st_size for path in files.values())
    if size > MAX_MODULE_BYTES:
        raise SetupError(
            f"module {name}: {size / 1e6:,.0f} MB are in its folder, which is copied for the jobs; "
            f"{MAX_MODULE_BYTES / 1e6:,.0f} MB is the most: keep data elsewhere"
        )


def _diff(root: Path) -> bytes:
    """Return what differs from the commit; where this runs from a snapshot, what differed when that was made."""
    kept = root / DIFF
    return kept.read_bytes() if kept.exists() else records.code_diff()


def _write_snapshot(final: Path, content: Content) -> None:
    """Write the folder under a temporary name, and have it on disk before it gets its own."""
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
    try:
        for path, data in content.items():
            io.write(temporary / path, data)
            (temporary / path).chmod(0o444)
        for folder in (temporary, *(path for path in temporary.rglob("*") if path.is_dir())):
            io.flush_folder(folder)
        os.rename(temporary, final)
    except OSError:
        if not final.exists():  # else another launcher was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    io.flush_folder(final.parent)


# ---- your own modules ----
#
# They are found as Python would find them, and none is run. The standard library's modulefinder is no shorter way: it
# stops with an error at a namespace package, knows neither editable installations nor other import hooks, and follows
# only the modules that are imported by name, while a package of methods may load its parts by a registry.


def named_modules(configs: Iterable[CellConfig]) -> set[str]:
    """Return the top-level modules that cells name (`module:Class`)."""
    names = {part.name for config in configs for part in (config.backbone, config.method, config.optimizer)}
    return {name.partition(":")[0].partition(".")[0] for name in names if ":" in name}


def module_files(names: Iterable[str]) -> dict[str, dict[Path, Path]]:
    """Return the files of these top-level modules, and of each module of yours that they import in turn.

    The files of a module come by their path below the folder that Python finds the module in. ConfigError for a name
    that Python doesn't find.
    """
    files: dict[str, dict[Path, Path]] = {}
    waiting = [(name, True) for name in sorted(names)]
    seen = set()
    while waiting:
        name, must_exist = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if found := _module_files(name, must_exist):
            files[name] = found
            sources = [path for path in found.values() if path.suffix == ".py"]
            waiting += [(imported, False) for path in sources for imported in sorted(_imported_modules(path))]
    return files


def _module_files(name: str, must_exist: bool) -> dict[Path, Path]:
    """Return the files of one module; none for what comes with Python, is installed, or is this project itself."""
    if name in sys.stdlib_module_names or name in (*PACKAGES, "__main__"):
        return {}
    spec = importlib.util.find_spec(name)
    if spec is None:
        if must_exist:
            raise ConfigError(f"no module named {name!r}, which the grid names; is its folder on PYTHONPATH?")
        return {}
    if spec.submodule_search_locations is None:  # a single file
        origin = Path(spec.origin or "")
        return {} if INSTALLED & set(origin.parts) else {Path(origin.name): origin}
    folders = [Path(folder) for folder in spec.submodule_search_locations]
    return {
        Path(name) / path.relative_to(folder): path
        for folder in folders
        if not INSTALLED & set(folder.resolve().parts)
        for path in folder_content(folder)
    }


def _imported_modules(path: Path) -> set[str]:
    """Return the top-level modules that a source file imports, wherever in it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # it is told when the file is imported
        return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def folder_content(folder: Path) -> list[Path]:
    """Return the files below a folder, without what is hidden and what Python compiled."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in paths if not any(_is_left_out(part) for part in path.relative_to(folder).parts)]


def _is_left_out(part: str) -> bool:
    return part.startswith(".") or part == "__pycache__"
