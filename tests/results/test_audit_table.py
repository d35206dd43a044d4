"""The audits of a grid's cells in its tables: each number beside what it is held against."""

from clef.cells.audits import AuditRow
from clef.results.formats import Table
from tests.results.factories import Grid, result, write_audit

SPLITS = ("test", "test_shift")
KINDS = ("value", "subject_only", "context_only", "swap.all.value", "typical", "middle", "atypical")
MOVES = ("moved", "to_right", "to_wrong", "spreads")


def audited(grid: Grid, method: str, seed: int, **changes: float) -> None:
    """A cell, and its audit: every number is the seed, or as `changes` says; on test_shift ten more."""
    weights = {"run": {"checkpoint": {"sha256": f"{method}-{seed}"}}}
    grid.add("emotic_demo", "emot_net", method, seed, result(40.0, **weights))
    parts = ("score", "factual", "Y_e") if method == "clef" else ("score",)
    names = [f"{kind}.{part}" for kind in KINDS for part in parts]
    names += [f"swap.all.{move}.{part}" for move in MOVES for part in parts]
    effects = [f"blanked.{effect}.own" for effect in ("TE", "NDE", "TIE")]
    if method == "clef":
        names += ["swap.branch.value.score", *(f"debiased.{move}" for move in MOVES[:3])]
        names += [f"swap.branch.{move}.{part}" for move in MOVES for part in parts[:2]]
        effects += ["TE.own", "NDE.own", "TIE.own"]
    known = {"chance": 17.0, "chance.thirds": 6.5, "prior": 31.0} | dict.fromkeys([*names, *effects], float(seed))
    known |= {name.replace("__", "."): value for name, value in changes.items()}
    rows = [
        AuditRow(name, split, "Fear" if name in effects else None, value + 10 * (split != "test"), 12)
        for split in SPLITS
        for name, value in known.items()
    ]
    write_audit(grid.out / "g" / str(grid.runs[-1].folder), f"{method}-{seed}", rows)


def made(grid: Grid) -> dict[str, Table]:
    return {title.removeprefix("EMOTIC demo: the audit on "): table for title, table in grid.by_title().items()}


def test_what_is_left_stands_above_chance_and_the_probe_of_each_split(grid: Grid) -> None:
    audited(grid, "vanilla", 1)
    audited(grid, "vanilla", 3)
    audited(grid, "clef", 1, swap__branch__value__score=5.5)
    tables = made(grid)
    table = tables["test, mAP, percent"]
    assert table.columns == ["backbone", "method", "part", "as it is", "subject", "context", "swapped", "branch"]
    assert table.rows[0] == ["EMOT-Net", "vanilla", "score", *["2.0 ± 1.4"] * 4, "–"]
    assert table.rows[1] == ["EMOT-Net", "clef", "TIE", *["1.0"] * 4, "5.5"]
    assert [row[2] for row in table.rows[2:4]] == ["factual", "Y_e"]
    assert table.rows[-2:] == [
        ["chance", "–", "–", *["17.0"] * 5],
        ["probe", "–", "–", "–", "–", "31.0", "–", "–"],
    ]
    assert table.notes[0] == "means over seeds; audited: EMOT-Net vanilla 2, EMOT-Net clef 1"
    shifted = tables["test_shift, mAP, percent"]
    assert shifted.rows[0] == ["EMOT-Net", "vanilla", "score", *["12.0 ± 1.4"] * 4, "–"]
    assert shifted.rows[-1][5] == "41.0"


def test_thirds_are_held_against_chance_in_a_third(grid: Grid) -> None:
    audited(grid, "clef", 2, typical__score=8.0, atypical__score=3.0)
    table = made(grid)["test: typical and atypical contexts, mAP, percent"]
    assert table.rows[0] == ["EMOT-Net", "clef", "TIE", "8.0", "2.0", "3.0"]
    assert table.rows[-1] == ["chance", "–", "–", "6.5", "6.5", "6.5"]
    assert table.notes[0] == "means over seeds; audited: 1 of each"


def test_decisions_that_tie_and_both_swaps_change(grid: Grid) -> None:
    audited(grid, "vanilla", 4)
    audited(grid, "clef", 2, debiased__to_right=9.0, swap__branch__moved__factual=30.0)
    table = made(grid)["test: decisions that change"]
    assert table.columns == ["backbone", "method", "cause", "moved", "to right", "to wrong", "distance"]
    assert table.numeric == [False] * 3 + [True] * 4
    assert [row[1:] for row in table.rows] == [
        ["vanilla", "all: score", "4.0", "4.0", "4.0", "4.00"],
        ["clef", "TIE instead of factual", "2.0", "9.0", "2.0", "–"],
        ["clef", "branch: TIE", "2.0", "2.0", "2.0", "2.00"],
        ["clef", "branch: factual", "30.0", "2.0", "2.0", "2.00"],
        ["clef", "all: TIE", "2.0", "2.0", "2.0", "2.00"],
        ["clef", "all: factual", "2.0", "2.0", "2.0", "2.00"],
        ["clef", "all: Y_e", "2.0", "2.0", "2.0", "2.00"],
    ]


def test_effects_on_each_class(grid: Grid) -> None:
    audited(grid, "vanilla", 4)
    audited(grid, "clef", 2, NDE__own=-3.0)
    for split, more in (("test", 0), ("test_shift", 10)):
        table = made(grid)[f"{split}: effects on each class, EMOT-Net"]
        blanked = [f"{method}, blanked {effect}" for method in ("vanilla", "clef") for effect in ("TE", "NDE", "TIE")]
        assert table.columns == ["class", "people", "clef, TE", "clef, NDE", "clef, TIE", *blanked]
        values = (2, -3, 2, 4, 4, 4, 2, 2, 2)
        assert table.rows == [["Fear", "12", *(f"{value + more:.2f}" for value in values)]]


def test_a_grid_that_nobody_audited_has_no_such_table(grid: Grid) -> None:
    grid.add("emotic_demo", "emot_net", "clef", 0, result(40.0))
    assert not any("audit" in title for title in made(grid))
