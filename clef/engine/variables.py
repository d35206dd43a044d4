"""What environment variables may say of a run: on which ranks and devices it is. All else is the config's to say.

- Ranks, addresses and devices (RANK, MASTER_ADDR, CUDA_VISIBLE_DEVICES, ACCELERATE_USE_CPU, ...) are taken from them.
- What would compute otherwise than the config says is refused by its name before training: compilation, FSDP,
  DeepSpeed, another precision, ... `accelerate launch` sets these also from a file that a user saved long ago.
- What remains and may move a bit is recorded in `environment.json`, such as ATEN_CPU_CAPABILITY.

Imports no torch.
"""

import os
from collections.abc import Iterator, Mapping

from clef.config import CellConfig
from clef.errors import ConfigError, SetupError

# ---- What the config says ----

_ACCELERATE_MAY_SAY = {
    "ACCELERATE_MIXED_PRECISION",  # where it isn't the config's, `distributed.accelerate_precision` refuses it
    "ACCELERATE_USE_CPU",
    "ACCELERATE_CPU_AFFINITY",
    "ACCELERATE_DEBUG_MODE",
    "ACCELERATE_LOG_LEVEL",
    "ACCELERATE_DISABLE_RICH",
    "ACCELERATE_ENABLE_RICH",
}
_OFF = {"", "no", "none", "false", "0", "default"}
"""How variables say that something is off, in lower case. `accelerate launch` always sets some of them to that."""


def check_settings(config: CellConfig) -> None:
    """Refuse variables that would compute otherwise than the config says. Raises ConfigError, which names them all."""
    if wrong := [f"{name}={os.environ[name]} ({help_})" for name, help_ in _contradictions(config, os.environ)]:
        saved = "; `accelerate launch` may take it from the file that `accelerate config` wrote (`accelerate env`)"
        raise ConfigError(
            f"the config says what a run computes, and the environment says otherwise: {'; '.join(wrong)}. Unset it"
            f"{saved if 'ACCELERATE_' in ''.join(wrong) else ''}"
        )


def _contradictions(config: CellConfig, variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the names of variables that contradict the config, and what to do in place of each."""
    for name, value in sorted(variables.items()):
        value = value.lower()
        if name == "ACCELERATE_GRADIENT_ACCUMULATION_STEPS":
            if value not in {"1", "auto", *_OFF}:
                yield name, "the config has optimizer.gradient_accumulation_steps"
        elif name == "ACCELERATE_TORCH_DEVICE":
            yield name, "the config has runtime.device, and CUDA_VISIBLE_DEVICES chooses among GPUs"
        elif name.startswith("ACCELERATE_"):
            if name not in _ACCELERATE_MAY_SAY and value not in _OFF:
                yield name, "the config has no such setting"
        elif name == "NVIDIA_TF32_OVERRIDE":
            if value != ("1" if config.tf32 else "0"):
                yield name, f"the config says tf32={str(config.tf32).lower()}"
        elif name in ("CUBLAS_EMULATE_SINGLE_PRECISION", "CUBLAS_EMULATE_DOUBLE_PRECISION"):
            if value not in _OFF:
                yield name, "float32 is computed as float32 here"
        elif name == "PYTORCH_TUNABLEOP_ENABLED" and value not in _OFF:
            yield name, "it would choose kernels by the clock"


def wants_cpu() -> bool:
    """Return whether `accelerate launch` was told to leave the GPUs alone (`--cpu`, or so saved)."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on", "y", "t")


# ---- What is recorded ----

_RECORDED = ("ATEN_", "CUBLAS", "CUDNN_", "DNNL_", "MKL_", "NCCL_", "NVIDIA_TF32", "ONEDNN_", "PYTORCH_", "TORCH")
_NOT_RECORDED = ("MKL_NUM_THREADS", "TORCHELASTIC_", "TORCH_NCCL_")
"""Recorded as the number of threads, or set by torchrun for itself."""
_PLACES = ("_DIR", "_HOME", "_PATH")


def recorded() -> dict[str, str]:
    """Return the variables that are set of those that may choose other kernels or sum in another order."""
    names = [name for name in sorted(os.environ) if name.startswith(_RECORDED) and not name.endswith(_PLACES)]
    return {name: os.environ[name] for name in names if not name.startswith(_NOT_RECORDED)}


# ---- Ranks ----

RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What each of several ranks needs; a launcher sets them all."""
_OF_LAUNCHERS = (*RANKS, "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_")
_OF_MPI = ("OMPI_COMM_WORLD_", "MV2_COMM_WORLD_", "MPI_LOCAL", "PMI_")


def forget_ranks() -> None:
    """Remove what other launchers say of ranks: a process that was started for one rank, or knows its own, is alone.

    It may come from a notebook, or from the shell or job in which the launcher was started.
    """
    for name in [name for name in os.environ if name.startswith((*_OF_LAUNCHERS, *_OF_MPI, "TORCHELASTIC_"))]:
        del os.environ[name]


def check_ranks() -> None:
    """Refuse variables that don't make sense together: torch would wait for an hour. Raises SetupError, names them."""
    stated = {name: os.environ[name] for name in RANKS if name in os.environ}
    for name in ("OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "PMI_SIZE"):
        if "WORLD_SIZE" not in stated and os.environ.get(name, "1") != "1":
            raise _ranks_error("MPI's ranks are not joined here", name)
    try:
        rank, ranks = int(stated.get("RANK", 0)), int(stated.get("WORLD_SIZE", 1))
    except ValueError:
        raise _ranks_error("numbers are expected") from None
    if not 0 <= rank < ranks:
        raise _ranks_error(f"there is no rank {rank} of {ranks}")
    several = ranks > 1 or "LOCAL_RANK" in stated
    if several and (missing := [name for name in RANKS if name not in stated]):
        raise _ranks_error(f"{', '.join(missing)} missing")


def describe_ranks(*names: str) -> str:
    """Return what is stated of ranks, and what to do when that is left from another launcher."""
    stated = {name: os.environ[name] for name in names or RANKS if name in os.environ}
    shown = " ".join(f"{name}={value}" for name, value in stated.items())
    return f"{shown}. If no launcher means this run, they are left from another one: unset {' '.join(stated)}"


def _ranks_error(why: str, *names: str) -> SetupError:
    return SetupError(f"ranks: {why}: {describe_ranks(*names)}. To start several ranks, use torchrun")
