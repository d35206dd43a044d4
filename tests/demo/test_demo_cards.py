"""Demo sets of another bias are cards: options reach the generator, and leave the identity of shards alone."""

import json
from pathlib import Path

import pytest

from clef import datasets
from clef.datasets import cards
from clef.errors import ConfigError
from clef.sharding import shard_plan


def card(folder: Path, options: str) -> cards.Card:
    path = folder / "mine.yaml"
    path.write_text(f"extends: caer_s_demo\nname: mine\ngenerator_options: {options}\n")
    return cards.load(str(path))


def test_options_of_a_card_reach_the_generator(tmp_path: Path) -> None:
    datasets.generate_demo(card(tmp_path, "{strength: 0.9, people: 60}"), tmp_path / "set")
    facts = json.loads((tmp_path / "set" / "demo.json").read_text())
    assert (facts["generator"], facts["strength"], facts["people"]) == ("caer_s_demo", 0.9, 60)


def test_the_shipped_cards_differ_in_their_strength_alone() -> None:
    usual = cards.load("caer_s_demo").model_dump()
    differing = {"name", "title", "source", "generator_options"}
    for name, strength in (("weak", 0.3), ("strong", 0.9)):
        other = cards.load(f"caer_s_demo_{name}").model_dump()
        assert {key for key in usual if usual[key] != other[key]} == differing
        assert other["generator_options"] == {"name": "caer_s_demo", "strength": strength}


def test_an_option_that_the_generator_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"card mine: generator_options: .*'streng'.*clef\.demo:generate"):
        datasets.generate_demo(card(tmp_path, "{streng: 0.9}"), tmp_path / "set")


def test_shards_are_known_by_what_was_drawn_not_by_the_options(sources: Path, tmp_path: Path) -> None:
    usual = cards.load("caer_s_demo")
    other = usual.model_copy(update={"generator_options": {"name": "caer_s_demo", "seed": 0}})
    made = [shard_plan.make_plan(one, sources / "caer_s_demo", tmp_path / "out", None) for one in (usual, other)]
    assert made[0].fingerprint == made[1].fingerprint
