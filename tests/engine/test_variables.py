"""What environment variables may say of a run, and what they may not."""

import os
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from accelerate.commands.launch import launch_command_parser
from accelerate.state import AcceleratorState
from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

from clef.cells.identity import write_config
from clef.config import CellConfig
from clef.engine import distributed, provenance, run, slurm_task, variables
from clef.errors import ConfigError, SetupError

Make = Callable[..., CellConfig]
ONE_RANK = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}


@pytest.fixture(autouse=True)
def few_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing, whatever that of the tests says."""
    for name in [name for name in os.environ if name.startswith(("ACCELERATE_", "NVIDIA_"))]:
        monkeypatch.delenv(name)


def of_accelerate(*options: str) -> dict[str, str]:
    """The variables that `accelerate launch` gives to a run, with these options."""
    args = launch_command_parser().parse_args(["--mixed_precision", "no", *options, "train.py"])
    args.num_machines, args.num_cpu_threads_per_process = 1, 1
    args.use_cpu, args.dynamo_backend = False, args.dynamo_backend or "no"
    several = bool(args.num_processes)
    found: dict[str, str] = prepare_multi_gpu_env(args) if several else prepare_simple_launcher_cmd_env(args)[1]
    return {name: value for name, value in found.items() if name not in os.environ}


@pytest.mark.parametrize("options", [(), ("--cpu",), ("--num_processes", "2", "--multi_gpu"), ("--debug",)])
def test_what_accelerate_launch_always_sets_is_no_contradiction(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    stated = of_accelerate(*options)
    assert {"ACCELERATE_MIXED_PRECISION", "ACCELERATE_DYNAMO_BACKEND"} <= set(stated)
    for name, value in stated.items():
        monkeypatch.setenv(name, value)
    variables.check_settings(tiny())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--dynamo_backend", "inductor"), "ACCELERATE_DYNAMO_BACKEND=INDUCTOR"),
        (("--num_processes", "2", "--multi_gpu", "--use_fsdp"), "ACCELERATE_USE_FSDP=true"),
    ],
)
def test_what_accelerate_launch_would_change_is_refused_by_name(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], named: str
) -> None:
    for name, value in of_accelerate(*options).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=named):
        variables.check_settings(tiny())


@pytest.mark.parametrize(
    "stated",
    [
        "ACCELERATE_USE_DEEPSPEED=true", "ACCELERATE_USE_MEGATRON_LM=true", "ACCELERATE_USE_PARALLELISM_CONFIG=true",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4", "ACCELERATE_TORCH_DEVICE=cuda:1", "ACCELERATE_FP8_BACKEND=TE",
        "NVIDIA_TF32_OVERRIDE=1", "CUBLAS_EMULATE_SINGLE_PRECISION=1", "PYTORCH_TUNABLEOP_ENABLED=1",
    ],
)  # fmt: skip
def test_a_variable_that_computes_otherwise_is_refused(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, stated: str
) -> None:
    name, _, value = stated.partition("=")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=stated):
        variables.check_settings(tiny())


def test_what_the_config_says_too_may_be_said(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    variables.check_settings(tiny())
    with pytest.raises(ConfigError, match="the config says tf32=true"):
        variables.check_settings(tiny(tf32=True))


def test_a_cell_that_would_be_compiled_is_not_trained(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    write_config(tmp_path / "cell", tiny())
    with pytest.raises(ConfigError, match="ACCELERATE_DYNAMO_BACKEND=EAGER"):
        run.run_cell(tmp_path / "cell")
    assert not (tmp_path / "cell/checkpoints").exists()


def test_float32_is_float32_whatever_the_environment_says(tiny: Make) -> None:
    torch.set_float32_matmul_precision("high")  # as TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 does, before torch is imported
    try:
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        distributed.set_numeric_policy(tiny())
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        distributed.set_numeric_policy(tiny(tf32=True))
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        distributed.set_numeric_policy(tiny())
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"


def test_variables_that_may_move_a_bit_are_recorded_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {"variables": variables.recorded()}
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "17")
    now = {"variables": variables.recorded()}
    assert now["variables"]["ATEN_CPU_CAPABILITY"] == "avx2"
    assert provenance.differences(before, now) == {"variables.ATEN_CPU_CAPABILITY": [None, "avx2"]}


@pytest.fixture
def no_ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable of ranks, and no process group afterwards."""
    for name in (*variables.RANKS, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)


def test_threads_are_as_stated_with_ranks_on_cpus(tiny: Make, no_ranks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ONE_RANK.items():
        monkeypatch.setenv(name, value)
    with run.running_ranks(tiny(**{"runtime.threads": 3})):
        assert torch.get_num_threads() == 3


def test_ranks_wait_longer_for_each_other_than_a_job_is_suspended(
    tiny: Make, no_ranks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ONE_RANK.items():
        monkeypatch.setenv(name, value)
    with run.running_ranks(tiny()):
        distributed.outlast_suspension()
        backend = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
        assert backend.options._timeout == timedelta(hours=24)


@pytest.mark.parametrize(
    ("stated", "why"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "LOCAL_RANK, MASTER_ADDR, MASTER_PORT missing"),
        ({**ONE_RANK, "RANK": "1"}, "there is no rank 1 of 1"),
        ({"RANK": "one"}, "numbers are expected"),
        ({"LOCAL_RANK": "0"}, "RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT missing"),
        ({"PMI_SIZE": "4"}, "MPI's ranks are not joined"),
    ],
)
def test_half_of_the_variables_of_ranks_are_refused(
    no_ranks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stated: dict[str, str], why: str
) -> None:
    for name, value in stated.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SetupError, match=why) as caught:
        run.run_cell(tmp_path)
    assert f"unset {' '.join(name for name in (*variables.RANKS, 'PMI_SIZE') if name in stated)}" in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stated", [{}, {"WORLD_SIZE": "1"}, {"RANK": "0", "WORLD_SIZE": "1"}, ONE_RANK])
def test_variables_of_one_rank_may_be_there(
    no_ranks: None, monkeypatch: pytest.MonkeyPatch, stated: dict[str, str]
) -> None:
    for name, value in stated.items():
        monkeypatch.setenv(name, value)
    variables.check_ranks()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_port_that_another_program_uses_is_named(tiny: Make, no_ranks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = str(other.getsockname()[1])
        for name, value in {**ONE_RANK, "WORLD_SIZE": "2", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SetupError, match=f"MASTER_PORT={port}: another program"), run.running_ranks(tiny()):
            pass


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_rank_that_is_alone_says_whom_it_waits_for(
    tiny: Make, no_ranks: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], rank: str
) -> None:
    monkeypatch.setattr(distributed, "ANNOUNCE_AFTER_S", 0.1)
    monkeypatch.setattr(distributed, "RANKS_WAIT_MINUTES", 0.01)
    for name, value in {**ONE_RANK, "RANK": rank, "WORLD_SIZE": "2", "MASTER_PORT": str(free_port())}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SetupError, match="the other ranks did not come within"), run.running_ranks(tiny()):
        pass
    said = capfd.readouterr().err
    assert f"waiting for the other ranks, 0.01 minutes at most: RANK={rank} WORLD_SIZE=2 LOCAL_RANK=0" in said
    assert "unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT" in said


def test_a_task_of_the_launcher_forgets_other_ranks(no_ranks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**ONE_RANK, "WORLD_SIZE": "8", "TORCHELASTIC_USE_AGENT_STORE": "True", "PMI_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    monkeypatch.setenv("SUBMITIT_LOCAL_NTASKS", "1")
    slurm_task._join_ranks()
    assert not [name for name in os.environ if name in variables.RANKS or name.startswith(("TORCHELASTIC", "PMI_"))]
