"""Confusion matrices and reliability diagrams: that they show the long form's numbers."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from clef.cells.plan_file import PlannedRun
from clef.datasets import cards
from clef.metrics import calibration_bins, confusion_matrix
from clef.results.figures import classes, draw
from clef.results.figures.style import look
from clef.results.frame import GridResults, Row, to_frame

CARD = cards.load("caer_s_demo")
K = len(CARD.classes)


def row(method: str, seed: int, metric: str, class_name: str, value: float, count: int) -> Row:
    return Row(
        "caer_s_demo", "leak_free", "emot_net", method, seed, "test", metric, "score", class_name, value, None, count,
        100, 100, 0, 1, "s", "c", False, "h", "float32", 1, "",
    )  # fmt: skip


def gathered(rows: list[Row], methods: list[str]) -> GridResults:
    backbones = ("emot_net", "caer_net")  # the second has no numbers
    runs = [PlannedRun("x", "caer_s_demo", one, method, 0, "x") for one in backbones for method in methods]
    return GridResults("g", runs, to_frame(Row, rows), cards={("caer_s_demo", "leak_free"): CARD})


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_a_matrix_holds_the_mean_over_seeds_of_what_was_taken_for_what() -> None:
    rng = np.random.default_rng(0)
    target = np.repeat(np.arange(K - 1), 20)  # nobody is of the last class
    tables = [
        confusion_matrix(rng.random((len(target), K)) + 2 * np.eye(K)[target] * rng.random(), target) for _ in range(2)
    ]
    rows = [
        row("clef", seed, "confusion", f"{CARD.classes[true]} > {CARD.classes[said]}", 100 * table[true, said] / 20, 20)
        for seed, table in enumerate(tables)
        for true in range(K - 1)
        for said in range(K)
    ]
    figure = classes.matrices(gathered(rows, ["vanilla", "clef"]), CARD, "test")
    assert figure is not None
    assert titles(figure) == ["EMOT-Net, vanilla", "EMOT-Net, clef"]
    empty, panel = figure.axes
    assert [text.get_text() for text in empty.texts] == ["no numbers"]
    drawn = np.ma.filled(panel.collections[0].get_array(), np.nan)
    assert drawn[:-1] == pytest.approx(100 * sum(tables)[:-1] / 40)
    assert np.isnan(drawn[-1]).all()
    written = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in panel.texts}
    assert written[0.5, 0.5] == f"{drawn[0, 0]:.0f}"
    assert panel.get_ylim() == (K, 0), "the first class is at the top"
    assert [text.get_text() for text in empty.get_yticklabels()] == list(CARD.classes)
    assert classes.matrices(gathered([], ["clef"]), CARD, "test") is None


def test_a_diagram_is_that_of_all_seeds_together() -> None:
    rng = np.random.default_rng(1)
    seeds = [rng.random(400) ** power for power in (1, 3)]
    true = [(rng.random(400) < probability).astype(float) for probability in seeds]
    rows = [
        row("clef", seed, f"reliability, {which}", f"bin {one.number:02}", 100 * value, one.count)
        for seed, known in enumerate(zip(seeds, true, strict=True))
        for one in calibration_bins(*known)
        for which, value in (("stated", one.stated), ("observed", one.observed))
    ]
    rows += [
        row("clef", 0, "reliability, stated", "bin 99", 99.0, 9),
        row("clef", 0, "reliability, observed", "bin 99", 0, 9),
    ]
    figure = classes.diagrams(gathered(rows, ["vanilla", "clef"]), "test")
    assert figure is not None
    assert titles(figure) == ["EMOT-Net"]
    line = figure.axes[0].lines[1]
    together = calibration_bins(np.concatenate(seeds), np.concatenate(true))
    assert line.get_xdata() == pytest.approx([100 * one.stated for one in together])
    assert line.get_ydata() == pytest.approx([100 * one.observed for one in together])
    assert to_rgb(line.get_color()) == to_rgb(look("clef", ["vanilla", "clef"])["color"])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["clef"]
    assert classes.diagrams(gathered([], ["clef"]), "test") is None


def test_there_is_one_of_each_a_dataset_and_it_says_how_many_methods_it_leaves_out() -> None:
    methods = ["one", "two", "three", "four", "clef"]
    rows = [
        row(method, 0, metric, name, 50.0, 20)
        for method in methods
        for metric, name in (
            ("confusion", f"{CARD.classes[0]} > {CARD.classes[0]}"),
            ("reliability, stated", "bin 08"),
            ("reliability, observed", "bin 08"),
        )
    ]
    made = {name: (caption, figure) for _, name, caption, figure in draw._figures(gathered(rows, methods))}
    assert list(made) == ["caer_s_demo-confusion", "caer_s_demo-reliability"]
    assert all(caption.endswith(" 4 of 5 methods.") for caption, _ in made.values())
    shown = [f"EMOT-Net, {method}" for method in ("clef", "one", "two", "three")]
    assert titles(made["caer_s_demo-confusion"][1]) == shown
