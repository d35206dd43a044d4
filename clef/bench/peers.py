"""The loaders that ours is compared with: what each needs, and what they share.

All have as many workers, may be as far ahead, read the same people and deliver the same batches (`clef.bench.setting`).
Each is a module with `prepare(setting, folder)`, which makes what it reads, and `stream(setting, folder, way)`.
"""

import importlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from clef.bench.setting import PREFETCH, Batches, Setting, single_thread

SHIPPED, OURS = "as shipped", "our decoder"
"""The two ways of each: decoded as its users mostly do it, and with our decoder plugged in."""


@dataclass(frozen=True)
class Peer:
    """A loader of others."""

    package: str
    module: str

    @property
    def missing(self) -> str | None:
        """What installs it, where it isn't installed."""
        return None if find_spec(self.package) else f"python -m pip install {self.package}"


PEERS = {
    "webdataset": Peer("webdataset", "clef.bench.peer_webdataset"),
    "litdata": Peer("litdata", "clef.bench.peer_litdata"),
}


def prepare(name: str, setting: Setting, folder: Path) -> None:
    """Make what a peer reads, in a folder of its own."""
    importlib.import_module(PEERS[name].module).prepare(setting, folder)


def stream(name: str, way: str, setting: Setting, folder: Path) -> Batches:
    """A peer's batches, in one of the two ways."""
    batches: Batches = importlib.import_module(PEERS[name].module).stream(setting, folder, way)
    return batches


def options(setting: Setting) -> dict[str, Any]:
    """What each peer's DataLoader gets."""
    import torch

    return {
        "num_workers": setting.workers,
        "prefetch_factor": PREFETCH,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": single_thread,
    }
