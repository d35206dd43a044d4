"""What a card states: its headline metric, and that a wrong one is refused."""

import unicodedata
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


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["classes: [calm, tense, calm]"], r"mine\.yaml:3: classes: 'calm' is listed twice"),
        (
            ["classes:", "- calm", "- tense", "- Calm"],
            r"mine\.yaml:6: classes: 'Calm' differs from 'calm' only in case",
        ),
        (["classes: [calm, tense,", "  ' ']"], r"mine\.yaml:4: classes: one of them has no name"),
        (["classes: []"], r"classes: .*at least 1 item"),
        (["classes: [calm]", "classes: [tense]"], r"mine\.yaml: not valid YAML: classes is stated twice .*line 4"),
        (
            ["aliases:", "  calm: tense"],
            r"mine\.yaml:4: aliases: 'calm': is the class 'calm', and can't stand for 'tense'",
        ),
        (["aliases: {Tense: calm}"], r"mine\.yaml:3: aliases: 'Tense': is the class 'tense', and can't"),
        (["aliases: {quiet: clam}"], r"mine\.yaml:3: aliases: 'quiet': class 'clam': unknown \(did you mean calm\?\)"),
        (
            ["aliases: {quiet: calm,", "  Quiet: tense}"],
            r"mine\.yaml:4: aliases: 'Quiet': stands for 'tense', and in another",
        ),
        (["aliases: {quiet: calm, quiet: tense}"], r"not valid YAML: quiet is stated twice"),
    ],
)
def test_classes_that_are_ambiguous_are_refused_with_their_line(lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        cards.load(write_card(tmp_path, "table", *lines))


def test_spellings_of_an_extended_card_that_have_no_class_here_have_no_effect(tmp_path: Path) -> None:
    card = cards.load(
        write_card(tmp_path, "emotic", "classes: [Peace, Disconnect]", "aliases: {peace: Peace, Calm: Peace}")
    )
    spellings = {"calm": "Peace", " PEACE ": "Peace", "Disconnect": "Disconnect", "Disquitement": None}
    assert {spelling: card.canonical(spelling) for spelling in spellings} == spellings


def test_letters_with_accents_may_be_decomposed(tmp_path: Path) -> None:
    card = cards.load(write_card(tmp_path, "table", "classes: [fröhlich, müde]"))
    assert [card.canonical(unicodedata.normalize(form, "MÜDE")) for form in ("NFC", "NFD")] == ["müde", "müde"]
