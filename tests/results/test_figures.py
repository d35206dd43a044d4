"""The figures of a grid: that they show its numbers, and that the same numbers give the same bytes."""

import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from clef.cells.plan_file import PlannedRun
from clef.datasets import cards
from clef.results import frame
from clef.results import gather as pictures
from clef.results.collect import curve_points, gather
from clef.results.figures import classes, curves, draw
from clef.results.figures.style import look
from clef.results.frame import CurvePoint, GridResults, parts_of, to_frame
from clef.results.published import backbone_title
from tests.results.factories import Grid, assert_same_results, result

SETS = {"caer_s_demo_weak": 0.3, "caer_s_demo": 0.65, "caer_s_demo_strong": 0.9}
CLASSES = list(cards.load("caer_s_demo").classes)


def value(dataset: str, method: str, seed: int) -> float:
    return 50 + 10 * SETS[dataset] * (method == "vanilla") + 3 * seed


def of_class(number: int, method: str, seed: int) -> float:
    return 10 * number + 5 * (method == "clef") + 2 * seed


@pytest.fixture
def three(grid: Grid) -> Grid:
    """Three strengths of a bias, two methods, two seeds."""
    return filled(grid, *SETS)


def cell(number: float, method: str, seed: int) -> dict[str, Any]:
    content = result(number)
    known = {name: of_class(k, method, seed) for k, name in enumerate(CLASSES)}
    for name, split in content["splits"].items():
        content["splits"][name] = split | {"per_class": known}
    return content


def filled(grid: Grid, *sets: str) -> Grid:
    for dataset in sets:
        for method in ("vanilla", "clef"):
            for seed in (0, 1):
                grid.add(dataset, "caer_net", method, seed, cell(value(dataset, method, seed), method, seed))
                log = [{"epoch": e, "step": 10 * e, "val": 20.0 * e + seed} for e in (1, 2)]
                folder = grid.out / "g" / f"{dataset}-caer_net-{method}-s{seed}"
                (folder / "log.jsonl").write_text("\n".join(map(json.dumps, log)) + '\n{"epoch": 3, "va')
    return grid


def test_bars_are_the_means_of_each_class(three: Grid) -> None:
    part, card, _ = parts_of(gather(three.plan()))[1]
    figure = classes.bars(part, card, "test")
    assert figure is not None
    vanilla, clef = figure.axes[0].containers[1], figure.axes[0].containers[3]
    means = [[of_class(k, method, 0) + 1 for k in range(len(CLASSES))] for method in ("vanilla", "clef")]
    assert [bar.get_height() for bar in vanilla] == means[0]
    assert [bar.get_height() for bar in clef] == means[1]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == CLASSES
    assert all(a.get_x() + a.get_width() == pytest.approx(b.get_x()) for a, b in zip(vanilla, clef, strict=True))


def test_the_heat_map_writes_each_number_and_the_headline_last(three: Grid) -> None:
    part, card, _ = parts_of(gather(three.plan()))[1]
    figure = classes.heat_map(part, card, "test")
    assert figure is not None
    expected = [
        f"{number:.1f}"
        for method in ("vanilla", "clef")
        for number in [
            *(of_class(k, method, 0) + 1 for k in range(len(CLASSES))),
            value("caer_s_demo", method, 0) + 1.5,
        ]
    ]
    assert [text.get_text() for text in figure.axes[0].texts] == expected
    assert np.allclose(figure.axes[0].collections[0].get_array().ravel(), [float(one) for one in expected], atol=0.05)


def lines(figure: Figure, panel: int) -> dict[str, tuple[list[float], list[float]]]:
    shown = figure.axes[panel].containers or figure.axes[panel].lines
    found = {one.get_label(): one[0] if figure.axes[panel].containers else one for one in shown}
    return {name: (list(line.get_xdata()), list(line.get_ydata())) for name, line in found.items()}


def test_a_line_over_the_strength_of_the_bias(three: Grid) -> None:
    (sets,) = draw._bias_families([(part, card) for part, card, _ in parts_of(gather(three.plan()))])
    assert [strength for strength, *_ in sets] == [0.3, 0.65, 0.9]
    figure = curves.over_strength(sets)
    for panel, lower in enumerate((0, 10)):
        for method, (x, y) in lines(figure, panel).items():
            assert x == pytest.approx([0.3, 0.65, 0.9], abs=0.01)
            assert y == pytest.approx([value(name, method, 0) + 1.5 - lower for name in SETS])
    whole = figure.axes[0].containers[0].lines[2][0].get_segments()[0]
    deviation = statistics.stdev((0, 3))
    assert np.ptp(whole[:, 1]) == pytest.approx(2 * deviation)


def test_backbones_and_methods_without_numbers_are_left_out_and_the_rest_is_drawn(three: Grid) -> None:
    """The first backbone of the plan has failed, of the second vanilla, of the third all but vanilla."""
    runs = three.runs.copy()
    three.runs.clear()
    for dataset in SETS:
        for backbone, done in (("emot_net", ""), ("cd_net", "clef"), ("emoticon", "vanilla")):
            for method in ("vanilla", "clef"):
                content = cell(50.0, method, 0) if method == done else None
                three.add(dataset, backbone, method, 0, content, state="" if content else "failed")
    three.runs += runs
    gathered = gather(three.plan())
    made = {name: figure for _, name, _, figure in draw._figures(gathered)}
    assert [axes.get_title(loc="left") for axes in made["caer_s_demo-strength"].axes[::2]] == [
        f"{backbone_title(one)}, test" for one in ("cd_net", "emoticon", "caer_net")
    ]
    for name in ("caer_s_demo-strength", "caer_s_demo-shift"):
        (legend,) = made[name].legends
        assert [text.get_text() for text in legend.get_texts()] == ["vanilla", "clef"]
    (legend,) = made["caer_s_demo-classes"].legends
    assert [text.get_text() for text in legend.get_texts()] == ["vanilla", "clef", "chance"]
    colours = [patch.get_facecolor() for patch in legend.get_patches()]
    assert colours == [matplotlib.colors.to_rgba(look(one, [])["color"]) for one in ("vanilla", "clef")]


def test_a_demo_set_that_differs_in_more_than_its_bias_is_no_family(three: Grid) -> None:
    parts = [(part, card) for part, card, _ in parts_of(gather(three.plan()))]
    other = cards.load("emotic_demo")
    assert list(draw._bias_families([parts[0], (parts[1][0], other)])) == []
    assert list(draw._bias_families(parts[:1])) == []
    card = parts[1][1]
    stored = card.model_copy(update={"storage": card.storage.model_copy(update={"quality": 50})})
    assert list(draw._bias_families([parts[0], (parts[1][0], stored)])) == [], "other images"
    twin = parts[1][0], card.model_copy(update={"name": "twin", "title": "Twin", "source": "data/twin"})
    (sets,) = draw._bias_families([parts[0], parts[1], twin])
    assert [one.name for *_, one in sets] == ["caer_s_demo_weak", "caer_s_demo"], "a strength once"


def test_both_tests_of_each_method_and_seed(three: Grid) -> None:
    part, card, _ = parts_of(gather(three.plan()))[1]
    figure = curves.against_shift(part, card)
    assert figure is not None
    seeds, mean = figure.axes[0].lines[:2]
    first = value("caer_s_demo", "vanilla", 0)
    assert (list(seeds.get_xdata()), list(seeds.get_ydata())) == ([first, first + 3], [first - 10, first - 7])
    assert (list(mean.get_xdata()), list(mean.get_ydata())) == ([first + 1.5], [first - 8.5])
    assert curves.against_shift(part, cards.load("emotic")) is None


def test_learning_curves_hold_what_the_log_says(three: Grid) -> None:
    part, card, _ = parts_of(gather(three.plan()))[0]
    ((_, figure),) = curves.learning_curves(part, card)
    assert lines(figure, 0) == {name: ([1.0, 2.0], [20.5, 40.5]) for name in ("vanilla", "clef")}


def test_a_mean_is_of_all_seeds_and_those_that_went_on_go_on_by_themselves() -> None:
    run = PlannedRun("x", "emotic", "emot_net", "clef", 0, "x")
    seeds = {0: [10.0, 20.0], 1: [14.0, 30.0, 40.0], 2: [12.0, 22.0, 36.0]}
    points = [
        CurvePoint("emotic", "leak_free", "emot_net", "clef", seed, float(epoch), epoch, one)
        for seed, values in seeds.items()
        for epoch, one in enumerate(values, 1)
    ]
    points.append(CurvePoint("emotic", "leak_free", "emot_net", "clef", 0, 1.0, 1, 10.0))  # again, after a restart
    part = GridResults("g", [run], curves=to_frame(CurvePoint, points))
    ((_, figure),) = curves.learning_curves(part, cards.load("emotic"))
    drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].lines]
    assert drawn == [([1.0, 2.0], [12.0, 24.0]), ([2.0, 3.0], [30.0, 40.0]), ([2.0, 3.0], [22.0, 36.0])]


def test_each_of_many_methods_has_a_panel_with_vanilla_and_clef_behind() -> None:
    readings = [f"reading_{k}" for k in range(24)]
    methods = ["vanilla", "clef", *readings]
    runs = [PlannedRun("x", "emotic", b, m, 0, "x") for b in ("emot_net", "caer_net") for m in methods]
    points = [
        CurvePoint("emotic", "leak_free", run.backbone, run.method, 0, 1.0, 1, float(methods.index(run.method)))
        for run in runs
        if (run.backbone, run.method) != ("caer_net", "reading_7")
    ]
    made = dict(
        curves.learning_curves(GridResults("g", runs, curves=to_frame(CurvePoint, points)), cards.load("emotic"))
    )
    for backbone, figure in made.items():
        shown = [one for one in readings if (backbone, one) != ("caer_net", "reading_7")]
        panels = [axes for axes in figure.axes if axes.get_visible()]
        assert [axes.get_title(loc="left") for axes in panels] == shown
        for axes, one in zip(panels, shown, strict=True):
            assert [line.get_ydata()[0] for line in axes.lines] == [0, 1, methods.index(one)]
            assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 3
    assert list(made) == ["emot_net", "caer_net"]


def test_a_log_that_was_spoilt_gives_what_is_left_of_it(tmp_path: Path) -> None:
    assert list(curve_points(tmp_path, "emotic", "leak_free", "emot_net", "clef", 0)) == []
    spoilt = (
        '[]\n{"val": null, "epoch": 1, "step": 1}\n{"val": 3}\n\xff\n{"epoch": 2, "step": 8, "val": 5.5}\n{"loss": 1}\n'
    )
    (tmp_path / "log.jsonl").write_bytes(spoilt.encode("latin-1"))
    (one,) = curve_points(tmp_path, "emotic", "leak_free", "emot_net", "clef", 0)
    assert (one.epoch, one.step, one.value) == (2.0, 8, 5.5)


@pytest.mark.slow
def test_the_same_rows_give_the_same_bytes_and_old_figures_go(grid: Grid, tmp_path: Path) -> None:
    gathered = gather(filled(grid, "caer_s_demo").plan())
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        frame.write(folder, gathered)
        assert_same_results(frame.load(folder), gathered)
    (second / "figures").mkdir()
    (second / "figures" / "figures.txt").write_text("of_an_earlier_time\n")
    for name in ("of_an_earlier_time.png", "mine.png"):
        (second / "figures" / name).write_bytes(b"")
    one = draw.draw_figures(first, frame.load(first))
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9}):  # as a user's own settings may be
        other = draw.draw_figures(second, frame.load(second))
    assert one == other
    assert (second / "figures" / "mine.png").read_bytes() == b"", "it was not drawn here"
    (second / "figures" / "mine.png").unlink()
    made = {path.name: path.read_bytes() for path in (first / "figures").iterdir()}
    assert made == {path.name: path.read_bytes() for path in (second / "figures").iterdir()}
    names = [f"caer_s_demo-{kind}" for kind in ("classes", "heat", "shift", "learning")]
    assert made.pop("figures.txt").decode().split() == names
    assert made.keys() == {f"{name}.{form}" for name in names for form in ("png", "pdf")}
    assert all(b"Date" not in content for content in made.values())


def test_methods_look_different_and_vanilla_and_clef_in_grey_too() -> None:
    names = ["vanilla", "clef", "ccim", "context_only", *map(str, range(30))]
    looks = [look(name, names) for name in names]
    assert len({tuple(one.items()) for one in looks}) == len(names)
    grey = [np.dot(matplotlib.colors.to_rgb(one["color"]), (0.299, 0.587, 0.114)) for one in looks[:2]]
    assert grey[0] - grey[1] > 0.25


def test_without_matplotlib_there_is_a_page_and_a_line_says_what_to_install(
    three: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    pictures.publish_page(tmp_path, gather(three.plan()))
    assert "pip install 'clef-caer[figures]'" in capsys.readouterr().out
    assert pictures.NO_MATPLOTLIB.split("'")[0] in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "figures").exists()
