"""Where a cell's log records go: a JSON line each, and TensorBoard if the cell asks for it."""

from pathlib import Path
from typing import Any

from clef.cells import records
from clef.errors import SetupError

FOLDER = "tensorboard"


class Log:
    """Made by every rank, written to by the main one.

    `step`: how far the run is already. What an earlier process has told TensorBoard of later steps counts no more.
    SetupError when TensorBoard is wanted and not installed.
    """

    def __init__(self, folder: Path, tensorboard: bool, step: int) -> None:
        self.folder, self.step = folder, step
        self._make = _writer() if tensorboard else None
        self._events: Any = None

    def append(self, record: dict[str, Any]) -> None:
        """Write a record with its `step`."""
        records.append_log(self.folder, record)
        if self._make is None:
            return
        if self._events is None:
            self._events = self._make(str(self.folder / FOLDER), purge_step=self.step + 1)
        for name, value in scalars(record).items():
            self._events.add_scalar(name, value, record["step"])
        self._events.flush()

    def close(self) -> None:
        """The run is over."""
        if self._events is not None:
            self._events.close()


def scalars(record: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a record by name, `losses/kl` for one within another; not where it stands."""
    found: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            found |= scalars(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and key not in ("step", "epoch"):
            found[prefix + key] = value
    return found


def _writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SetupError(
            f"runtime.tensorboard=true: {error}; install it with: pip install 'clef-caer[tensorboard]', or leave it off"
        ) from None
    return SummaryWriter
