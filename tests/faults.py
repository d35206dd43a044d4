"""Faults on purpose in real training runs: at a step, on a rank, in a part of the work. Each strikes once in a process.

Nothing in the package knows of them: `install` puts them around its public parts. Processes that a test doesn't start
itself (jobs of Slurm, cells of a local launcher) get them by `environment`, through a `sitecustomize.py`.
"""

import builtins
import errno
import importlib.util
import io
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest import mock
from weakref import WeakSet


@dataclass(frozen=True)
class Fault:
    """`kind`: kill (with `signal`), hang, slow (for `seconds`), io_error or disk_full."""

    kind: str
    step: int
    """From 1."""
    where: str = "step"
    """At the start of the step; or in the first validation or checkpoint at or after it, half-way through."""
    rank: int = 0
    signal: str = "KILL"
    seconds: float = 1.0
    seed: int | None = None
    """Only in cells of this seed."""


def install(*faults: Fault, patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """Put faults into the runs of this process. In the process of a test, `patch` is `monkeypatch.setattr`."""
    from clef.engine import atomic_dir
    from clef.engine.train_step import TrainStep
    from clef.engine.trainer import Trainer

    due: list[Fault] = []
    trainers = WeakSet[Trainer]()  # a run must be able to let go of its trainer, which holds the process group
    init, train_step, batch_scored, write = Trainer.__init__, TrainStep.__call__, Trainer.batch_scored, atomic_dir.write

    def strike(where: str, step: int) -> None:
        for fault in [f for f in due if f.where == where and (f.step == step or (where != "step" and f.step <= step))]:
            due.remove(fault)
            _strike(fault)

    def faulty_init(self: Trainer, config: Any, folder: Any, manifest: Any, accelerator: Any) -> None:
        due[:] = [f for f in faults if f.rank == accelerator.process_index and f.seed in (None, config.seed)]
        trainers.clear()
        trainers.add(self)
        init(self, config, folder, manifest, accelerator)

    def faulty_step(self: TrainStep, *arguments: Any, **named: Any) -> Any:
        [trainer] = trainers
        strike("step", trainer.progress.step + 1)
        return train_step(self, *arguments, **named)

    def faulty_batch_scored(self: Trainer) -> None:
        batch_scored(self)
        strike("validation", self.progress.step)

    def faulty_write(path: Path, content: bytes) -> str:
        if path.name in {f"rank-{fault.rank}.pt" if fault.rank else "model.safetensors" for fault in due}:
            path.write_bytes(content[: len(content) // 2])
            strike("checkpoint", int(path.parent.stem.removeprefix(".step-")))
        return write(path, content)

    patch(Trainer, "__init__", faulty_init)
    patch(TrainStep, "__call__", faulty_step)
    patch(Trainer, "batch_scored", faulty_batch_scored)
    patch(atomic_dir, "write", faulty_write)


def _strike(fault: Fault) -> None:
    if fault.kind == "kill":
        os.kill(os.getpid(), signal.Signals[f"SIG{fault.signal}"])
    elif fault.kind == "slow":
        time.sleep(fault.seconds)
    elif fault.kind == "hang":
        while True:
            time.sleep(3600)
    else:
        code = {"disk_full": errno.ENOSPC, "io_error": errno.EIO}[fault.kind]
        raise OSError(code, os.strerror(code))


def environment(folder: Path, *faults: Fault, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment whose Python processes have these faults, by a file in `folder`, which is on PYTHONPATH."""
    folder.mkdir(exist_ok=True)
    shutil.copy(__file__, folder / "faults_of_tests.py")
    start = f"from faults_of_tests import Fault, install_on_import\n\ninstall_on_import(*{list(faults)!r})\n"
    (folder / "sitecustomize.py").write_text(start)
    return {**base, "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), base.get("PYTHONPATH")]))}


def install_on_import(*faults: Fault) -> None:
    """Install faults as soon as this process has imported the trainer. A launcher never does."""
    sys.meta_path.insert(0, _Installer(faults))


class _Installer(MetaPathFinder):
    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self.faults = faults

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        if name != "clef.engine.trainer":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        run_module = spec.loader.exec_module

        def run_and_install(module: Any) -> None:
            run_module(module)
            install(*self.faults)

        spec.loader.exec_module = run_and_install  # type: ignore[method-assign]
        return spec


@contextmanager
def refused(wanted: Path, number: int) -> Iterator[None]:
    """Let the system refuse to open a file. A file's mode would not do: these tests may run as root."""

    def refusing(function: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, *args: Any, **options: Any) -> Any:
            if not isinstance(file, int) and os.fspath(file) == os.fspath(wanted):
                raise OSError(number, os.strerror(number), os.fspath(file))
            return function(file, *args, **options)

        return opened

    with ExitStack() as stack:
        for module in (builtins, io, os):
            stack.enter_context(mock.patch.object(module, "open", refusing(module.open)))
        yield
