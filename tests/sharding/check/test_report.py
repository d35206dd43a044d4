"""The report: the same bytes however it is made, which release it knows, what the command says and returns."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import clef.shard
from clef.console import ProgressBars
from clef.datasets import cards
from clef.datasets.cards import Release
from clef.errors import run_command
from clef.sharding.check.scan import SplitCounts, nearest_release
from clef.sharding.check.show import print_report
from tests.sharding.check.factories import CaerSet, EmoticSet, annotation, run_check

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `clef.shard --check` in an empty directory: exit code, stdout, stderr, blanks folded."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shard", "--check", "--workers", "1", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            run_command(clef.shard.main)
        said = capsys.readouterr()
        return int(left.value.code or 0), " ".join(said.out.split()), " ".join(said.err.split())

    return call


@pytest.fixture
def dirty(tmp_path: Path) -> Path:
    dataset = EmoticSet.clean()
    dataset.person("train", 0, categories=("Joy",))
    dataset.person("train", 1, categories=("Disconnect",))
    dataset.add("val", "train2.jpg", annotation(), annotation((1, 1, 40, 40)))
    return dataset.write(tmp_path / "source")


@pytest.mark.slow
def test_the_json_is_the_same_for_any_number_of_workers_and_any_place(dirty: Path, tmp_path: Path) -> None:
    one = run_check("emotic", dirty).json()
    assert run_check("emotic", dirty, workers=3).json() == one
    assert run_check("emotic", dirty.rename(tmp_path / "elsewhere")).json() == one
    assert "/" + tmp_path.parts[1] + "/" not in one


def test_the_json_is_as_documented(dirty: Path, run: Run) -> None:
    code, said, _ = run("--dataset", "emotic", "--source", dirty, "--json", "deep/report.json")
    assert code == 3
    again = run("--dataset", "emotic", "--source", dirty, "--json", "deep/report.json")
    assert (again[0], "deep/report.json is there already. Write over it? Add --force" in again[2]) == (2, True)
    report = json.loads(Path("deep/report.json").read_text())
    assert list(report) == sorted(report)
    page = (Path(clef.shard.__file__).parent.parent / "shards/README.md").read_text()
    for key in report:
        assert f"`{key}`" in page, f"shards/README.md does not document {key}"
    assert (report["format"], report["dataset"], report["protocol"]) == (1, "emotic", "leak_free")
    assert report["stops"] == ["label_unknown"]
    assert report["left_out"] == {"image_shared": 2, "label_unknown": 1}
    assert report["listed"]["train"]["images"] == report["listed"]["train"]["people"] == 4
    assert report["rules"]["label_alias"]["splits"] == {
        "train": {
            "count": 1, "examples": ["framesdb/images/train1.jpg#0"], "found": {"Disconnect": 1}, "images": None
        }
    }  # fmt: skip
    assert report["protocols"]["paper"]["splits"]["val"]["counted"] == 4
    assert "stops: label_unknown 1 (to continue: --policy label_unknown=skip)" in said
    assert "left out: image_shared 2" in said
    assert "leaks: nothing that was looked for" in said


def test_policies_and_protocols_of_the_command(dirty: Path, run: Run) -> None:
    code, said, _ = run("--dataset", "emotic", "--source", dirty, "--policy", "label_unknown=skip")
    assert (code, "stops: nothing" in said) == (0, True)
    code, said, _ = run("--dataset", "emotic", "--source", dirty, "--protocol", "paper", "--policy", "box_tiny=raise")
    assert (code, "leaks: train, val: same image 1, same box 1" in said) == (3, True)
    assert not Path("shards").exists()


def test_a_split_that_would_be_empty_stops(run: Run, tmp_path: Path) -> None:
    dataset = EmoticSet.clean()
    dataset.files = {name: data for name, data in dataset.files.items() if "/test" not in name}
    code, said, _ = run("--dataset", "emotic", "--source", dataset.write(tmp_path / "source"))
    assert (code, "stops: test: nobody is left" in said) == (3, True)


def test_what_is_not_the_layout_is_an_error(run: Run, tmp_path: Path) -> None:
    code, said, complaint = run("--dataset", "caer_s", "--source", "nowhere")
    assert (code, said, "nowhere: CAER-S not found" in complaint) == (3, "", True)
    source = CaerSet.clean().write(tmp_path / "source")
    code, _, complaint = run("--dataset", "caer_s", "--source", source, "--near", 128)
    assert (code, "--near 128: from 0 to 127 bits are expected" in complaint) == (2, True)


@pytest.mark.parametrize("option", [["--json", "x"], ["--near", "3"]])
def test_options_of_the_check_without_it(option: list[str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["shard", "--dataset", "caer_s", *option])
    with pytest.raises(SystemExit) as left:
        run_command(clef.shard.main)
    assert left.value.code == 2


def test_progress_and_report_are_apart(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProgressBars, "SECONDS_BETWEEN_LINES", float("inf"))
    _, said, progress = run("--dataset", "caer_s", "--source", CaerSet.clean().write(tmp_path / "source"))
    assert said.startswith("CAER-S, protocol leak_free listed")
    assert progress == "lists: 3/3 protocols looked at: 56/56 images compared: 3/3 pairs of splits"


def listed(images: int, people: int = 0) -> SplitCounts:
    return SplitCounts(images, people, {"Peace": people // 2}, "person")


def test_the_release_is_known_by_its_counts() -> None:
    known = cards.load("emotic").releases | {"an older one": Release(images={"train": 9000, "val": 1000, "test": 2000})}
    splits = {"train": listed(17077, 23706), "val": listed(2088, 3334), "test": listed(4406, 7280)}
    match = nearest_release(known, splits)
    assert match is not None
    assert (match.name, match.exact, len(match.counts)) == ("the release of 2019 (PAMI)", True, 6)
    older = nearest_release(
        known, {"train": listed(9000, 12000), "val": listed(1000, 1500), "test": listed(1999, 2900)}
    )
    assert older is not None
    assert (older.name, older.exact, older.recognized) == ("an older one", False, True)
    assert [(c.split, c.what, c.expected, c.found) for c in older.differing] == [("test", "images", 2000, 1999)]
    few = nearest_release(known, {"train": listed(10), "val": listed(10), "test": listed(10)})
    assert few is not None
    assert not few.recognized
    assert nearest_release({}, splits) is None


def test_a_release_may_join_splits_and_count_classes() -> None:
    release = Release(images={"train+val": 30, "test": 5, "other": 1}, classes={"val": {"Peace": 7}})
    match = nearest_release({"r": release}, {"train": listed(20), "val": listed(10, 14), "test": listed(5)})
    assert match is not None
    assert match.exact
    assert [(c.split, c.what) for c in match.counts] == [("train+val", "images"), ("test", "images"), ("val", "Peace")]


@pytest.mark.parametrize("width", [80, 140])
def test_nothing_that_matters_is_cut(dirty: Path, width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO(), highlight=False)
    print_report(run_check("emotic", dirty), console)
    text = console.export_text()
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    for expected in ("label_unknown", "'Joy' 1", "framesdb/images/train0.jpg#0", "image_shared 2", "train, val"):
        assert expected in text
