"""What a card states: its headline metric, and that a wrong one is refused."""

from pathlib import Path

import pytest

from clef.datasets import cards
from clef.errors import ConfigError
from clef.metrics import METRICS


def write_card(folder: Path, base: str, *lines: str) -> str:
    path = folder / "mine.yaml"
    path.write_text("\n".join((f"extends: {base}", "name: mine", *lines)) + "\n")
    return str(path)


def test_the_headline_metric_is_the_usual_one_of_the_task(tmp_path: Path) -> None:
    assert [(cards.load(name).metric, cards.load(name).class_metric) for name in ("emotic", "caer_s")] == [
        ("mAP", "AP"), ("accuracy", "accuracy"),
    ]  # fmt: skip
    assert cards.load("caer_s", "paper").metric == "accuracy"
    assert cards.load(write_card(tmp_path, "table", "task: single_label")).metric == "accuracy"


def test_a_card_names_another_metric_of_its_task(tmp_path: Path) -> None:
    card = cards.load(write_card(tmp_path, "caer_s", "metric: macro F1"))
    assert (card.metric, card.class_metric) == ("macro F1", "F1")


@pytest.mark.parametrize("metric", ["mAP", "acuracy"])
def test_an_unknown_metric_or_one_of_another_task_is_refused(tmp_path: Path, metric: str) -> None:
    names = " or ".join(one.name for one in METRICS.values() if one.task == "single_label")
    expected = rf"metric: for single_label, {names} is expected, not '{metric}'"
    with pytest.raises(ConfigError, match=expected):
        cards.load(write_card(tmp_path, "caer_s", f"metric: {metric}"))
