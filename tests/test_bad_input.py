"""Bad input to the real commands: one clear message, no traceback, the documented exit code, nothing lost."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from scipy.io import savemat

import clef.shard
import clef.train
from clef.console import ProgressBars
from clef.data import manifest as manifests
from clef.datasets import cards
from clef.errors import run_command

ROOT = Path(__file__).parent.parent
Run = Callable[..., tuple[int, str]]


def grid_main() -> int:
    spec = importlib.util.spec_from_file_location("grid_command", ROOT / "launch" / "grid.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    code: int = module.main()
    return code


COMMANDS = {"shard": clef.shard.main, "train": clef.train.main, "grid": grid_main}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a command in an empty working directory: its exit code and what it printed to stderr."""
    monkeypatch.chdir(tmp_path)

    def call(command: str, *arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [command, *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            run_command(COMMANDS[command])
        return int(left.value.code or 0), " ".join(capsys.readouterr().err.split())

    return call


@pytest.fixture
def damaged(shards: Path, tmp_path: Path) -> Path:
    """A copy of the shards, to be damaged."""
    return shutil.copytree(shards, tmp_path / "shards")


SHARD = ("shard", "--dataset")
CELL = (
    "train",
    "dataset=caer_s_demo",
    "backbone=emot_net",
    "method=vanilla",
    "backbone.weights={scene: none, body: none}",
)
SMALL = (
    "backbone.width=0.0625", "inputs.scene.size=[24, 24]", "inputs.body.size=[24, 24]", "runtime.num_workers=0"
)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((*SHARD, "emotic"), 3, "data/emotic: EMOTIC not found (Annotations.mat missing). Expected, with <source> ="),
        ((*SHARD, "emotic"), 3, "Request the set at https://"),
        ((*SHARD, "caer_s", "--source", "x [y]"), 3, "x [y]: CAER-S not found"),
        ((*SHARD, "emotik"), 2, "dataset 'emotik': unknown (did you mean emotic?)"),
        ((*SHARD, "mine.yaml"), 2, "mine.yaml: no such file"),
        ((*SHARD, "emotic", "--workers", "0"), 2, "--workers 0: at least 1 is expected"),
        ((*SHARD, "emotic", "--worker", "x"), 2, "invalid int value: 'x'"),
        ((*SHARD, "emotic", "--verify"), 4, "no shards here"),
        (("shard",), 2, "the following arguments are required: --dataset"),
        ((*CELL,), 4, "no shards here"),
        ((*CELL, "epochs=0"), 2, "epochs: input should be greater than or equal to 1"),
        ((*CELL, "lr=1"), 2, "lr: unknown; valid: against, backbone, backbone_label, batch_size"),
        ((*CELL, "epochs"), 2, "'epochs': overrides are written key=value"),
        (("train", "--config", "none.yaml"), 2, "none.yaml: no such file"),
        (("train", "dataset=emotic"), 2, "method is missing; set it, for example method=clef"),
        (("grid",), 2, "say where to train"),
        (("grid", "--local", "--grid", "none.yaml"), 2, "none.yaml: no such file"),
        (("grid", "--gather"), 6, "no plan here; run the grid first"),
        (("grid", "--partition", "gpu", "--local"), 2, "not allowed with argument"),
        (("grid", "epochs=x", "--local"), 2, "epochs: input should be a valid integer"),
        (("grid", "--local"), 4, "no shards here"),
    ],
)  # fmt: skip
def test_a_wrong_command(run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple, code: int, message: str) -> None:
    monkeypatch.setattr(cards, "load", without_generator(cards.load))
    found, said = run(*arguments)
    assert message in said
    assert found == code
    assert "Traceback" not in said


def without_generator(load: Callable) -> Callable:
    """A demo set that is missing would be drawn; here it is to be missing."""
    return lambda *arguments: load(*arguments).model_copy(update={"generator": None})


def spoil_format(root: Path) -> None:
    path = root / "manifest.json"
    path.write_text(path.read_text().replace('"format": 3', '"format": 99', 1))


def other_dataset(root: Path) -> None:
    manifests.save(root, manifests.load(root).model_copy(update={"dataset": "hecate"}))


def lose_split(root: Path) -> None:
    manifest = manifests.load(root)
    splits = {name.replace("test_shift", "elsewhere"): split for name, split in manifest.splits.items()}
    manifests.save(root, manifest.model_copy(update={"splits": splits}))


def meddle(root: Path) -> None:
    path = root / "manifest.json"
    path.write_text(path.read_text().replace('"listed": 1', '"listed": 2', 1))


def spoil_json(root: Path) -> None:
    (root / "manifest.json").write_text('{"format": 1, "dataset"')


def spoil_field(root: Path) -> None:
    path = root / "manifest.json"
    path.write_text(path.read_text().replace('"samples": ', '"samples": "many", "x": ', 1))


def cut_tar(root: Path) -> None:
    tar = root / "train-000000.tar"
    os.truncate(tar, tar.stat().st_size // 2)


def lose_tar(root: Path) -> None:
    (root / "val-000000.tar").unlink()


def spoil_index(root: Path) -> None:
    (root / "train.index.npy").write_bytes(b"nothing")


def spoil_member(root: Path) -> None:
    tar = root / "train-000000.tar"
    data = bytearray(tar.read_bytes())
    start = data.index(b"\xff\xd8\xff")
    while start >= 0:  # every JPEG loses its header
        data[start : start + 3] = b"\0\0\0"
        start = data.find(b"\xff\xd8\xff")
    tar.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (spoil_format, "format 99, this version reads 3; make the shards again in another folder"),
        (other_dataset, "made with another card than the cell's"),
        (lose_split, "made with another card than the cell's"),
        (spoil_json, "manifest.json: damaged"),
        (meddle, "manifest.json: damaged: not what was written (checksum); restore it from a copy"),
        (spoil_field, "manifest.json: damaged: splits"),
        (cut_tar, "train-000000.tar"),
        (lose_tar, "val-000000.tar: No such file or directory; restore it from a copy"),
        (spoil_index, "train.index.npy: the index can't be read"),
        (spoil_member, "not an image that can be decoded"),
    ],
)
def test_damaged_shards(run: Run, damaged: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(damaged / "caer_s_demo")
    code, said = run(*CELL, *SMALL)
    assert message in said
    assert code == 4
    assert "Traceback" not in said
    assert "remove" not in said, "the other files are sound"


@pytest.mark.slow
def test_verify_names_the_damage(run: Run, damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProgressBars, "SECONDS_BETWEEN_LINES", float("inf"))
    code, said = run(*SHARD, "caer_s_demo", "--verify")
    assert (code, re.sub(r"\w+: (\d+)/\1 MB ?", "", said)) == (0, "")  # nothing but its progress
    spoil_member(damaged / "caer_s_demo")
    code, said = run(*SHARD, "caer_s_demo", "--verify")
    assert "1 fault: train-000000.tar: not the bytes that were written" in said
    assert code == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        (["backbone.weights.body=imagenet-resnet18"], 5, "resnet18-f37072fd.pth: the weights imagenet-"),
        (["backbone.weights.body=imagenet-resnet19"], 2, "unknown (did you mean imagenet-resnet18?)"),
        (["backbone.weights.body=./my.pth"], 5, "my.pth: no such weights file"),
        (["backbone.weights.bodyy=none"], 2, "backbone.weights.bodyy: unknown (did you mean body?)"),
        (["optimizer.lr=.inf"], 2, "optimizer.lr: input should be a finite number"),
        (["mixed_precision=fp16"], 5, "mixed_precision=fp16: not available on a CPU"),
        (["optimizer.lr=1e30", "runtime.log_every=2"], 6, "non-finite: the loss of step"),
    ],
)  # fmt: skip
def test_what_this_machine_or_cell_cannot_do(
    run: Run, damaged: Path, tmp_path: Path, settings: list[str], code: int, message: str
) -> None:
    found, said = run(*CELL, *SMALL, f"runtime.weights={tmp_path}/cache", *settings)
    assert message in said
    assert found == code
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "code", "message"),
    [
        (
            "timm:test_vit",
            5,
            "are not there; on a machine with internet run `python -m clef.weights --fetch timm:test_vit",
        ),
        ("timm:tset_vit", 2, "error: timm:tset_vit: timm has no 'tset_vit'; did you mean test_vit"),
    ],
)
def test_an_encoder_by_name_that_is_not_here(
    run: Run, damaged: Path, tmp_path: Path, network: str, code: int, message: str
) -> None:
    pytest.importorskip("timm", reason="NOT TESTED: timm is not installed (extra: encoders)")
    branch = f"method.context_branch={{network: '{network}', weights: published}}"
    found, said = run(*CELL[:3], *SMALL, CELL[4], "method=clef", branch, f"runtime.weights={tmp_path}")
    assert message in said
    assert found == code


@pytest.mark.slow
def test_an_unfinished_run_asks_what_to_do(run: Run, damaged: Path) -> None:
    cell = (*CELL, *SMALL, "epochs=1")
    assert run(*cell, "runtime.stop_after=1")[0] == 0
    code, said = run(*cell, "runtime.stop_after=2")
    assert (code, "continue it with --resume, or train it again with --restart" in said) == (6, True)
    code, said = run(*cell, "--resume", "runtime.stop_after=2")
    assert (code, "continues after step 1/" in said) == (0, True)


@pytest.mark.slow
def test_garbage_in_a_checkpoint_names_the_folder(run: Run, damaged: Path, tmp_path: Path) -> None:
    cell = (*CELL, *SMALL, "epochs=1")
    assert run(*cell, "runtime.stop_after=1")[0] == 0
    (path,) = tmp_path.glob("runs/single/*/checkpoints/step-*/optimizer.pt")
    path.write_bytes(b"garbage")
    code, said = run(*cell, "--resume")
    assert (code, "optimizer.pt was changed or cut short" in said, "Traceback" in said) == (6, True, False)


@pytest.mark.slow
def test_a_card_of_ones_own_is_sharded_and_trained(run: Run, sources: Path, tmp_path: Path) -> None:
    card = "extends: caer_s\nname: mine\nsplits: {train: {split: train}, val: {split: val}, test: {split: test}}\n"
    (tmp_path / "mine.yaml").write_text(card)
    root = sources / "caer_s_demo" / "main"
    assert run(*SHARD, "mine.yaml", "--source", root, "--workers", 1)[0] == 0
    assert run("train", "dataset=mine.yaml", *CELL[2:], *SMALL, "epochs=1")[0] == 0
    assert list(tmp_path.glob("runs/single/mine-emot_net-vanilla-s0-*/result.json"))
    (tmp_path / "mine.yaml").write_text(card.replace("name: mine", "name: other"))
    code, said = run(*SHARD, "mine.yaml")
    assert (code, "name: mine is expected, as the file is called" in said) == (2, True)


def test_sources_that_are_not_as_documented(run: Run, sources: Path, tmp_path: Path) -> None:
    root = shutil.copytree(sources / "caer_s_demo" / "main", tmp_path / "caer_s")
    build = (*SHARD, "caer_s", "--source", root, "--workers", 1)
    (root / "test" / "Joy").mkdir()
    code, said = run(*build)
    assert (code, "unknown class; known: Anger" in said) == (3, True)
    (root / "test" / "Joy").rmdir()
    (root / "test.txt").write_text("Happy/0001.png,3,1,2,3\n")
    code, said = run(*build)
    assert (code, "test.txt:1: Class/file.png,label,x1,y1,x2,y2 is expected" in said) == (3, True)
    (root / "test.txt").unlink()
    code, said = run(*build)
    assert (code, "no face boxes" in said) == (3, True)

    root = shutil.copytree(sources / "emotic_demo" / "main", tmp_path / "emotic")
    build = (*SHARD, "emotic", "--source", root, "--workers", 1)
    savemat(root / "Annotations" / "Annotations.mat", {"other": 1})
    code, said = run(*build)
    assert (code, "no struct array 'train' in it" in said) == (3, True)
    (root / "Annotations" / "Annotations.mat").write_bytes(b"not matlab")
    code, said = run(*build)
    assert (code, "can't be read as a MATLAB v5 file" in said) == (3, True)
    assert not (tmp_path / "shards" / "emotic" / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["-m", "clef.shard", "--dataset", "caer_s"], 3, "CAER-S not found"),
        (["-m", "clef.train", "dataset=emotic", "backbone=emot_nett", "method=clef"], 2, "did you mean emot_net?"),
        (["-m", "clef.train", "dataset=emotic", "backbone=emot_net", "method=clef"], 4, "no shards here"),
        ([str(ROOT / "launch" / "grid.py"), "--gather"], 6, "no plan here"),
        ([str(ROOT / "launch" / "grid.py"), "--dry-run", "--grid", "[b]g.yaml"], 2, "error: [b]g.yaml: no such file"),
    ],
)
def test_the_exit_codes_of_real_processes(tmp_path: Path, command: list[str], code: int, message: str) -> None:
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_launcher_flag_that_contradicts_the_config(run: Run, damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    code, said = run(*CELL, "runtime.num_workers=0")
    assert (code, "--mixed_precision bf16, the config says fp32; add mixed_precision=bf16" in said) == (2, True)


def test_shards_without_faces_are_refused_for_caer_net(run: Run, damaged: Path) -> None:
    manifest = manifests.load(damaged / "emotic_demo")
    manifest.splits["test"].members["face.jpg"] = 0
    manifests.save(damaged / "emotic_demo", manifest)
    code, said = run("train", "dataset=emotic_demo", "backbone=caer_net", "method=vanilla")
    assert (code, "nobody in test has a face.jpg, which caer_net reads as 'face'" in said) == (4, True)
