"""The code that a grid's jobs run: a copy, made when they are submitted, which no later edit reaches.

`<grid>/code/<16 hexadecimal digits>/` holds the package, what ships beside it in a checkout, and modules of your own.
Its name is the hash of all of it, so one tree is copied once. `code.json` and `diff.patch` say which commit it was.
"""

import hashlib
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
from clef.errors import SetupError
from launch import modules

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
    paths = {Path("clef") / path.relative_to(PACKAGE): path for path in modules.content(PACKAGE)}
    paths |= {path.relative_to(root): path for pattern in BESIDE for path in sorted(root.glob(pattern))}
    own = modules.files(modules.named(configs))
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
