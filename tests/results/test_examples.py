"""Examples of the report: who is chosen, that a panel marks the truth, and that no set is shown that may not be."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import label_ranking_average_precision_score

from clef.cells import identity
from clef.cells.plan_file import PlannedRun, write_plan
from clef.config import CellConfig
from clef.data.shards import SplitShards
from clef.metrics import label_ranking_precision
from clef.predict import panel
from clef.predict.panel import PersonPrediction
from clef.results import examples as module
from clef.results import gather as pictures
from clef.results.collect import gather
from clef.results.examples import draw_examples
from clef.results.predictions import path_of
from tests.results.factories import Grid, data, result, split_data

SETS = ("emotic", "caer_s", "emotic_demo", "caer_s_demo")
VANILLA_WRONG, CLEF_WRONG = 3, 5
"""Places of the split."""


def test_label_ranking_precision_is_label_ranking_average_precision_of_each_person() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (60, 8)).astype(float)  # many are equal
    truth = rng.random((60, 8)) < 0.3
    truth[0] = False
    expected = [label_ranking_average_precision_score(truth[i : i + 1], scores[i : i + 1]) for i in range(60)]
    assert label_ranking_precision(scores, truth).tolist() == pytest.approx(expected)


@pytest.fixture
def plan(tiny: Callable[..., CellConfig], tmp_path: Path) -> Path:
    """Two cells, whose predictions are right but for one person each."""
    runs = []
    for method in ("vanilla", "clef"):
        config = tiny("caer_s_demo", "emot_net", method)
        split = SplitShards(config.shards, "test")
        labels = [json.loads(split.read(i, "meta.json") or b"")["labels"][0] for i in range(len(split))]
        truth = np.eye(len(split.manifest.classes))[[split.manifest.classes.index(label) for label in labels]]
        mark = identity.signature_of(config, split.manifest)
        folder = identity.folder_of(config, "g", mark)
        identity.write_config(folder, config)
        truth[VANILLA_WRONG if method == "vanilla" else CLEF_WRONG] *= -1
        parts = dict.fromkeys(("Y_e", "Y_c", "Y_e*"), truth / 2) if method == "clef" else {}
        target = np.abs(truth).argmax(1)
        np.savez(path_of(folder, "test"), index=np.arange(len(split)), target=target, scores=truth, **parts)
        accuracy = 100 * (1 - 1 / len(split))
        content = result(accuracy, data=data(test=split_data(len(split))), signature=mark)
        content |= {"metric": "accuracy", "splits": {"test": content["splits"]["test"] | {"samples": len(split)}}}
        (folder / "result.json").write_text(json.dumps(content))
        runs.append(PlannedRun(config.name, "caer_s_demo", "emot_net", method, 0, folder.name))
    return write_plan(tmp_path / "runs", "g", runs)


@pytest.mark.slow
def test_the_one_that_gains_and_the_one_that_loses_are_shown(plan: Path, shards: Path) -> None:
    gathered = gather(plan)
    assert not gathered.missing
    made, remarks = draw_examples(gathered, plan.parent, None)
    assert remarks == []
    assert [one.name for one in made] == ["caer_s_demo-emot_net-gain-1", "caer_s_demo-emot_net-loss-1"]
    split = SplitShards(shards / "caer_s_demo", "test")
    for one, place, right in zip(made, (VANILLA_WRONG, CLEF_WRONG), ("clef", "vanilla"), strict=True):
        facts = json.loads(split.read(place, "meta.json") or b"")
        assert f"{facts['id']}, true: {facts['labels'][0]}." in one.caption
        assert f"by {right}: {facts['labels'][0]}" in one.caption
        with Image.open(io.BytesIO(one.png)) as picture:
            assert picture.height >= panel.HEIGHT
    assert draw_examples(gathered, plan.parent, None)[0] == made, "the same bytes"


def test_what_is_gone_is_said_and_the_rest_is_shown(plan: Path) -> None:
    gathered = gather(plan)
    for path in plan.parent.glob("*vanilla*/predictions-test.npz"):
        path.unlink()
    made, (remark,) = draw_examples(gathered, plan.parent, None)
    assert made == []
    assert remark.startswith("CAER-S demo, EMOT-Net: no examples: ")
    assert remark.endswith("predictions-test.npz is gone")


def test_people_of_sets_that_may_not_be_passed_on_are_not_shown(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(module, "_load_pair", lambda part, folder, run, base: tried.append(run.dataset))
    monkeypatch.setattr(module, "_panels", lambda pair, name: [])
    for dataset in SETS:
        for method in ("vanilla", "clef"):
            grid.add(dataset, "emot_net", method, 0, result(20.0))
    gathered = gather(grid.plan())
    for images, shown in ((None, ["emotic_demo", "caer_s_demo"]), (False, []), (True, [*SETS])):
        tried.clear()
        remarks = draw_examples(gathered, grid.out / "g", images)[1]
        assert tried == shown
        assert len(remarks) == len(SETS) - len(shown)


@pytest.mark.slow
def test_a_page_made_again_without_the_cells_is_the_same(plan: Path, tmp_path: Path) -> None:
    gathered = gather(plan)
    pages = []
    for cells in (plan.parent, None):
        pictures.publish_page(tmp_path / "out", gathered, cells)
        pages.append((tmp_path / "out" / "report.html").read_bytes())
    assert pages[0] == pages[1]
    folder = tmp_path / "out" / "examples"
    index = json.loads((folder / "examples.json").read_text())
    index["examples"].append({"about": "x", "name": "of_an_earlier_time", "caption": ""})
    (folder / "of_an_earlier_time.pdf").write_bytes(b"")
    (folder / "mine.pdf").write_bytes(b"not drawn here")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.stem != "of_an_earlier_time"}
    assert {f"caer_s_demo-emot_net-{what}-1.{form}" for what in ("gain", "loss") for form in ("png", "pdf")} < {*before}
    (folder / "examples.json").write_text(json.dumps(index))
    pictures._draw_examples(tmp_path / "out", gathered, plan.parent, None)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, "the same bytes"
    with Image.open(folder / "caer_s_demo-emot_net-gain-1.png") as printed:
        assert printed.width > 300 * 7, "dots an inch, as wide as a page"
        (shown, _), _ = pictures._load_examples(tmp_path / "out", gathered, None)
        with Image.open(io.BytesIO(shown.png)) as small:
            assert small.size == (printed.width // 2, printed.height // 2)
        box = re.search(rb"/MediaBox \[ *0 0 ([0-9.]+) ([0-9.]+)", before["caer_s_demo-emot_net-gain-1.pdf"])
        assert box is not None
        assert float(box[1]) == pytest.approx(7 * 72)
        assert float(box[2]) == pytest.approx(7 * 72 * printed.height / printed.width)
    assert b"where CLEF gains most" in pages[0]


def test_examples_drawn_before_are_shown_where_they_may_be_and_are_there(grid: Grid, tmp_path: Path) -> None:
    index = []
    for dataset, name in (("emotic", "EMOTIC"), ("emotic_demo", "EMOTIC demo")):
        grid.add(dataset, "emot_net", "clef", 0, result(20.0))
        index += [{"about": name, "name": f"{dataset}-{k}", "caption": f"{name} {k}"} for k in (1, 2)]
    gathered, folder = gather(grid.plan()), tmp_path / "out" / "examples"
    for one in index:
        write_png(folder / f"{one['name']}.png")
    (folder / "examples.json").write_text(json.dumps({"remarks": ["before"], "examples": index}))
    (folder / "emotic_demo-2.png").unlink()
    hidden = f"EMOTIC: {module.HIDDEN}"
    gone = f"{folder / 'emotic_demo-2.png'} is gone"
    for images, shown, said in (
        (None, ["emotic_demo-1"], [hidden, gone]),
        (False, [], [hidden, f"EMOTIC demo: {module.HIDDEN}"]),
        (True, ["emotic-1", "emotic-2", "emotic_demo-1"], [gone]),
    ):
        found, remarks = pictures._load_examples(tmp_path / "out", gathered, images)
        assert [one.name for one in found] == shown
        assert remarks == ["before", *said]
    pictures.publish_page(tmp_path / "out", gathered)
    assert "EMOTIC 1" not in (tmp_path / "out" / "report.html").read_text()


def write_png(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40), "white").save(path)


def test_a_panel_shows_the_truth_however_low_it_scores() -> None:
    score = -np.arange(26.0)
    told = PersonPrediction([f"c{k}" for k in range(26)], score, np.full(26, 0.5), None, {})
    assert panel._select_classes(told, [25, 2]) == [0, 1, 2, 3, 4, 5, 6, 25]
    assert panel._select_classes(told, []) == list(range(8))
    frame = Image.new("RGB", (60, 40), "white")
    plain, marked = (panel.draw_person(frame, (1, 1, 20, 30), told, truth) for truth in ([], [3]))

    def yellow(picture: Image.Image) -> int:
        beside = np.asarray(picture)[:, 60 * panel.HEIGHT // 40 + panel.GAP + 5 :]
        return int((beside == panel.FRAME).all(-1).sum())

    assert yellow(plain) == 0
    assert yellow(marked) > 200
