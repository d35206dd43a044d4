"""What concerns the process and the other ranks: precision, work that all ranks wait for, and the watchdog.

A precision is never exchanged for another silently: fp16 on a CPU, which accelerate would compute in fp32, is
refused, and float32 is float32. (PyTorch would let cuDNN's convolutions round to TF32 by default.)
"""

import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from clef.config import CellConfig
from clef.engine import variables
from clef.errors import HUNG, ClefError, ConfigError, SetupError
from clef.process import running_seconds

# ---- Precision ----

_ACCELERATE_NAMES = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def accelerate_precision(config: CellConfig, on_cpu: bool) -> Any:
    """Return accelerate's name of the config's precision, checked against the launcher's flag and the device.

    Raises ConfigError when the flag says otherwise, SetupError when the device can't compute in it.
    """
    wanted = config.mixed_precision
    flag = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    # `accelerate launch` says "no" also when no flag was given.
    if flag not in ("no", "", _ACCELERATE_NAMES[wanted]):
        raise ConfigError(
            f"accelerate launch was given --mixed_precision {flag}, the config says {wanted}; "
            f"add mixed_precision={flag}, or drop the flag"
        )
    if wanted == "fp16" and on_cpu:
        raise SetupError("mixed_precision=fp16: not available on a CPU (it would silently be fp32); use bf16 or fp32")
    if wanted == "bf16" and not on_cpu and not torch.cuda.is_bf16_supported():
        raise SetupError("mixed_precision=bf16: this GPU has no bfloat16; use fp16 or fp32")
    return _ACCELERATE_NAMES[wanted]


def set_numeric_policy(config: CellConfig) -> None:
    """Set what torch has for whole processes: TF32, and kernels that may differ from run to run."""
    wanted = "tf32" if config.tf32 else "ieee"
    torch.backends.fp32_precision = wanted  # type: ignore[attr-defined]
    if torch.backends.cuda.matmul.fp32_precision != wanted:  # TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, as in NVIDIA's images
        torch.backends.cuda.matmul.fp32_precision = wanted
    if config.runtime.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(config.runtime.deterministic)
    torch.backends.cudnn.benchmark = False  # would choose kernels by the clock


def matmul_dtype(accelerator: Accelerator) -> str:
    """Return the dtype that a matrix product really has here: asked of one, not of the config."""
    with accelerator.autocast():
        probe = torch.ones(2, 2, device=accelerator.device)
        return str((probe @ probe).dtype).removeprefix("torch.")


# ---- Ranks ----

RANKS_WAIT_MINUTES = 60.0
"""How long a rank waits for the others: to begin, and in an exchange where no watchdog would end it sooner."""
EXCHANGE_HOURS = 24
"""How long it waits in an exchange where one does, by torch's clock: there, time passes while a job is suspended."""
ANNOUNCE_AFTER_S = 15
"""Seconds until a rank says that it waits for others to begin."""


@contextmanager
def waiting_announced() -> Iterator[None]:
    """Say who is waited for, and why, when the ranks have not come together within a moment of this block.

    Raises SetupError when they have not in time, or where the port that they meet at is another program's.
    """
    timer = threading.Timer(ANNOUNCE_AFTER_S, _announce_waiting)
    timer.daemon = True
    if os.environ.get("WORLD_SIZE", "1") != "1":
        timer.start()
    try:
        yield
    except dist.DistError as error:
        if "EADDRINUSE" in str(error):
            port = os.environ.get("MASTER_PORT")
            raise SetupError(
                f"MASTER_PORT={port}: another program on this machine uses this port; name another (accelerate launch "
                "--main_process_port, torchrun --master_port)"
            ) from None
        text = f"the other ranks did not come within {RANKS_WAIT_MINUTES:g} minutes: {variables.describe_ranks()}"
        raise SetupError(text) from None
    finally:
        timer.cancel()


def _announce_waiting() -> None:
    text = f"waiting for the other ranks, {RANKS_WAIT_MINUTES:g} minutes at most: {variables.describe_ranks()}"
    print(text, file=sys.stderr, flush=True)


def outlast_suspension() -> None:
    """Let the ranks wait EXCHANGE_HOURS for each other from now on."""
    if dist.is_initialized():
        # Public from torch 2.14 on; `_set_pg_timeout` before.
        set_timeout = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
        set_timeout(timedelta(hours=EXCHANGE_HOURS))


def on_all_ranks(accelerator: Accelerator, work: Callable[[], Any]) -> list[Any]:
    """Do `work` on this rank, wait for the others, and return the results of all, by rank.

    Where it failed on some rank, every rank raises the error of the first of them: none waits for one that is gone.
    """
    error: Exception | None = None
    result = None
    try:
        result = work()
    except (OSError, ClefError) as raised:
        error = raised
    outcomes = gather_object([(result, error)]) if accelerator.num_processes > 1 else [(result, error)]
    for _, rank_error in outcomes:
        if rank_error is not None:
            raise rank_error
    return [rank_result for rank_result, _ in outcomes]


def synchronize_buffers(method: nn.Module) -> None:
    """Give every rank rank 0's batch-norm statistics, as DDP does before the next step."""
    if dist.is_initialized():
        for buffer in method.buffers():
            dist.broadcast(buffer, 0)


# ---- Watchdog ----


class Watchdog:
    """A thread that ends the process when nothing has moved for `seconds` in which it ran (0: never).

    Every step, scored batch and checkpoint must `feed` it. When none does, it writes the stacks of all threads to
    `path`, calls `on_hung` with the reason, and exits with code 7.
    """

    def __init__(self, seconds: float, path: Path, on_hung: Callable[[str], None]) -> None:
        self.seconds, self.path, self.on_hung = seconds, path, on_hung
        self._fed_at = running_seconds()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self.feed()
        if self.seconds:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()

    def feed(self) -> None:
        """Note that something moved."""
        self._fed_at = running_seconds()

    def _watch(self) -> None:
        while not self._is_over.wait(max(0.01, self._fed_at + self.seconds - running_seconds())):
            if running_seconds() > self._fed_at + self.seconds:
                self._end_process()

    def _end_process(self) -> None:
        why = f"hung: nothing moved for runtime.watchdog={self.seconds:g} seconds; all stacks are in {self.path.name}"
        with suppress(Exception):  # whatever fails here, a full disk say, the process must end
            with self.path.open("w", encoding="utf-8") as file:
                faulthandler.dump_traceback(file, all_threads=True)
            self.on_hung(why)
        print(why, file=sys.stderr, flush=True)
        os._exit(HUNG)
