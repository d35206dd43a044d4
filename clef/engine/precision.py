"""Which precision a run really gets. fp16 on a CPU would silently be fp32; here it is refused.

Float32 is float32: torch would let cuDNN's convolutions round to TF32 unasked, here only `tf32: true` does.
"""

import os
from typing import Any

import torch
from accelerate import Accelerator

from clef.config import CellConfig
from clef.errors import ConfigError, SetupError

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
