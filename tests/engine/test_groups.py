"""Which samples hang together, held against the sources themselves."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from clef.data.shards import SplitShards
from clef.datasets import cards
from clef.engine import evaluation as module
from clef.engine.evaluation import sample_groups


def facts(split: SplitShards) -> list[dict]:
    return [json.loads(split.read(place, "meta.json") or b"") for place in range(len(split))]


def test_people_of_one_image_are_one_group_and_no_others(shards: Path) -> None:
    split = SplitShards(shards / "emotic_demo", "test")
    image = [fact["id"].partition("#")[0] for fact in facts(split)]  # by name, where the code goes by bytes
    found = sample_groups(split, cards.load("emotic_demo").block)
    assert found.dtype == np.int32
    assert len(set(image)) < len(image), "else nothing is tested"
    assert len({*zip(image, found.tolist(), strict=True)}) == len(set(image)) == len(set(found.tolist()))


def test_frames_are_in_blocks_of_the_sources_list_within_a_class(shards: Path) -> None:
    assert cards.load("caer_s").block == cards.load("caer_s_demo").block == 20
    split = SplitShards(shards / "caer_s_demo", "test")  # small: 9 frames of a class
    blocks = defaultdict(list)
    for fact, group in zip(facts(split), sample_groups(split, 4).tolist(), strict=True):
        blocks[group].append((fact["labels"][0], int(Path(fact["id"]).stem)))
    listed = [frame for members in blocks.values() for frame in members]
    first = {label: min(n for name, n in listed if name == label) for label in cards.load("caer_s_demo").classes}
    for members in blocks.values():
        assert len({(label, (number - first[label]) // 4) for label, number in members}) == 1
    assert len(blocks) == 3 * 7
    assert sorted(map(len, blocks.values())) == [1] * 7 + [4] * 14


def test_those_who_are_left_out_move_no_block_and_copies_join_two() -> None:
    labels = [("a",)] * 5 + [("b",)] * 3
    found = module._list_blocks(labels, np.array([0, 1, 3, 4, 7, 8, 9, 10]), 4)
    assert found.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    image = np.array([0, 1, 2, 3, 4, 5, 6, 1])  # the last frame is a copy of the second
    assert module._joined(image, found).tolist() == [0, 0, 0, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_joining_is_the_finest_grouping_that_keeps_both(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = rng.integers(0, 12, 30), rng.integers(0, 12, 30)
    slow = list(range(30))
    for _ in range(30):
        for i in range(30):
            slow[i] = min(slow[j] for j in range(30) if one[i] == one[j] or two[i] == two[j])
    assert module._joined(one, two).tolist() == module._numbered(slow).tolist()
