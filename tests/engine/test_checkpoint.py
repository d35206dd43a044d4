"""Checkpoints: what is damaged is noticed, what is whole is never given up for what isn't yet."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from clef.cells import records
from clef.cells.identity import write_config
from clef.config import CellConfig
from clef.engine import atomic_dir
from clef.engine.run import run_cell
from clef.errors import CellError, SetupError
from tests.faults import Fault, install

Make = Callable[..., CellConfig]


def train(config: CellConfig, folder: Path, **runtime: Any) -> dict[str, Any]:
    """A run of a cell in this process."""
    write_config(folder, config.model_copy(update={"runtime": config.runtime.model_copy(update=runtime)}))
    return run_cell(folder)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two small whole folders, steps 1 and 2."""
    for step in (1, 2):
        temporary = atomic_dir.begin(tmp_path, step)
        hashes = {name: atomic_dir.write(temporary / name, bytes(range(40)) * step) for name in ("a.bin", "b.bin")}
        atomic_dir.commit(temporary, hashes)
    return tmp_path


def test_every_byte_of_every_file_is_watched(two: Path) -> None:
    newest = atomic_dir.complete(two)[-1]
    assert atomic_dir.verify(newest) is None
    flipped = 0
    for path in sorted(newest.iterdir()):
        good = path.read_bytes()
        for place in range(len(good)):
            bad = bytearray(good)
            bad[place] ^= 1 << (place % 8)
            path.write_bytes(bad)
            assert atomic_dir.verify(newest) is not None, (path.name, place)
            flipped += 1
        path.write_bytes(good)
    assert flipped > 300
    assert atomic_dir.verify(newest) is None


@pytest.mark.parametrize("name", ["a.bin", atomic_dir.MARKER])
def test_a_file_cut_short_or_gone_is_noticed(two: Path, name: str) -> None:
    newest = atomic_dir.complete(two)[-1]
    os.truncate(newest / name, 10)
    assert atomic_dir.verify(newest) is not None
    (newest / name).unlink()
    assert atomic_dir.verify(newest) is not None


def test_a_bad_one_falls_back_to_the_one_before_and_is_named(two: Path) -> None:
    older, newest = atomic_dir.complete(two)
    (newest / "b.bin").write_bytes(b"other")
    said: list[str] = []
    assert atomic_dir.latest_valid(two, said.append) == older
    assert said == [
        "checkpoint step-000000002 is damaged: b.bin was changed or cut short (its sha256 differs); renamed to "
        "damaged-000000002, trying the one before"
    ]
    assert atomic_dir.complete(two) == [older]


def test_what_was_never_finished_is_no_checkpoint_and_is_removed_by_the_next(two: Path) -> None:
    atomic_dir.write(atomic_dir.begin(two, 3) / "a.bin", b"half")
    assert [path.name for path in atomic_dir.complete(two)] == ["step-000000001", "step-000000002"]
    atomic_dir.commit(atomic_dir.begin(two, 4), {})
    assert not list(two.glob(".*"))


def test_the_old_ones_stay_when_the_new_one_reads_back_otherwise(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Trap: keeping one and deleting it before its successor is whole leaves none when the disk is full.
    temporary = atomic_dir.begin(two, 3)
    hashes = {"a.bin": atomic_dir.write(temporary / "a.bin", b"content")}
    monkeypatch.setattr(atomic_dir, "verify", lambda path: "a disk that lies")
    with pytest.raises(OSError, match="a disk that lies"):
        atomic_dir.commit(temporary, hashes)
    monkeypatch.undo()
    assert [atomic_dir.verify(two / f"step-00000000{step}") for step in (1, 2)] == [None, None]


def test_a_checkpoint_of_the_same_step_replaces_the_one_before_its_validation(two: Path) -> None:
    temporary = atomic_dir.begin(two, 2)
    atomic_dir.commit(temporary, {"c.bin": atomic_dir.write(temporary / "c.bin", b"after")})
    assert [path.name for path in atomic_dir.complete(two)] == ["step-000000001", "step-000000002"]
    assert (two / "step-000000002" / "c.bin").exists()


@pytest.mark.slow
def test_the_newest_two_and_the_best_are_kept_and_after_the_last_step_the_best_alone(
    tiny: Make, tmp_path: Path
) -> None:
    kept, plain = tmp_path / "kept", tmp_path / "plain"
    result = train(tiny(epochs=2), kept, checkpoint_every=2)
    assert len(atomic_dir.complete(kept / "checkpoints")) == 2
    assert train(tiny(epochs=2), plain, checkpoint_every=2, keep_checkpoints=False)["splits"] == result["splits"]
    assert [path.name for path in (plain / "checkpoints").iterdir()] == ["best.safetensors"]
    same = [(folder / "checkpoints/best.safetensors").read_bytes() for folder in (kept, plain)]
    assert same[0] == same[1]


@pytest.mark.slow
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    tiny: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train(tiny(), tmp_path / "whole")
    broken = tmp_path / "broken"
    train(tiny(), broken, checkpoint_every=2, stop_after=5)
    newest = atomic_dir.complete(broken / "checkpoints")[-1]
    content = bytearray((newest / "optimizer.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (newest / "optimizer.pt").write_bytes(content)
    assert train(tiny(), broken)["splits"] == whole["splits"]
    said = " ".join(capsys.readouterr().err.split())
    assert "checkpoint step-000000005 is damaged: optimizer.pt was changed" in said
    assert "continues after step 4/" in said


@pytest.mark.slow
def test_only_damaged_ones_are_an_error_that_names_them_not_a_silent_new_start(tiny: Make, tmp_path: Path) -> None:
    train(tiny(), tmp_path, stop_after=3)
    (atomic_dir.complete(tmp_path / "checkpoints")[-1] / "model.safetensors").write_bytes(b"short")
    for _ in range(2):  # nor does the second try start anew
        with pytest.raises(CellError, match=r"no checkpoint is left.*\(damaged-000000003\).*--restart"):
            train(tiny(), tmp_path)


@pytest.mark.slow
def test_best_weights_of_steps_that_were_lost_are_not_kept(tiny: Make, tmp_path: Path) -> None:
    train(tiny(epochs=2), tmp_path, stop_after=12)
    best = tmp_path / "checkpoints" / "best.safetensors"
    good = best.read_bytes()
    best.write_bytes(good[:-4] + bytes(4))  # what a later epoch left, say
    train(tiny(epochs=2), tmp_path, stop_after=13)
    assert best.read_bytes() == good
    assert load_file(best)


@pytest.mark.slow
def test_a_full_disk_in_mid_write_costs_nothing_that_was_whole(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(Fault("disk_full", 4, where="checkpoint"), patch=monkeypatch.setattr)
    with pytest.raises(SetupError, match=r"No space left on device.*step-000000002 is complete.*--resume"):
        train(tiny(), tmp_path, checkpoint_every=2)
    monkeypatch.undo()
    assert records.read_json(tmp_path / "state.json")["state"] == "failed"
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000002"]
    assert train(tiny(), tmp_path)["splits"] == train(tiny(), tmp_path / "whole")["splits"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", folder], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.slow
def test_a_disk_that_really_fills_up(
    small_disk: Path, tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = small_disk / "cell"
    train(tiny(), cell, stop_after=2)
    ballast = small_disk / "ballast"
    size = sum(file.stat().st_size for file in (cell / "checkpoints/step-000000002").iterdir())
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - size * 2 // 3))
    monkeypatch.setattr(atomic_dir, "check_room", lambda folder, needed: None)  # as where a quota hides what is free
    with pytest.raises(SetupError, match=r"No space left on device.*step-000000002 is complete"):
        train(tiny(), cell, stop_after=4)
    assert atomic_dir.verify(cell / "checkpoints/step-000000002") is None
    ballast.unlink()
    assert train(tiny(), cell)["splits"] == train(tiny(), tmp_path / "whole")["splits"]


def test_too_little_room_is_refused_before_the_first_step(small_disk: Path, tiny: Make) -> None:
    (small_disk / "ballast").write_bytes(bytes(7_600_000))
    with pytest.raises(SetupError, match=r"need [\d.]+ MB more and 0\.\d MB are free"):
        train(tiny(), small_disk / "cell")
    assert not (small_disk / "cell" / "log.jsonl").exists()


@pytest.mark.slow
def test_the_log_of_lost_steps_is_cut_off(tiny: Make, tmp_path: Path) -> None:
    train(tiny(), tmp_path, checkpoint_every=5, stop_after=5)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": 8, "loss": 1.0}) + "\n" + '{"step": 9, "lo')
    train(tiny(), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == sorted(set(steps))
