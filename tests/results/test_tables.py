"""Rows and tables as pure functions of results written by hand."""

import statistics
from pathlib import Path

import pytest

from clef.cells.plan_file import PlannedRun
from clef.errors import CellError
from clef.results.collect import gather
from clef.results.formats import to_csv as tables_to_csv
from clef.results.formats import to_markdown
from clef.results.frame import to_csv
from clef.results.gather import gather_grid
from clef.results.published import published
from tests.results.factories import Grid, result


def test_ours_stands_beside_the_published_with_the_gap(grid: Grid) -> None:
    for seed, value in enumerate((26.0, 28.0, 30.0)):
        grid.add("emotic", "emot_net", "vanilla", seed, result(value))
    grid.add("emotic", "emot_net", "clef", 0, result(33.0))
    (table,) = grid.tables()
    assert table.columns == ["backbone", "method", "seeds", "test", "published (paper)", "gap"]
    assert statistics.stdev((26.0, 28.0, 30.0)) == 2.0
    assert table.rows == [
        ["EMOT-Net", "vanilla", "3", "28.00 ± 2.00", "27.93", "+0.07"],
        ["EMOT-Net", "clef", "1", "33.00", "31.67", "+1.33"],
    ]


def test_ablations_stand_beside_table_4_and_what_started_at_random_is_marked(grid: Grid) -> None:
    grid.add("emotic", "cd_net", "without_kl", 0, result(33.0, random_init=["face"]))
    grid.add("emotic", "cd_net", "star_vector", 0, result(33.0))
    (table,) = grid.tables()
    assert table.rows == [
        ["CD-Net", "without_kl°", "1", "33.00", "32.26", "+0.74"],
        ["CD-Net", "star_vector", "1", "33.00", "–", "–"],
    ]


def test_demo_sets_show_the_shift_and_nothing_published(grid: Grid) -> None:
    grid.add("emotic_demo", "caer_net", "vanilla", 0, result(34.5))
    (table,) = grid.tables()
    assert table.columns == ["backbone", "method", "seeds", "test", "test_shift", "change"]
    assert table.numeric == [False, False, True, True, True, True]
    assert table.rows == [["CAER-Net", "vanilla", "1", "34.50", "24.50", "-10.00"]]


def test_the_parts_of_clef_have_a_table_of_their_own(grid: Grid) -> None:
    parts = {"factual": 41.0, "Y_e": 42.0, "Y_c": 20.0}
    grid.add("emotic", "caer_net", "clef", 0, result(40.0, variants=parts))
    grid.add("emotic", "caer_net", "vanilla", 0, result(39.0, variants={"Y_e": 39.0}))
    grid.add("emotic", "caer_net", "context_only", 0, result(19.0, variants={"Y_c": 19.0}))  # it has no TIE
    table = grid.tables()[1]
    assert table.columns[3:] == ["TIE", "factual", "Y_e", "Y_c"]
    assert table.rows == [["CAER-Net", "clef", "test", "40.00", "41.00", "42.00", "20.00"]]
    assert table.notes[0].startswith("TIE is the score; ")


def test_the_score_of_a_method_other_than_clef_is_not_called_tie(grid: Grid) -> None:
    parts = {"factual": 41.0, "Y_e": 42.0, "Y_c": 20.0}
    for method, preset_of in (("product_of_experts", None), ("clef", None), ("without_kl", "clef")):
        grid.add("emotic", "caer_net", method, 0, result(40.0, variants=parts), preset_of=preset_of)
    table = grid.tables()[1]
    assert table.columns[3:] == ["score", "factual", "Y_e", "Y_c"]
    assert table.notes[0].startswith("score: what the method ranks by (CLEF: TIE); factual: Y_c + Y_e; ")
    del grid.runs[0]
    assert grid.tables()[1].columns[3] == "TIE", "a preset of CLEF is CLEF"


def test_a_headline_whose_chance_level_is_not_known_has_no_note_about_it(grid: Grid) -> None:
    content = result(30.0)
    for split in content["splits"].values():
        split["chance"] = None
    grid.add("emotic_demo", "caer_net", "vanilla", 0, content)
    assert not any("chance" in note for note in grid.tables()[0].notes)


def test_failed_and_missing_cells_are_shown_with_their_reason(grid: Grid) -> None:
    grid.add("caer_s", "emot_net", "vanilla", 0, None, state="non-finite | loss\nat step 3")
    grid.add("caer_s", "emot_net", "clef", 0, None)
    (table,) = grid.tables()
    assert table.rows[0] == ["EMOT-Net", "vanilla", "0", "–", "74.51", "–"]
    text = to_markdown([table], "g")
    assert "- no number from caer_s-emot_net-vanilla-s0: failed at step 3/9: non-finite \\| loss at step 3\n" in text
    assert "- no number from caer_s-emot_net-clef-s0: not run yet\n" in text


def test_cells_with_one_reason_are_named_together(grid: Grid) -> None:
    for seed in range(3):
        grid.add("caer_s", "emot_net", "vanilla", seed, None, state="out of memory" if seed == 1 else "")
    (table,) = grid.tables()
    assert table.notes == [
        "no number from caer_s-emot_net-vanilla-s0, caer_s-emot_net-vanilla-s2: not run yet",
        "no number from caer_s-emot_net-vanilla-s1: failed at step 3/9: out of memory",
    ]


def test_what_a_reader_must_know_is_noted(grid: Grid) -> None:
    grid.add("emotic", "emot_net", "vanilla", 0, result(27.0, random_init=["body", "scene"]))
    grid.add("emotic", "emot_net", "vanilla", 1, result(27.0, commit="def", dirty=True))
    (table,) = grid.tables()
    assert table.notes[0] == "chance level: test 17.00"
    assert table.notes[-2:] == [
        "° without pre-training, as configured: emot_net: body and scene (vanilla)",
        "warning: cells come from 2 versions of the code and some code was edited and not committed",
    ]


def test_cells_that_were_computed_in_other_ways_are_warned_of(grid: Grid) -> None:
    environment = {"code": {"commit": "abc", "dirty": False}}
    grid.add("emotic", "emot_net", "vanilla", 0, result(27.0))
    grid.add(
        "emotic", "emot_net", "vanilla", 1, result(27.0, environment=environment | {"dtype": "bfloat16", "ranks": 4})
    )
    (table,) = grid.tables()
    assert table.notes[-2:] == [
        "warning: cells were computed in bfloat16 and float32",
        "warning: cells ran on 1 and 4 ranks: batch statistics are each rank's, if not synchronised",
    ]


def test_rows_are_long_form_and_everything_is_byte_stable(grid: Grid, tmp_path: Path) -> None:
    grid.add("emotic", "emot_net", "clef", 4, result(33.0, variants={"factual": 34.0, "Y_e": 32.0, "Y_c": 20.0}))
    plan = grid.plan()
    lines = to_csv(gather(plan).rows).splitlines()
    assert lines[0] == (
        "dataset,protocol,backbone,method,seed,split,metric,part,class_name,value,chance,positives,samples,listed,"
        "left_out,samples_seen,signature,commit,dirty,content,dtype,ranks,random_init"
    )
    assert lines[1] == (
        "emotic,leak_free,emot_net,clef,4,test,mAP,score,,33.0,17.0,,100,100,0,,0000000000000000,abc,False,"
        "44136fa355b3678a,float32,1,"
    )
    assert len(lines) == 1 + 2 * 4
    written = []
    for name in ("one", "two"):
        gather_grid(plan, tmp_path / name)
        written.append({path.name: path.read_bytes() for path in sorted((tmp_path / name / "g").iterdir())})
    assert written[0] == written[1]
    kept = {"rows.csv", "intervals.csv", "curves.csv", "audits.csv", "cells.json"}
    assert set(written[0]) == {"tables.md", "tables.csv", "tables.tex"} | kept


MARKDOWN = """# Results of the grid `g`

## CAER-S: accuracy, percent

| backbone | method | seeds | test | published (paper) | gap |
| --- | --- | ---: | ---: | ---: | ---: |
| EMOT-Net | vanilla | 2 | 75.50 ± 0.71 | 74.51 | +0.99 |
| EMOT-Net | clef | 0 | – | 77.03 | – |

- chance level: test 17.00
- people: train all 100 listed, val all 100 listed, test all 100 listed, test_shift all 100 listed
- published: on the protocol paper, not leak_free as here; test is not the official one: 100 people listed, 20,992 there
- no number from caer_s-emot_net-clef-s0: weights \\| of N_C missing
"""
CSV = """"CAER-S: accuracy, percent"
backbone,method,seeds,test,published (paper),gap
EMOT-Net,vanilla,2,75.50 ± 0.71,74.51,+0.99
EMOT-Net,clef,0,–,77.03,–
chance level: test 17.00
"people: train all 100 listed, val all 100 listed, test all 100 listed, test_shift all 100 listed"
"published: on the protocol paper, not leak_free as here; test is not the official one: 100 people listed, 20,992 there"
no number from caer_s-emot_net-clef-s0: weights | of N_C missing
"""


def test_the_pages_character_by_character(grid: Grid) -> None:
    grid.add("caer_s", "emot_net", "vanilla", 0, result(75.0))
    grid.add("caer_s", "emot_net", "vanilla", 1, result(76.0))
    reason = "weights | of\nN_C missing"
    grid.runs.append(PlannedRun("caer_s-emot_net-clef-s0", "caer_s", "emot_net", "clef", 0, None, reason))
    made = grid.tables()
    assert to_markdown(made, "g") == MARKDOWN
    assert tables_to_csv(made) == CSV


def test_each_dataset_has_a_table_in_the_order_of_the_grid(grid: Grid) -> None:
    grid.add("caer_s_demo", "emot_net", "vanilla", 0, result(50.0))
    grid.add("emotic", "emot_net", "vanilla", 0, result(28.0))
    grid.add("caer_s_demo", "emot_net", "vanilla", 1, result(53.0))
    made = grid.tables()
    assert [table.title for table in made] == ["CAER-S demo: accuracy, percent", "EMOTIC: mAP, percent"]
    assert made[0].rows == [["EMOT-Net", "vanilla", "2", "51.50 ± 2.12", "41.50 ± 2.12", "-10.00"]]
    lines = tables_to_csv(made).splitlines()
    end = lines.index("")
    assert lines[end + 1] == '"EMOTIC: mAP, percent"'
    assert lines[3] == '"chance level: test 17.00, test_shift 17.00"'


def test_a_split_that_a_cell_was_not_tested_on_is_named(grid: Grid) -> None:
    whole = result(50.0)
    grid.add("caer_s_demo", "emot_net", "vanilla", 0, whole)
    grid.add("caer_s_demo", "emot_net", "clef", 0, whole | {"splits": {"test": whole["splits"]["test"]}})
    (table,) = grid.tables()
    assert table.rows[1] == ["EMOT-Net", "clef", "1", "50.00", "–", "–"]
    assert table.notes[-1] == "no number on test_shift from caer_s_demo-emot_net-clef-s0: not tested on it"


def test_two_cards_of_one_title_are_told_apart(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nextends: emotic\n")
    dataset = str(tmp_path / "mine.yaml")
    grid.add("emotic", "emot_net", "vanilla", 0, result(50.0))
    grid.runs.append(PlannedRun("mine-s0", dataset, "emot_net", "vanilla", 0, None, "no shards"))
    assert [table.title for table in grid.tables()] == ["EMOTIC (emotic): mAP, percent", "EMOTIC (mine): mAP, percent"]


def test_a_backbone_of_ones_own_has_no_published_number(grid: Grid) -> None:
    grid.add("emotic", "mine:Net", "vanilla", 0, result(28.0))
    (table,) = grid.tables()
    assert table.rows == [["mine:Net", "vanilla", "1", "28.00", "–", "–"]]


@pytest.mark.parametrize("content", [{"a": 1}, {"splits": 3, "environment": {}}, result(1.0, splits={"test": {}})])
def test_a_result_that_is_none_is_a_missing_number(grid: Grid, content: dict) -> None:
    grid.add("emotic", "emot_net", "clef", 0, content)
    name = "emotic-emot_net-clef-s0"
    reason = "its result.json is not that of a cell; move it elsewhere and run the grid again"
    gathered = gather(grid.plan())
    assert (len(gathered.rows), gathered.missing) == (0, {name: reason})


def test_a_moved_grid_still_gathers(grid: Grid, tmp_path: Path) -> None:
    grid.add("emotic", "emot_net", "clef", 0, result(33.0))
    plan = grid.plan()
    moved = tmp_path / "elsewhere"
    grid.out.rename(moved)
    assert gather(moved / plan.relative_to(grid.out)).rows["value"].iloc[0] == 33.0


@pytest.mark.parametrize("text", ["{", "[]", '{"cells": []}', '{"grid": "g", "cells": [{"x": 1}]}'])
def test_a_plan_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(CellError, match="not a plan"):
        gather(tmp_path / "plan.json")


def test_published_columns_average_to_the_published_map() -> None:
    known = published()
    for backbone, entry in known["backbones"].items():
        columns = zip(*(row[backbone] for row in known["emotic_per_category"].values()), strict=True)
        for method, column in zip(("vanilla", "clef"), columns, strict=True):
            assert len(column) == 26
            assert statistics.fmean(column) == pytest.approx(entry[method]["emotic"], abs=0.02), (backbone, method)
