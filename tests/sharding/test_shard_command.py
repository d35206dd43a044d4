"""`python -m clef.shard` in parts, resharding and verifying, as it is typed."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import clef.shard
from clef.data import manifest as manifests
from clef.errors import run_command
from tests.sharding import small_set

CARD = """
extends: caer_s
name: mine
storage: {frame: 32, body: 24, face: 16, samples_per_shard: 8}
reader_options: {val_gap: 1}
"""
Shard = Callable[..., tuple[int, str]]


@pytest.fixture
def shard(
    small_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shard:
    """Runs the command on the small set, with a card of its own: its exit code and all that it said."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(CARD)
    asked = ["clef.shard", "--dataset", "mine.yaml", "--source", str(small_source), "--workers", "2"]

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [*asked, *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            run_command(clef.shard.main)
        said = capsys.readouterr()
        return int(left.value.code or 0), " ".join((said.out + said.err).split())

    return run


@pytest.mark.slow
def test_parts_are_finished_verified_and_resharded(shard: Shard, tmp_path: Path) -> None:
    assert shard("--out", "plain")[0] == 0
    code, said = shard("--part", "2/2")
    assert (code, "part 2/2 is complete: 4 shards, 26 people" in said) == (0, True), said
    code, said = shard("--finish")
    assert (code, "run again: --part 1/2" in said, "Traceback" in said) == (4, True, False)
    assert shard("--part", "1/2")[0] == 0
    code, said = shard("--finish")
    assert (code, "in shards/mine" in said) == (0, True)
    assert small_set.hashes(tmp_path / "shards/mine") == small_set.hashes(tmp_path / "plain/mine")
    code, said = shard("--reshard", 20, "--to", "copies")
    assert (code, "samples; their content is that of shards/mine" in said) == (0, True)
    code, said = shard("--out", "copies", "--verify")
    assert (code, "copies/mine: complete" in said, "MB" in said) == (0, True, True)
    assert manifests.load(tmp_path / "copies/mine").samples_per_shard == 20
    assert shard("--out", "copies")[0] == 0  # it is the source's set: nothing is made anew


@pytest.mark.slow
def test_a_damaged_set_ends_verifying_with_its_code(shard: Shard, small_shards: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(small_shards, tmp_path / "shards/mine")
    (copy / "train-000099.tar").write_bytes(b"")
    code, said = shard("--verify")
    assert (code, "1 fault: train-000099.tar: not in the manifest" in said) == (4, True)
    manifests.path_of(copy).write_bytes(b"\xff")
    code, said = shard("--verify")
    assert (code, "manifest.json: damaged" in said, "Traceback" in said) == (4, True, False)


def test_a_task_of_the_job_array_makes_its_part(tmp_path: Path) -> None:
    (tmp_path / "python").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "python").chmod(0o755)
    job = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "4"}
    script = Path(__file__).parents[2] / "slurm/shard.sbatch"
    said = subprocess.run([script, "8", "--dataset", "emotic"], env=job, capture_output=True, text=True, check=True)
    assert said.stdout == "-m clef.shard --part 3/8 --workers 4 --dataset emotic\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--part", "3/2"), 2, "--part 3/2: i/n is expected"),
        (("--part", "1/2", "--finish"), 2, "one at a time"),
        (("--reshard", "20"), 2, "--reshard and --to need each other"),
        (("--to", "x"), 2, "--reshard and --to need each other"),
        (("--reshard", "0", "--to", "x"), 2, "--reshard 0: at least 1"),
        (("--reshard", "20", "--to", "shards"), 2, "overlaps the set's own folder"),
        (("--reshard", "20", "--to", "x"), 4, "no shards here"),
    ],
)
def test_what_can_not_be_asked_for(shard: Shard, arguments: tuple[str, ...], code: int, message: str) -> None:
    found, said = shard(*arguments)
    assert (found, message in said, "Traceback" in said) == (code, True, False), said
