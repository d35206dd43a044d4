"""Ends a run in which nothing moves any more, and says where it stood.

Which precision a run really gets. fp16 on a CPU would silently be fp32; here it is refused.

Float32 is float32: torch would let cuDNN's convolutions round to TF32 unasked, here only `tf32: true` does.

What ranks do together, so that none waits for one that has failed.
"""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from clef.config import CellConfig
from clef.errors import HUNG, ClefError, ConfigError, SetupError


class Watchdog:
    """A thread that wants to be fed by every step, scored batch and checkpoint. `seconds` 0: there is none.

    When it isn't, it writes the stacks of all threads to `path`, tells `last_word` why, and ends the process.
    """

    def __init__(self, seconds: float, path: Path, last_word: Callable[[str], None]) -> None:
        self.seconds, self.path, self.last_word = seconds, path, last_word
        self.fed = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self.feed()
        if self.seconds:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def feed(self) -> None:
        """Something moved."""
        self.fed = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(max(0.01, self.fed + self.seconds - time.monotonic())):
            if time.monotonic() > self.fed + self.seconds:
                self._bite()

    def _bite(self) -> None:
        why = f"hung: nothing moved for runtime.watchdog={self.seconds:g} seconds; all stacks are in {self.path.name}"
        with suppress(Exception):  # a full disk, say: the exit comes
            with self.path.open("w") as file:
                faulthandler.dump_traceback(file, all_threads=True)
            self.last_word(why)
        print(why, file=sys.stderr, flush=True)
        os._exit(HUNG)


_ACCELERATE = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def choose(config: CellConfig, on_cpu: bool) -> Any:
    """accelerate's word for the config's precision, checked against the launcher's flag and the device."""
    wanted = config.mixed_precision
    flag = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    # `accelerate launch` says "no" also when no flag was given.
    if flag not in ("no", "", _ACCELERATE[wanted]):
        raise ConfigError(
            f"accelerate launch was given --mixed_precision {flag}, the config says {wanted}; "
            f"add mixed_precision={flag}, or drop the flag"
        )
    if wanted == "fp16" and on_cpu:
        raise SetupError("mixed_precision=fp16: not to be had on a CPU (it would silently be fp32); bf16 or fp32 are")
    if wanted == "bf16" and not on_cpu and not torch.cuda.is_bf16_supported():
        raise SetupError("mixed_precision=bf16: this GPU has no bfloat16; fp16 or fp32 are possible")
    return _ACCELERATE[wanted]


def fix_policy(config: CellConfig) -> None:
    """Set what torch has for whole processes: TF32, and kernels that may differ from run to run."""
    torch.backends.fp32_precision = "tf32" if config.tf32 else "ieee"  # type: ignore[attr-defined]
    if config.runtime.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(config.runtime.deterministic)
    torch.backends.cudnn.benchmark = False  # would choose kernels by the clock


def resolved(accelerator: Accelerator) -> str:
    """The dtype that a matrix product really has here: asked of one, not of the config."""
    with accelerator.autocast():
        probe = torch.ones(2, 2, device=accelerator.device)
        return str((probe @ probe).dtype).removeprefix("torch.")


def together(accelerator: Accelerator, work: Callable[[], Any]) -> list[Any]:
    """Do `work` on this rank and wait for the others: the results of all, or the first rank's error on every rank."""
    error: Exception | None = None
    result = None
    try:
        result = work()
    except (OSError, ClefError) as raised:
        error = raised
    outcomes = gather_object([(result, error)]) if accelerator.num_processes > 1 else [(result, error)]
    for _, failed in outcomes:
        if failed is not None:
            raise failed
    return [done for done, _ in outcomes]


def synchronize_buffers(method: nn.Module) -> None:
    """Give every rank rank 0's batch-norm statistics, as DDP does before the next step."""
    if dist.is_initialized():
        for buffer in method.buffers():
            dist.broadcast(buffer, 0)
