"""From predictions on disk to the long form, and from the long form on disk to the tables."""

import io
import json
import math
import re
import subprocess
import sys
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from clef.cells import predictions
from clef.cells.audits import AuditRow
from clef.config import resolve
from clef.datasets import cards
from clef.errors import CellError
from clef.metrics import CONVENTIONS, METRICS, summary
from clef.results import frame, load, rows
from clef.results.collect import gather
from clef.results.formats import to_csv, to_latex, to_markdown
from clef.results.frame import FILES, GridResults, Row
from clef.results.gather import gather_grid, write_tables
from clef.results.intervals import draw_groups, percentile_interval, resample_metric
from clef.results.significance import comparisons
from clef.results.tables import all_tables
from tests.results.factories import Grid, assert_same_results, data, result, split_data, write_audit

SPLITS = ("test", "test_shift")
WEIGHTS = {"checkpoint": {"sha256": "a1"}}
AUDIT = [AuditRow("value.score", "test", label, 100 / 3, 60) for label in (None, "Happy")]


@cache
def classes(dataset: str) -> tuple[str, ...]:
    return cards.load(dataset).classes


def predicted(dataset: str, seed: int, better: float = 1.0) -> dict[str, np.ndarray]:
    """What a cell of a demo set may have predicted, VAD and groups included; the labels are the same for all seeds."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    people, count = 60, len(classes(dataset))
    target = fixed.integers(0, count, people)
    known = np.eye(count, dtype=np.float32)[target]
    parts = {name: (rng.normal(size=(people, count)) + better * known).astype(np.float32) for name in ("Y_e", "Y_c")}
    arrays = parts | {
        "Y_e*": np.zeros((people, count), np.float32),
        "index": np.arange(people),
        "scores": parts["Y_e"],
        "group": np.arange(people, dtype=np.int32) // 3,
    }
    if dataset == "caer_s_demo":
        return arrays | {"target": target}
    vad = {"vad": rng.random((people, 3)) * 9 + 1, "vad_target": fixed.integers(1, 11, (people, 3)).astype(float)}
    return arrays | {"target": known} | vad


@cache
def config(dataset: str, method: str) -> str:
    branch = {"context_branch": {"network": "resnet18", "width": 0.25, "weights": "none"}} if method == "clef" else {}
    made = resolve.resolve({"dataset": dataset, "backbone": "emot_net", "method": {"name": method, **branch}})
    return resolve.to_yaml(made)


def add(grid: Grid, dataset: str, method: str, seed: int, better: float = 1.0, **changes: Any) -> Path:
    """A finished cell with its config, its result and its predictions."""
    arrays = predicted(dataset, seed + 10 * (method == "clef"), better)
    scored = summary(arrays, list(classes(dataset)))
    made = {name: split_data(60) for name in ("train", "val", *SPLITS)}
    content = result(0.0, splits=dict.fromkeys(SPLITS, scored), data=data(**made), **changes)
    content["run"] = {"samples_seen": 640} | changes.get("run", {})
    grid.add(dataset, "emot_net", method, seed, content)
    folder = grid.out / "g" / grid.runs[-1].name
    (folder / "config.yaml").write_text(config(dataset, method))
    for name in SPLITS:
        np.savez(folder / f"predictions-{name}.npz", **arrays)  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plan of two demo sets, vanilla and clef, three seeds, audited and with their logs, and a cell that failed."""
    grid = Grid(tmp_path_factory.mktemp("full") / "runs")
    for dataset in ("caer_s_demo", "emotic_demo"):
        for seed in range(3):
            add(grid, dataset, "vanilla", seed)
            folder = add(grid, dataset, "clef", seed, better=1.5, random_init=["body"], run=WEIGHTS)
            write_audit(folder, WEIGHTS["checkpoint"]["sha256"], AUDIT)
            lines = [{"step": 9 * epoch, "epoch": epoch, "val": 100 / (7 - seed - epoch)} for epoch in (1, 2)]
            (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    grid.add("emotic_demo", "emot_net", "vanilla", 3, None, state="non-finite: loss, at\nstep 3")
    return grid.plan()


@pytest.fixture(scope="module")
def gathered(full: Path) -> GridResults:
    return gather(full)


def test_the_long_form_has_every_metric_of_every_part_and_where_it_comes_from(gathered: GridResults) -> None:
    rows = list(gathered.rows.itertuples())
    assert len({(r.dataset, r.method, r.seed, r.split, r.metric, r.part, r.class_name) for r in rows}) == len(rows)
    first = rows[0]
    arrays = predicted("caer_s_demo", 0)
    assert (first.metric, first.part, first.class_name, first.samples) == ("accuracy", "score", "", 60)
    assert first.value == pytest.approx(100 * accuracy_score(arrays["target"], arrays["scores"].argmax(1)))
    assert (first.samples_seen, first.dtype, first.ranks, first.commit) == (640, "float32", 1, "abc")
    named = {(row.dataset, row.metric) for row in rows}
    several, one = ("emotic_demo", "caer_s_demo")
    for metric in ("mAP", "AP", "mAP VOC", "mAP VOC 11-point", "AP VOC", "VAD error", "ECE", "reliability, stated"):
        assert (several, metric) in named
    for metric in ("accuracy", "macro F1", "F1", "confusion", "ECE", "reliability, observed"):
        assert (one, metric) in named
    assert {row.part for row in rows if row.metric == "mAP"} == {"score", "factual", "Y_e", "Y_c"}
    assert {row.part for row in rows if row.metric == "ECE" and row.method == "clef"} == {"factual"}


def test_tables_are_a_function_of_what_is_on_disk(full: Path, gathered: GridResults, tmp_path: Path) -> None:
    frame.write(tmp_path, gathered)
    again = frame.load(tmp_path)
    assert_same_results(again, gathered)
    assert len({(p.dataset, p.method, p.seed, p.epoch, p.value) for p in again.curves.itertuples()}) == 2 * 3 * 2
    assert {(one.class_name, one.value, one.draws) for one in again.audits.itertuples()} == {
        ("", 100 / 3, 5),
        ("Happy", 100 / 3, 5),
    }
    made = all_tables(gathered)
    assert all_tables(again) == made
    assert frame.write(tmp_path / "again", gather(full))
    assert not frame.write(tmp_path / "again", gathered), "nothing is other than before"
    for name in frame.FILE_NAMES:
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), "gathered anew"
    write_tables(tmp_path, again)
    for name, text in (("md", to_markdown(made, "g")), ("csv", "\ufeff" + to_csv(made)), ("tex", to_latex(made))):
        assert (tmp_path / f"tables.{name}").read_text("utf-8") == text


def test_tables_need_no_card_but_that_of_the_day_they_were_gathered(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "mine.yaml"
    own.write_text("extends: emotic_demo\nname: mine\ntitle: Of our own\n")
    for method, value in (("vanilla", 20), ("clef", 23)):
        grid.add("emotic_demo", "emot_net", method, 0, result(value))
        grid.runs[-1] = replace(grid.runs[-1], dataset="mine.yaml")
        (grid.out / "g" / grid.runs[-1].name / "config.yaml").write_text(config("mine.yaml", method))
    gathered = gather(grid.plan())
    frame.write(tmp_path / "made", gathered)
    made = all_tables(gathered)
    assert made[0].title == "Of our own: mAP, percent"
    own.unlink()
    assert all_tables(frame.load(tmp_path / "made")) == made


def test_a_page_of_other_numbers_goes_when_a_grid_is_gathered_anew(grid: Grid, tmp_path: Path) -> None:
    grid.add("emotic", "emot_net", "vanilla", 0, result(20))
    gather_grid(grid.plan(), tmp_path)
    page = tmp_path / "g" / "report.html"
    page.write_text("made of these numbers")
    gather_grid(grid.plan(), tmp_path)
    assert page.exists()
    grid.add("emotic", "emot_net", "vanilla", 1, result(21))
    gather_grid(grid.plan(), tmp_path)
    assert not page.exists()


def test_rows_that_are_none_are_refused(gathered: GridResults, tmp_path: Path) -> None:
    with pytest.raises(CellError, match=r"cells.json: no such file; gather the grid first"):
        frame.load(tmp_path)
    frame.write(tmp_path, gathered)
    text = (tmp_path / "rows.csv").read_text()
    for damaged in (text.replace("seed,", "sead,", 1), text.replace(",60,", ",sixty,", 1), "", text[:-20]):
        (tmp_path / "rows.csv").write_text(damaged)
        with pytest.raises(CellError, match="not a gathered grid"):
            frame.load(tmp_path)


def test_users_get_data_frames(gathered: GridResults, tmp_path: Path) -> None:
    frame.write(tmp_path, gathered)
    table = rows(tmp_path)
    assert_same_results(load(str(tmp_path)), gathered)
    chosen = table[(table.metric == "accuracy") & (table.part == "score") & (table.class_name == "")]
    means = chosen.groupby(["method", "split"])["value"].mean()
    by_hand = [
        100 * accuracy_score(arrays["target"], arrays["scores"].argmax(1))
        for arrays in (predicted("caer_s_demo", seed) for seed in range(3))
    ]
    assert means["vanilla", "test"] == pytest.approx(np.mean(by_hand))
    assert table["chance"].isna().any(), "what is missing is NaN or NA"
    assert (table.dtypes["positives"], table.dtypes["value"], table.dtypes["seed"]) == ("Int64", "float64", "int64")


@pytest.mark.slow
def test_pandas_is_imported_when_it_is_needed_only() -> None:
    modules = "clef, clef.results, clef.report, launch.grid, launch.status"
    code = f"import sys, {modules}; print('pandas' in sys.modules, 'torch' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_card_names_the_headline(grid: Grid, tmp_path: Path) -> None:
    """Any metric of the table can be one, without further code: rows, intervals and tables are about it."""
    card = tmp_path / "mine.yaml"
    card.write_text("extends: caer_s_demo\nname: mine\ntitle: Mine\nmetric: macro F1\n")
    for method in ("vanilla", "clef"):
        for seed in range(2):
            folder = add(grid, "caer_s_demo", method, seed)
            grid.runs[-1] = replace(grid.runs[-1], dataset=str(card))
            (folder / "config.yaml").write_text(config(str(card), method))
            content = json.loads((folder / "result.json").read_text())
            arrays = predicted("caer_s_demo", seed + 10 * (method == "clef"))
            scored = summary(arrays, list(classes("caer_s_demo")), "macro F1")
            content |= {"metric": "macro F1", "splits": dict.fromkeys(SPLITS, scored)}
            (folder / "result.json").write_text(json.dumps(content))
    found = gather(grid.plan())
    assert found.missing == {}
    first = next(found.rows.itertuples())
    arrays = predicted("caer_s_demo", 0)
    expected = 100 * f1_score(arrays["target"], arrays["scores"].argmax(1), average="macro")
    assert (first.metric, first.value) == ("macro F1", pytest.approx(expected))
    assert set(found.rows.metric) >= {"macro F1", "F1", "accuracy"}
    over_images = found.intervals[found.intervals.over == "images"]
    assert (over_images.low < over_images.value).all()
    main = all_tables(found)[0]
    assert main.title == "Mine: macro F1, percent"
    assert main.rows[0][2] == "2"


@pytest.mark.parametrize("change", ["metric: macro F1", "classes: [Sad, Anger, Neutral]", "test_splits: [test_shift]"])
def test_a_card_that_changes_after_training_changes_no_number(grid: Grid, tmp_path: Path, change: str) -> None:
    card = tmp_path / "mine.yaml"
    stated = "extends: caer_s_demo\nname: mine\ntitle: Mine\n"
    card.write_text(stated)
    folder = add(grid, "caer_s_demo", "vanilla", 0)
    (folder / "config.yaml").write_text(config(str(card), "vanilla"))
    grid.runs[-1] = replace(grid.runs[-1], dataset=str(card))
    before = gather(grid.plan())
    assert set(before.rows.class_name) >= {"", *classes("caer_s_demo")}
    card.write_text(stated + change + "\n")
    assert_same_results(gather(grid.plan()), before)
    card.unlink()
    assert_same_results(gather(grid.plan()), before)


def test_cells_on_two_readings_of_a_card_stand_in_no_table_together(grid: Grid, tmp_path: Path) -> None:
    card = tmp_path / "mine.yaml"
    for seed, end in enumerate(("", "block: 7\n")):
        card.write_text(f"extends: caer_s_demo\nname: mine\n{end}")
        folder = add(grid, "caer_s_demo", "vanilla", seed)
        config.cache_clear()
        (folder / "config.yaml").write_text(config(str(card), "vanilla"))
        grid.runs[-1] = replace(grid.runs[-1], dataset=str(card))
    [reason] = gather(grid.plan()).missing.values()
    assert reason == "trained on another card than other cells of the grid (block: 7, not 20); run the grid again"


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1), st.floats(allow_nan=False))
def test_any_name_and_any_number_come_back_from_csv(name: str, value: float) -> None:
    row = Row(
        name, "p", name, name, 3, "test", "mAP", "score", name, value, None, None, 1, 2, 3, None, "s", None, None, "c",
        "float32", 1, "",
    )  # fmt: skip
    full = replace(row, chance=value, positives=4, samples_seen=5, commit=name, dirty=False)
    table = frame.to_frame(Row, [row, full])
    pd.testing.assert_frame_equal(frame.read_csv(Row, io.StringIO(frame.to_csv(table))), table, check_exact=True)


@pytest.mark.parametrize("kind", FILES.values())
def test_a_csv_without_rows(kind: type) -> None:
    table = frame.to_frame(kind)
    pd.testing.assert_frame_equal(frame.read_csv(kind, io.StringIO(frame.to_csv(table))), table)


def test_intervals_over_images_are_of_the_mean_over_seeds_and_paired(gathered: GridResults) -> None:
    found = {(i.dataset, i.method, i.base, i.split, i.over): i for i in gathered.intervals.itertuples()}
    vectors = {}
    for method, better, shift in (("vanilla", 1.0, 0), ("clef", 1.5, 10)):
        cells = [predicted("caer_s_demo", seed + shift, better) for seed in range(3)]
        drawn = draw_groups(cells[0]["group"])
        vectors[method] = np.mean([resample_metric(c["scores"], c["target"], c["group"], drawn) for c in cells], axis=0)
    alone = found["caer_s_demo", "clef", "", "test", "images"]
    vector = vectors["clef"]
    assert (alone.low, alone.high) == pytest.approx(percentile_interval(vector - vector.mean() + alone.value))
    assert (alone.seeds, alone.groups, alone.resamples) == (3, 20, 1000)
    paired = found["caer_s_demo", "clef", "vanilla", "test", "images"]
    vector = vectors["clef"] - vectors["vanilla"]
    assert (paired.low, paired.high) == pytest.approx(percentile_interval(vector - vector.mean() + paired.value))
    assert paired.value == pytest.approx(alone.value - found["caer_s_demo", "vanilla", "", "test", "images"].value)
    over_seeds = found["emotic_demo", "clef", "vanilla", "test_shift", "seeds"]
    assert pd.isna(over_seeds.groups)
    assert over_seeds.low <= over_seeds.value <= over_seeds.high
    assert not any(base and method == "vanilla" for _, method, base, _, _ in found)


def test_cells_on_other_groups_or_without_any_have_no_interval_over_images(grid: Grid) -> None:
    for seed in range(2):
        add(grid, "caer_s_demo", "vanilla", seed)
    folder = add(grid, "caer_s_demo", "clef", 0)
    for split, group in (("test", np.zeros(60, np.int32)), ("test_shift", None)):
        arrays = predicted("caer_s_demo", 10)
        del arrays["group"]
        np.savez(folder / f"predictions-{split}.npz", **arrays, **({} if group is None else {"group": group}))  # type: ignore[arg-type]
    found = [i for i in gather(grid.plan()).intervals.itertuples() if i.method == "clef" and i.over == "images"]
    assert [(i.base, i.split, i.groups) for i in found] == [("", "test", 1)], "no pairs with other groups"


def test_comparisons_count_what_is_planned_and_say_how_many_seeds_it_takes(gathered: GridResults) -> None:
    [table] = [one for one in all_tables(gathered) if one.title.startswith("CAER-S demo: accuracy, method")]
    assert [row[:4] for row in table.rows] == [
        ["EMOT-Net", "clef°", "test", "3"],
        ["EMOT-Net", "clef°", "test_shift", "3"],
    ]
    assert [row[7] for row in table.rows] == ["0.25", "0.25"], "2 of 8 patterns"
    assert [row[8:] for row in table.rows] == [["1", "needs 8 seeds"]] * 2
    assert "over the 4 comparisons that the grid plans" in table.notes[0]
    assert "at least 8 seeds are needed for any to reach 0.05; with the 3 here, p is at least 0.25" in table.notes[1]
    assert (
        "1,000 resamples of groups (people of one image, or neighbouring frames, are drawn together: test 20, "
        in table.notes[2]
    )
    assert "significan" not in "".join(table.notes) + str(table.rows)


def test_a_method_is_compared_with_the_control_that_its_grid_states(grid: Grid) -> None:
    stated = {"vanilla": "vanilla", "clef": "vanilla", "long": None, "two_stage": "long"}
    values = {"vanilla": (20, 22), "clef": (23, 27), "long": (30, 31), "two_stage": (28, 33)}
    for method, against in stated.items():
        for seed, value in enumerate(values[method]):
            grid.add("emotic", "emot_net", method, seed, result(value))
            grid.runs[-1] = replace(grid.runs[-1], against=against)
    gathered = gather(grid.plan())
    found = {(one.method, one.base): one.differences for one in comparisons(gathered) if one.split == "test"}
    assert found == {("clef", "vanilla"): (3, 5), ("two_stage", "long"): (-2, 2)}, "long is compared with nothing"
    paired = {
        (one.method, one.base): one.value for one in gathered.intervals.itertuples() if one.base and one.split == "test"
    }
    assert paired == {("clef", "vanilla"): 4, ("two_stage", "long"): 0}
    [table] = [one for one in all_tables(gathered) if "method minus" in one.title]
    assert table.title == "EMOTIC: mAP, method minus its control, percent"
    assert (table.columns[2], table.numeric[2]) == ("control", False)
    assert [row[1:6] for row in table.rows] == [
        ["clef", "vanilla", "test", "2", "+4.00 ± 1.41"],
        ["two_stage", "long", "test", "2", "+0.00 ± 2.83"],
    ]
    assert "over the 2 comparisons" in table.notes[0]


def test_with_enough_seeds_a_verdict_is_given(grid: Grid) -> None:
    for seed in range(7):
        add(grid, "caer_s_demo", "vanilla", seed)
        add(grid, "caer_s_demo", "clef", seed, better=4)
    [table] = [one for one in all_tables(gather(grid.plan())) if "method minus" in one.title]
    assert [row[7:] for row in table.rows] == [["0.0156", "0.0312", "significant"]] * 2


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda arrays: arrays | {"index": arrays["index"][::-1] // 2}, "30 missing, 30 more than once"),
        (lambda arrays: {name: value[:-1] for name, value in arrays.items()}, "59 of 60 samples"),
        (lambda arrays: arrays | {"scores": arrays["scores"] * np.nan}, "some predictions are not finite"),
        (lambda arrays: arrays | {"scores": arrays["scores"][::-1]}, "result.json says"),
        (
            lambda arrays: arrays | {"vad": np.full((60, 3), np.nan), "vad_target": np.ones((60, 3))},
            "some predictions are not finite",
        ),
        (lambda arrays: arrays | {"Y_c": arrays["Y_c"][:, :3]}, r"Y_c is \(60, 3\), where \(60, 7\) is expected"),
        (lambda arrays: arrays | {"group": arrays["group"] / 2}, "group holds other than whole numbers from 0 to 59"),
        (lambda arrays: arrays | {"group": arrays["group"] - 1}, "group holds other than whole numbers"),
        (lambda arrays: arrays | {"group": arrays["group"] + 60}, "group holds other than whole numbers"),
        (lambda arrays: arrays | {"target": arrays["target"] + 1}, "target holds other than whole numbers from 0 to 6"),
        (lambda arrays: arrays | {"target": np.zeros((60, 7))}, "nobody has any label"),
        (lambda arrays: {"x": arrays["index"]}, "not predictions of a cell"),
        (lambda arrays: None, "not predictions of a cell"),
    ],
)
def test_predictions_that_cover_no_split_give_no_number(grid: Grid, damage: Any, reason: str) -> None:
    folder = add(grid, "caer_s_demo", "vanilla", 0)
    arrays = damage(predicted("caer_s_demo", 0))
    path = folder / "predictions-test_shift.npz"
    if arrays is None:
        path.write_bytes(path.read_bytes()[:900])
    else:
        np.savez(path, **arrays)
    gathered = gather(grid.plan())
    assert (len(gathered.rows), len(gathered.intervals), gathered.data) == (0, 0, {})
    [said] = gathered.missing.values()
    assert said.startswith("predictions-test_shift.npz")
    assert re.search(reason, said), said


def test_a_cell_whose_predictions_are_gone_keeps_what_its_result_says(grid: Grid) -> None:
    folder = add(grid, "emotic_demo", "clef", 0)
    whole = gather(grid.plan()).rows.itertuples()
    for split in SPLITS:
        (folder / f"predictions-{split}.npz").unlink()
    (folder / "config.yaml").unlink()
    kept = gather(grid.plan())
    assert not kept.missing
    values = {(r.split, r.metric, r.part, r.class_name): r.value for r in whole}
    assert {row.metric for row in kept.rows.itertuples()} == {"mAP", "AP"}
    for row in kept.rows.itertuples():
        assert row.value == pytest.approx(values[row.split, row.metric, row.part, row.class_name])


def test_cells_that_keep_all_predictions_one_file_of_them_or_none_stand_in_one_report(grid: Grid) -> None:
    for seed in range(2):
        add(grid, "emotic_demo", "vanilla", seed)
        joined = add(grid, "emotic_demo", "clef", seed)
        folder = add(grid, "emotic_demo", "ccim", seed)
        for split in SPLITS:
            (folder / f"predictions-{split}.npz").unlink()
    apart = gather(grid.plan())
    kept = {split: predictions.read(joined / f"predictions-{split}.npz", split) for split in SPLITS}
    predictions.write(joined, kept, in_one_file=True)
    for split in SPLITS:
        (joined / f"predictions-{split}.npz").unlink()
    mixed = gather(grid.plan())
    assert_same_results(mixed, apart)
    assert not mixed.missing
    tables = {table.title: table for table in all_tables(mixed)}
    [compared] = [table for title, table in tables.items() if "mAP, method minus" in title]
    over_images = compared.columns.index("95 % over images")
    assert {row[1].rstrip("°"): row[over_images] == "–" for row in compared.rows} == {"clef": False, "ccim": True}
    assert "a dash: the predictions of some cells are missing, or were not kept" in compared.notes[-1]


@pytest.mark.parametrize("kept", [True, False])
def test_a_recorded_number_that_is_none_is_refused(grid: Grid, kept: bool) -> None:
    folder = add(grid, "caer_s_demo", "vanilla", 0)
    content = json.loads((folder / "result.json").read_text())
    content["splits"]["test"]["value"] = math.nan
    (folder / "result.json").write_text(json.dumps(content))
    if not kept:
        for split in SPLITS:
            (folder / f"predictions-{split}.npz").unlink()
    gathered = gather(grid.plan())
    assert gathered.rows.empty
    [reason] = gathered.missing.values()
    assert ("result.json says nan" if kept else "a number that is not finite") in reason


@pytest.mark.parametrize("kept", [True, False])
def test_a_split_on_which_the_metric_has_no_value_is_a_dash(grid: Grid, kept: bool) -> None:
    folder = add(grid, "caer_s_demo", "vanilla", 0)
    content = json.loads((folder / "result.json").read_text())
    content["splits"]["test_shift"] |= {"value": None, "variants": {"Y_e": None}}
    content["splits"]["test"]["variants"]["Y_c"] = None
    (folder / "result.json").write_text(json.dumps(content))
    if not kept:
        for split in SPLITS:
            (folder / f"predictions-{split}.npz").unlink()
    gathered = gather(grid.plan())
    assert gathered.missing == {}
    assert set(gathered.rows["split"]) == {"test"}
    assert gathered.rows["value"].notna().all()
    shift = all_tables(gathered)[0].rows[0][4]
    assert shift == "–"


def test_a_cell_whose_records_are_damaged_is_named_with_what_to_do(grid: Grid) -> None:
    folder = add(grid, "caer_s_demo", "vanilla", 0)
    text = (folder / "result.json").read_text()
    (folder / "result.json").write_text(text[: len(text) // 2])
    (folder / "state.json").write_text(json.dumps({"state": "done", "step": 9, "steps": 9}))
    grid.add("caer_s_demo", "emot_net", "vanilla", 1, None)
    (grid.out / "g" / grid.runs[-1].name / "state.json").write_text(json.dumps({"state": "stopped", "step": 3}))
    gathered = gather(grid.plan())
    assert gathered.missing == {
        "caer_s_demo-emot_net-vanilla-s0": "its result.json is damaged; move it elsewhere and run the grid again",
        "caer_s_demo-emot_net-vanilla-s1": "stopped",
    }


def test_audits_of_other_weights_are_left_out_and_other_draws_are_warned_of(grid: Grid) -> None:
    cells = [add(grid, "caer_s_demo", "clef", seed, run={"checkpoint": {"sha256": f"w{seed}"}}) for seed in range(3)]
    for folder, weights, swaps in zip(cells, ("w0", "w1", "another"), (5, 1, 7), strict=True):
        write_audit(folder, weights, AUDIT, swaps)
    gathered = gather(grid.plan())
    assert {(one.seed, one.draws, one.draws_seed, one.commit) for one in gathered.audits.itertuples()} == {
        (0, 5, 3, "def"),
        (1, 1, 3, "def"),
    }
    assert {one.signature for one in gathered.audits.itertuples()} == {
        row.signature for row in gathered.rows.itertuples()
    }
    warning = "warning: audits differ in their draws: 1 of seed 3 or 5 of seed 3"
    assert warning in all_tables(gathered)[0].notes
    write_audit(cells[1], "w1", AUDIT)
    assert warning not in all_tables(gather(grid.plan()))[0].notes


def test_what_a_table_says_of_a_cell_that_failed(gathered: GridResults) -> None:
    text = to_markdown(all_tables(gathered), "g")
    assert "- no number from emotic_demo-emot_net-vanilla-s3: failed at step 3/9: non-finite: loss, at step 3" in text


def test_the_page_names_every_column_and_every_metric(gathered: GridResults) -> None:
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|")[0] for line in page.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert {field.name for field in fields(Row)} <= named
    assert {f"mAP{convention}" for convention in CONVENTIONS if "11-point" not in convention} <= named
    assert {"AP", "AP VOC", "mAP VOC 11-point", "accuracy", "macro F1", "F1"} <= named
    of_table = {name for metric in METRICS.values() for name in (metric.name, metric.class_metric)}
    assert "`METRICS`" in page, "where a new one is listed"
    assert {row.metric for row in gathered.rows.itertuples()} <= named | of_table


def test_files_that_were_not_gathered_are_not_written_over(grid: Grid, tmp_path: Path) -> None:
    add(grid, "caer_s_demo", "vanilla", 0)
    plan, folder = grid.plan(), tmp_path / "results" / "g"
    folder.mkdir(parents=True)
    (folder / "tables.md").write_text("mine")
    with pytest.raises(CellError, match=r"holds tables\.md, but no gathered grid \(cells\.json\); move that elsewhere"):
        gather_grid(plan, tmp_path / "results")
    assert [path.name for path in folder.iterdir()] == ["tables.md"]
    (folder / "tables.md").unlink()
    for _ in range(2):  # its own are written anew
        gather_grid(plan, tmp_path / "results")
