"""Site profiles: what reaches sbatch, and what is said of a wrong one."""

import re
from pathlib import Path

import pytest
import yaml

from clef.config import ResourcesConfig
from clef.errors import ConfigError
from launch import profiles
from launch.profiles import Profile
from tests.launch import tiny_grid

TWO_GPUS = ResourcesConfig(gpus=2, cpus=4, memory_gb=8, hours=1)
NO_GPU = ResourcesConfig(gpus=0, cpus=4, memory_gb=8, hours=1)
MEMORY = {"mem": "8GB"}


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        ({}, {"gpus_per_node": "2"}),
        ({"type": "a100"}, {"gpus_per_node": "a100:2"}),
        ({"ask": "gres"}, {"gres": "gpu:2"}),
        ({"ask": "gres", "type": "a100"}, {"gres": "gpu:a100:2"}),
        ({"ask": "gpus-per-task"}, {"gpus_per_task": "1"}),
        ({"ask": "gpus-per-task", "type": "a100"}, {"gpus_per_task": "a100:1"}),
    ],
)
def test_how_gpus_are_asked_for(gpus: dict[str, str], expected: dict[str, str]) -> None:
    site = profiles.Site(Profile.model_validate({"gpus": gpus}))
    assert site.options(TWO_GPUS) == expected | MEMORY
    assert site.options(NO_GPU) == MEMORY


def test_processes_that_share_a_gpu_ask_for_one_together() -> None:
    shared = ResourcesConfig(gpus=1, cpus=2, memory_gb=8, cells_per_task=32, cells_per_gpu=4)
    profile = {"gpus": {"ask": "gpus-per-task", "type": "a100"}, "memory": "per-cpu"}
    site = profiles.Site(Profile.model_validate(profile))
    assert site.options(shared) == {"gpus_per_node": "a100:1", "mem_per_cpu": "1024MB"}, "2 CPUs for each of 4 tasks"


def test_the_command_line_goes_before_the_profile(tmp_path: Path) -> None:
    own = """
    partition: long
    account: lab
    sbatch: {nice: 100, mail-type: FAIL, exclusive: true, requeue: false}
    without_gpu: {partition: cpu}
    gpus: {ask: gres}
    """
    path = write(tmp_path / "own.yaml", own)
    plain = profiles.load_site(path, None, [])
    sbatch = {"nice": "100", "mail_type": "FAIL", "exclusive": True, "requeue": False} | MEMORY
    assert plain.options(TWO_GPUS) == {"partition": "long", "account": "lab", "gres": "gpu:2"} | sbatch
    assert plain.options(NO_GPU) == {"partition": "cpu"} | MEMORY, "in place of all the others"

    over = profiles.load_site(path, "short", ["account=other", "nice=5", "gres=gpu:h100:2"])
    expected = {"partition": "short", "account": "other", "nice": "5", "gres": "gpu:h100:2"}
    assert over.options(TWO_GPUS) == sbatch | expected
    assert over.options(NO_GPU)["partition"] == "short"


def test_times_and_numbers_of_accounts_reach_sbatch_as_written(tmp_path: Path) -> None:
    text = "{account: 00123, sbatch: {begin: 16:30:00, time-min: 1:30:00, deadline: 2024-01-31, comment: 1_000}}"
    options = profiles.load_site(write(tmp_path / "own.yaml", text), None, []).options(NO_GPU)
    expected = {"begin": "16:30:00", "time_min": "1:30:00", "deadline": "2024-01-31", "comment": "1_000"}
    assert options == {"account": "00123"} | expected | MEMORY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("partitoin: gpu", "partitoin: unknown (did you mean partition?); valid: account, constraint, gpus, memory"),
        ("gpus: {form: gres}", "gpus.form: unknown"),
        ("gpus: {ask: gress}", "gpus.ask: input should be 'gpus-per-node', 'gres' or 'gpus-per-task'"),
        ("without_gpu: {sources: {}}", "without_gpu.sources: unknown"),
        ("sbatch: {array: 0-3}", "sbatch: array: the launcher sets this itself"),
        ("memory: per_cpu", "memory: input should be 'per-node', 'per-cpu' or 'none'"),
        ("sharding: {cpus: 0}", "sharding.cpus: input should be greater than or equal to 1"),
        ("- gpu", "a mapping (key: value) is expected"),
    ],
)
def test_a_profile_that_is_wrong_is_told_where(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path / "own.yaml", text)
    with pytest.raises(ConfigError, match=re.escape(expected)) as caught:
        profiles.load_profile(path)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("signal=USR1@60", "--sbatch signal=USR1@60: the launcher sets this itself: cells save themselves at it"),
        ("--output=x", "--sbatch --output=x: the launcher sets this itself: --logs and --status read it"),
        ("export=NONE", "--sbatch export=NONE: the launcher sets this itself: jobs need the environment"),
        ("time=60", "--sbatch time=60: the cells state this: set resources.hours instead"),
        ("cpus-per-task=2", "the cells state this: set resources.cpus instead"),
        ("A=lab", "--sbatch A=lab: the option's long name is expected"),
    ],
)
def test_options_that_the_launcher_or_a_cell_states_are_refused(option: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)):
        profiles.load_site(None, "gpu", [option])


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="--sbatch partition=b contradicts partition=a: state one of them"):
        profiles.load_site(None, "a", ["partition=b"])
    with pytest.raises(ConfigError, match="--sbatch account=y contradicts account=x"):
        profiles.load_site(None, "a", ["account=x", "account=y"])


def test_memory_for_each_cpu_makes_up_the_cells_memory() -> None:
    site = profiles.Site(Profile(memory="per-cpu"))
    assert site.options(NO_GPU)["mem_per_cpu"] == "2048MB"
    assert site.options(TWO_GPUS)["mem_per_cpu"] == "1024MB", "4 CPUs for each of two tasks"
    third = ResourcesConfig(gpus=0, cpus=3, memory_gb=1, hours=1)
    assert site.options(third)["mem_per_cpu"] == "342MB", "rounded up"


def test_a_profile_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"--profile generc: unknown .did you mean generic.*typed-gres; or the path"):
        profiles.load_profile("generc")
    with pytest.raises(ConfigError, match=r"own.yaml: no such file"):
        profiles.load_profile("own.yaml")


def test_where_datasets_lie(tmp_path: Path) -> None:
    for name in ("card", "site", "said"):
        (tmp_path / name).mkdir()
    datasets = {name: str(tmp_path / "card") for name in ("a", "b", "c")} | {"d": str(tmp_path / "gone")}
    own = {"b": str(tmp_path / "site"), "c": str(tmp_path / "site"), "d": str(tmp_path / "gone"), "other": "x"}
    found = profiles.find_sources(Profile(sources=own), [f"c={tmp_path / 'said'}"], datasets)
    assert {name: path.name for name, path in found.items()} == {"a": "card", "b": "site", "c": "said"}
    with pytest.raises(ConfigError, match=r"--source a=.*site contradicts a=.*said: state one of them"):
        profiles.find_sources(Profile(), [f"a={tmp_path / 'said'}", f"a={tmp_path / 'site'}"], datasets)


@pytest.mark.parametrize("name", profiles.profile_names())
def test_the_profiles_that_ship_are_valid(name: str) -> None:
    assert profiles.load_profile(name).partition


def test_the_generic_profile_says_every_key() -> None:
    """With its commented lines taken in, it is valid and leaves no key out."""
    text = (tiny_grid.ROOT / "slurm/profiles/generic.yaml").read_text()
    whole = re.sub(r"^# (?=(account|qos|constraint|sbatch|without_gpu|setup|scratch|sources):)", "", text, flags=re.M)
    whole = re.sub(r"^(  )# (?=type:)|^#(?=   )", r"\1", whole, flags=re.M)
    content = yaml.safe_load(whole)
    assert set(content) == set(Profile.model_fields)
    assert set(content["gpus"]) == set(profiles.GpuRequest.model_fields)
    assert Profile.model_validate(content).sources["emotic"] == "/data/emotic"
