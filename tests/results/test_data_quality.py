"""What a table says of the data behind it, and that it never mixes two protocols."""

import json
from typing import Any

import pytest

from clef.datasets.cards import load
from clef.results.collect import gather
from clef.results.data_quality import CellData, compare_with_official, differences, notes
from clef.results.formats import to_markdown
from tests.results.factories import Grid, data, result, split_data


def cell_data(*arguments: Any, **splits: Any) -> CellData:
    return CellData.model_validate(data(*arguments, **splits))


def test_two_protocols_make_two_tables_that_share_no_number(grid: Grid) -> None:
    grid.add("emotic", "emot_net", "vanilla", 0, result(20.0))
    grid.add("emotic", "emot_net", "vanilla", 1, result(30.0, data=data("paper")))
    grid.add("emotic", "caer_net", "vanilla", 0, result(40.0, data=data("paper")))
    ours, papers = grid.tables()
    assert (ours.title, papers.title) == (
        "EMOTIC, protocol leak_free: mAP, percent",
        "EMOTIC, protocol paper: mAP, percent",
    )
    assert ours.rows == [["EMOT-Net", "vanilla", "1", "20.00", "27.93", "-7.93"]]
    assert papers.rows == [
        ["EMOT-Net", "vanilla", "1", "30.00", "27.93", "+2.07"],
        ["CAER-Net", "vanilla", "1", "40.00", "23.85", "+16.15"],
    ]
    text = to_markdown([ours, papers], "g")
    assert "on the protocol paper, not leak_free as here" in text.split("## ")[1]
    assert "on the protocol paper, as here" in text.split("## ")[2]


def test_one_usual_protocol_is_not_named_and_one_other_is(grid: Grid) -> None:
    grid.add("emotic", "emot_net", "vanilla", 0, result(20.0))
    assert [table.title for table in grid.tables()] == ["EMOTIC: mAP, percent"]
    grid.runs.clear()
    grid.add("emotic", "emot_net", "vanilla", 1, result(20.0, data=data("port")))
    assert [table.title for table in grid.tables()] == ["EMOTIC, protocol port: mAP, percent"]


def test_a_missing_cell_is_told_below_the_table_of_its_protocol(grid: Grid) -> None:
    grid.add("emotic", "emot_net", "vanilla", 0, result(20.0))
    grid.add("emotic", "emot_net", "vanilla", 0, {**result(30.0, data=data("paper")), "splits": 3})
    ours, papers = grid.tables()
    assert not any("no number" in note for note in ours.notes)
    assert "no number from emotic-paper-emot_net-vanilla-s0" in papers.notes[-1]
    assert papers.rows == [["EMOT-Net", "vanilla", "0", "–", "27.93", "–"]]


def test_who_is_left_out_and_what_was_done_is_told_in_words_the_most_frequent_first() -> None:
    train = split_data(90, {"image_missing": 1, "box_empty": 3}, {"box_outside": 20, "face_outside": 2})
    test = split_data(1200, {"image_missing": 1}, {"box_outside": 5, "label_alias": 7, "the sky": 8})
    told = notes(cell_data(train=train, val=split_data(), test=test), load("emotic"))
    assert told == [
        "people: train 90 of 94 listed, val all 100 listed, test 1,200 of 1,201 listed, test_shift all 100 listed",
        "left out: the box is empty, or lies outside the frame (train 3); the image is not there (train 1, test 1)",
        "clamped: the box reaches beyond the frame (train 20, test 5); the face reaches beyond the frame (train 2)",
        "kept and flagged: the sky (test 8); a class in another spelling: read as the class (test 7)",
    ]


def test_rare_repairs_are_summed_up_and_reasons_for_leaving_out_never() -> None:
    many = {f"kind {i}": i for i in range(1, 9)}
    told = notes(cell_data(train=split_data(100, many, many), val=split_data(notes={"kind 1": 5})), load("emotic"))
    assert told[1] == "left out: " + "; ".join(f"kind {i} (train {i})" for i in range(8, 0, -1))
    assert told[2] == (
        "kept and flagged: kind 8 (train 8); kind 7 (train 7); kind 1 (train 1, val 5); kind 6 (train 6); "
        "4 rarer kinds (train 14)"
    )


def test_remarks_on_cues_are_one_and_what_stands_in_brackets_is_left_out() -> None:
    counts = {"cue depth: keys that match nobody": 2, "cue pose: keys that match nobody": 3, "face_missing": 4}
    told = notes(cell_data(train=split_data(100, None, counts)), load("caer_s"))
    assert told[1] == (
        "kept and flagged: cues: keys that match nobody (train 5); "
        "the image has no face box, where the subject is a face (train 4)"
    )


def test_policies_that_are_not_the_cards_are_told() -> None:
    told = notes(cell_data("paper", {"box_tiny": "skip", "image_shared": "keep"}), load("emotic", "paper"))
    assert told[-1] == "policies other than the card's: box_tiny=skip"


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (split_data(7280), "test is the same as the official one (7,280 people)"),
        (
            split_data(7270, {"image_missing": 10}),
            "test lists the same 7,280 people as the official one, of whom 10 are left out here",
        ),
        (split_data(7203), "test is not the official one: 7,203 people listed, 7,280 there"),
    ],
)
def test_whether_test_is_the_official_one(test: dict[str, Any], expected: str) -> None:
    told = compare_with_official(cell_data(test=test), load("emotic"), "test", "paper")
    assert told == f"published: on the protocol paper, not leak_free as here; {expected}"


def test_caer_s_counts_its_frames() -> None:
    told = compare_with_official(cell_data("paper", test=split_data(20992)), load("caer_s", "paper"), "test", "paper")
    assert told.endswith("paper, as here; test is the same as the official one (20,992 people)")


def test_cells_on_different_data_make_a_warning_that_says_what_differs(grid: Grid) -> None:
    for seed in range(3):
        grid.add("emotic", "emot_net", "vanilla", seed, result(20.0))
    other = data(policies={"box_tiny": "skip"}, test=split_data(99, {"box_tiny": 1}), val=split_data(notes={"x": 1}))
    grid.add("emotic", "caer_net", "vanilla", 0, result(20.0, data=other))
    (table,) = grid.tables()
    assert table.notes[-1] == (
        "warning: not all cells use the same data: policy box_tiny is keep or skip; val has other reasons or "
        "repairs; test has 100 of 100 or 99 of 100 people (unlike most: emotic-caer_net-vanilla-s0)"
    )
    assert "people: train all 100 listed, val all 100 listed, test all 100 listed, test_shift all 100" in table.notes[1]


def test_other_shards_with_the_same_counts_are_told_too() -> None:
    plain = cell_data()
    cells = {"a": plain, "b": plain, **{f"c{i}": plain.model_copy(update={"shards": f"{i}"}) for i in range(5)}}
    assert differences({"a": plain, "b": plain}) == []
    (told,) = differences(cells)
    assert told == (
        "not all cells use the same data: the same counts, but other boxes, cues or sizes of storage "
        "(unlike most: c0, c1, c2 and 2 more)"
    )


def test_a_result_of_an_older_version_is_told_apart(grid: Grid) -> None:
    content = result(20.0)
    del content["data"]
    grid.add("emotic", "emot_net", "vanilla", 0, content)
    (reason,) = gather(grid.plan()).missing.values()
    assert "of an older version, which didn't record what was done to the data; gather it with that" in reason


def test_a_plan_of_an_older_version_means_the_usual_protocol(grid: Grid) -> None:
    grid.add("emotic", "emot_net", "vanilla", 0, result(20.0))
    path = grid.plan()
    content = json.loads(path.read_text())
    for cell in content["cells"]:
        del cell["protocol"]
    path.write_text(json.dumps(content))
    gathered = gather(path)
    assert (gathered.runs[0].protocol, gathered.rows["protocol"].iloc[0], gathered.missing) == (
        "leak_free",
        "leak_free",
        {},
    )


def test_rows_say_who_was_left_out(grid: Grid) -> None:
    test = split_data(90, {"box_empty": 3, "image_missing": 7})
    grid.add("emotic", "emot_net", "vanilla", 0, result(20.0, data=data("paper", test=test)))
    row = next(gather(grid.plan()).rows.itertuples())
    assert (row.split, row.protocol, row.listed, row.left_out) == ("test", "paper", 100, 10)
