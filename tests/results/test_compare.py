"""Two grids side by side."""

from pathlib import Path

import pytest

from clef.results.collect import gather
from clef.results.gather import side_by_side
from tests.results.factories import Grid, data, result, split_data


@pytest.fixture
def both(tmp_path: Path) -> tuple[Grid, Grid]:
    return Grid(tmp_path / "one"), Grid(tmp_path / "two")


def test_means_of_each_and_their_difference(both: tuple[Grid, Grid]) -> None:
    first, second = both
    for seed, value in enumerate((26.0, 28.0)):
        first.add("emotic", "emot_net", "vanilla", seed, result(value))
    first.add("emotic", "emot_net", "clef", 0, result(30.0))
    second.add("emotic", "emot_net", "vanilla", 7, result(30.5, commit="def"))
    second.add("caer_s", "emot_net", "clef", 0, None)
    emotic, caer_s = side_by_side(gather(first.plan()), gather(second.plan()))
    assert emotic.columns == ["backbone", "method", "split", "seeds", "g 1", "g 2", "difference"]
    assert emotic.rows == [
        ["EMOT-Net", "vanilla", "test", "2, 1", "27.00 ± 1.41", "30.50", "+3.50"],
        ["EMOT-Net", "clef", "test", "1, 0", "30.00", "–", "–"],
    ]
    assert "code: g 1 abc; g 2 def" in emotic.notes
    assert caer_s.rows == [["EMOT-Net", "clef", "test", "0, 0", "–", "–", "–"]]


def test_other_people_are_told(both: tuple[Grid, Grid]) -> None:
    first, second = both
    first.add("emotic", "emot_net", "clef", 0, result(30.0))
    content = result(30.0, data=data(test=split_data(90)))
    content["splits"]["test"] = content["splits"]["test"] | {"samples": 90}
    second.add("emotic", "emot_net", "clef", 0, content)
    for other, told in ((second, 1), (first, 0)):
        (table,) = side_by_side(gather(first.plan()), gather(other.plan()))
        assert sum("test has 100 of 100 or 90 of 90 people" in note for note in table.notes) == told


def test_what_may_be_behind_a_difference_is_told(both: tuple[Grid, Grid]) -> None:
    first, second = both
    first.add("emotic", "emot_net", "clef", 0, result(30.0))
    environment = {"code": {"commit": "abc", "dirty": False}, "dtype": "bfloat16", "ranks": 2}
    policies = data(policies={"box_outside": "skip"})
    second.add(
        "emotic", "emot_net", "clef", 0, result(31.0, environment=environment, data=policies, random_init=["body"])
    )
    (table,) = side_by_side(gather(first.plan()), gather(second.plan()))
    assert table.rows == [["EMOT-Net", "clef", "test", "1, 1", "30.00", "31.00°", "+1.00"]]
    assert table.notes[1] == "° without pre-training, as configured: emot_net: body (clef)"
    assert table.notes[2:4] == [
        "warning: cells were computed in bfloat16 and float32",
        "warning: cells ran on 1 and 2 ranks: batch statistics are each rank's, if not synchronised",
    ]
    assert table.notes[4].startswith(
        "warning: not all cells use the same data: policy box_outside is clamp or skip (unlike most: g 2: "
    )
