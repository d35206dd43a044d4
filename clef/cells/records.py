"""What a cell writes about itself: its state, a log line now and then, its environment, its result. No torch.

`runs/<grid>/<cell name>-<signature>/` holds config.yaml, state.json, log.jsonl, environment.json, checkpoints/,
predictions-<split>.npz and, once all is done, result.json. What `remove_temporary` lists goes when a cell with
`runtime.checkpoints=false` is done: clusters count files, and its result says all of it.
"""

import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from clef import io
from clef.errors import SetupError, raise_if_system_error

RESULT, STATE, LOG, CONFIG, LOCK = "result.json", "state.json", "log.jsonl", "config.yaml", "lock"
ENVIRONMENT, ATTEMPTS, CHECKPOINTS = "environment.json", "attempts.jsonl", "checkpoints"
CANCELLED = "cancelled.json"
"""Who cancelled the cell. A file of its own, since the job that is cancelled still writes its state while it ends."""
_PACKAGES = (
    "torch", "torchvision", "accelerate", "submitit", "webdataset", "numpy", "scipy", "scikit-learn", "pillow",
    "simplejpeg", "opencv-python-headless", "safetensors", "pydantic", "timm", "open_clip_torch",
)  # fmt: skip
"""What may have a part in a number, where it is installed."""
STATES = ("running", "stopped", "preempted", "failed", "died", "cancelled", "done")
"""What a state file may say. `state_of` also infers `died` and `cancelled` where the file could not be written."""
T = TypeVar("T")
CODE = "code.json"
"""At the top of a snapshot of the code: what `code_version` said of the tree that was copied."""


def write_json(path: Path, content: Any, durable: bool = True) -> None:
    """Write JSON atomically."""
    io.write(path, io.to_json(content) + "\n", durable)


def read_json(path: Path) -> dict[str, Any]:
    """Return what a record holds; an empty mapping when it isn't there or was cut short.

    Raises SetupError where the system doesn't let it be read.
    """
    try:
        content = json.loads(_read_replaced(path))
    except (OSError, ValueError) as error:
        raise_if_system_error(error, path)
        return {}
    return content if isinstance(content, dict) else {}


def _read_replaced(path: Path) -> str:
    """Return a text that others replace now and then: on NFS, the one that was opened may be gone when it is read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return path.read_text(encoding="utf-8")


def validate_as(kind: type[T], content: Any) -> T:
    """Return what was read from a file as this dataclass, or list of them. Raises ValueError, in one line."""
    try:
        value: T = _type_adapter(kind).validate_python(content)  # type: ignore[arg-type]  # types are hashable
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return value


@cache
def _type_adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@dataclass(frozen=True)
class StateRecord:
    """The content of a cell's state file. What it doesn't state is None."""

    state: str = "new"
    updated: float = 0.0
    """Seconds since 1970."""
    host: str | None = None
    reason: str | None = None
    step: int | None = None
    steps: int | None = None
    epoch: float | None = None
    epochs: int | None = None
    metric: float | None = None
    """The best on val so far."""
    images_per_s: float | None = None
    left_s: float | None = None
    """Seconds, as they were when it was written."""


def read_state(folder: Path) -> StateRecord:
    """Return what a cell's state file says; `new` where there is none, or it can't be read."""
    try:
        record = validate_as(StateRecord, read_json(folder / STATE))
    except ValueError:
        return StateRecord()
    return record if record.state in STATES else StateRecord()


def write_state(folder: Path, state: str, **facts: Any) -> None:
    """Write the cell's state (one of STATES), with facts such as the reason."""
    facts |= {"pid": os.getpid(), "host": socket.gethostname(), "updated": round(time.time(), 3)}
    write_json(folder / STATE, {"state": state, **facts}, durable=state != "running")


def state_of(folder: Path, has_job: bool = False) -> str:
    """Return a cell's state: new, queued, running, stopped, preempted, failed, died, cancelled or done.

    `has_job`: its Slurm job waits or runs. Its lock is then not tried: that could get in the way of the job taking it.
    """
    if (folder / RESULT).exists():
        return "done"
    state = read_state(folder).state
    if has_job:
        return "running" if state == "running" else "queued"
    if io.is_locked(folder / LOCK):
        return "running"
    if (folder / CANCELLED).exists():
        return "cancelled"
    if state == "done":  # its result was removed
        return "new"
    return "died" if state == "running" else state  # nobody holds its lock: it was killed


def read_environment(folder: Path) -> dict[str, Any]:
    """Return on what machine, and with which code and data, a cell is trained or was; nothing where it never began."""
    environment = read_json(folder / ENVIRONMENT) or read_json(folder / RESULT).get("environment")
    return environment if isinstance(environment, dict) else {}


def remove_temporary(folder: Path) -> None:
    """Remove what the folder of a small cell that is done no longer needs. Call it with the cell's lock held."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # of a run with other settings
    for path in folder.glob(".*.tmp"):  # of a process that was killed while it wrote
        path.unlink(missing_ok=True)
    for name in (STATE, ENVIRONMENT, ATTEMPTS, LOCK):  # the lock last
        (folder / name).unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Refuse a cell's folder that another user made and in which this user can't train. Raises SetupError.

    A run makes and removes files in each folder, and adds to the lock and to what ends in .jsonl.
    """
    for path in (folder, *folder.rglob("*")) if folder.exists() else ():
        is_folder = path.is_dir()
        needed = os.W_OK | os.X_OK if is_folder else os.W_OK
        if (is_folder or path.suffix == ".jsonl" or path.name == LOCK) and not _may(path, needed):
            raise SetupError(
                f"{path}: you may not write to it, so a run of this cell would fail; it belongs to {_owner(path)}, who "
                f"can allow it with chmod -R g+rwX {folder} (and umask 002 for what comes). Or train elsewhere: set "
                f"runtime.output_dir"
            )


def _may(path: Path, needed: int) -> bool:
    return os.access(path, needed, effective_ids=os.access in os.supports_effective_ids)


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"


def append_log(folder: Path, record: dict[str, Any]) -> None:
    """Append one line of JSON to the log."""
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(io.to_json(record, indent=None) + "\n")


def log_size(folder: Path) -> int:
    """Return the bytes of the log so far, which are on disk when this returns."""
    path = folder / LOG
    if not path.exists():
        return 0
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def cut_log(folder: Path, size: int) -> None:
    """Drop all but the first `size` bytes of the log: what it says of steps that will be trained again."""
    path = folder / LOG
    if path.exists() and path.stat().st_size > size:
        os.truncate(path, size)


def environment() -> dict[str, Any]:
    """Return on what machine, and with which code and packages, this process runs."""
    return {
        "code": code_version(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "host": socket.gethostname(),
        "cpu": _cpu(),
    }


@cache  # of one process: many small cells may follow each other in it
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    """Return the model of the processor, or at least its kind where Linux doesn't say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


@cache
def code_version() -> dict[str, Any]:
    """Return the commit that runs, whether the tree differs from it, and then the sha256 of `git diff HEAD --binary`.

    In a snapshot of the code, these are of the tree that was copied. Outside a checkout only the version is known.
    """
    if recorded := read_json(Path(__file__).parents[2] / CODE):
        return {key: recorded.get(key) for key in ("commit", "dirty", "diff", "version")}
    facts: dict[str, Any] = {"version": importlib.metadata.version("clef-caer")}
    package = Path(__file__).parents[1]
    try:
        # Installed into some other checkout's tree, it has no commit.
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        commit = _git(package, "rev-parse", "HEAD").decode().strip()
        dirty = bool(_git(package, "status", "--porcelain", "--untracked-files=no"))
        diff = hashlib.sha256(code_diff()).hexdigest() if dirty else None
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None, "diff": None, **facts}
    return {"commit": commit, "dirty": dirty, "diff": diff, **facts}


def code_diff() -> bytes:
    """Return `git diff HEAD --binary` of the tree that runs."""
    return _git(Path(__file__).parents[1], "diff", "HEAD", "--binary")


def _git(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, timeout=20, check=True).stdout
