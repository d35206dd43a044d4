"""Folders that are complete or not there: each file with its sha256, a marker last, then a rename.

    checkpoints/step-000000120/      complete: complete.json lists every file, and its own sha256 too
    checkpoints/.step-000000160.tmp  being written, or left by a process that died; nobody reads it
    checkpoints/damaged-000000120    found damaged, and kept aside

Any byte that changes in a complete folder is noticed when it is verified, those of complete.json included. To write
one: `begin`, `write` each file, `commit`. Imports no torch.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from clef import io
from clef.errors import SetupError, raise_if_system_error

MARKER = "complete.json"
KEEP = 2
"""Complete folders that stay; older ones are removed."""
Hashes = dict[str, str]
"""sha256 by file name."""

# ---- Writing ----


def begin(folder: Path, step: int) -> Path:
    """Return an empty temporary folder for the state after `step`; remove what dead processes left."""
    for abandoned in folder.glob(".step-*.tmp"):
        shutil.rmtree(abandoned)
    temporary = temporary_of(folder, step)
    temporary.mkdir(parents=True)
    return temporary


def temporary_of(folder: Path, step: int) -> Path:
    """Return the path where the state after `step` is written before it is complete."""
    return folder / f".step-{step:09d}.tmp"


def write(path: Path, content: bytes) -> str:
    """Write a file to disk and flush it; return its sha256."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def commit(temporary: Path, hashes: Hashes) -> Path:
    """Mark a folder as complete, give it its name, read it back, and only then remove what it replaces.

    Raises OSError when what was read back isn't what was written; the older folders are all still there then.
    """
    write(temporary / MARKER, _marker(hashes).encode())
    io.flush_folder(temporary)
    final = temporary.with_name(temporary.stem.removeprefix("."))
    replaced = final.with_name(f"{final.name}.before")
    if final.exists():  # of the same step, from before its validation: as good until the new one is in place
        shutil.rmtree(replaced, ignore_errors=True)
        os.replace(final, replaced)
    os.replace(temporary, final)
    io.flush_folder(final.parent)
    if damage := verify(final):
        raise OSError(errno.EIO, f"reads back different from what was written: {damage}", str(final))
    shutil.rmtree(replaced, ignore_errors=True)
    for old in complete(final.parent)[:-KEEP]:
        shutil.rmtree(old)
    return final


def _marker(hashes: Hashes) -> str:
    text = json.dumps(hashes, indent=1, sort_keys=True)
    return json.dumps({"files": hashes, "sha256": hashlib.sha256(text.encode()).hexdigest()}, indent=1, sort_keys=True)


# ---- Reading ----


def complete(folder: Path) -> list[Path]:
    """Return the complete folders below `folder`, oldest first: written to the end, but perhaps damaged since."""
    if not folder.exists():
        return []
    # Not with glob, which leaves out what it may not read: a run would begin again from the first step.
    return sorted(path for path in folder.iterdir() if path.name.startswith("step-") and (path / MARKER).exists())


def verify(path: Path) -> str | None:
    """Read every byte of a complete folder; return what is wrong with it, if anything.

    Raises SetupError where the system doesn't let it be read: then it isn't put aside as damaged.
    """
    try:
        text = (path / MARKER).read_bytes()
        hashes: Hashes = json.loads(text)["files"]
        if text != _marker(hashes).encode():
            return f"{MARKER} was changed"
        for name, digest in hashes.items():
            if io.sha256(path / name) != digest:
                return f"{name} was changed or cut short (its sha256 differs)"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise_if_system_error(error, path)
        return f"{error}"
    return None


def latest_valid(folder: Path, say: Callable[[str], None]) -> Path | None:
    """Return the newest complete folder that verifies. Put damaged ones aside, and `say` what is wrong with each."""
    for path in reversed(complete(folder)):
        damage = verify(path)
        if damage is None:
            return path
        aside = path.with_name(path.name.replace("step-", "damaged-", 1))
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(path, aside)
        say(f"checkpoint {path.name} is damaged: {damage}; renamed to {aside.name}, trying the one before")
    return None


def quarantined(folder: Path) -> list[str]:
    """Return the names of the folders that were found damaged."""
    return sorted(path.name for path in folder.glob("damaged-*"))


# ---- Room on the disk ----


def size(folder: Path) -> int:
    """Return the bytes of all files below `folder`."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def check_room(folder: Path, needed: int) -> None:
    """Refuse to write `needed` bytes where less is free. Raises SetupError with both numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SetupError(
            f"{folder}: the checkpoints need {_mb(needed)} more and {_mb(free)} are free; free some space there, or "
            "have cells written elsewhere (runtime.output_dir)"
        )


def not_written(error: OSError, folder: Path) -> SetupError:
    """Return the error for a checkpoint that could not be written: a full disk or quota, a failing device."""
    last = complete(folder)
    have = f"{last[-1].name} is complete" if last else "there is none before it"
    return SetupError(
        f"{folder}: a checkpoint could not be written ({error.strerror or error}); {have}. Check the disk, free "
        "some space if it is full, then continue with --resume"
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
