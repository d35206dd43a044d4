"""What the check says that each protocol counts is what sharding stores, rule by rule."""

from math import nan
from pathlib import Path

import pytest

from clef.datasets import cards
from clef.datasets.cards import Card
from clef.datasets.policies import RULES
from clef.errors import DataError
from clef.sharding import build
from clef.sharding.check import check_source
from clef.sharding.check.report import Report
from tests.sharding.check.factories import HEIGHT, WIDTH, CaerSet, EmoticSet, annotation, encoded, picture, variants


def assert_sharding_agrees(report: Report, cards_: dict[str, Card], source: Path, out: Path) -> None:
    assert list(report.protocols) == list(cards_)
    for name, card in cards_.items():
        if not report.protocols[name].splits:
            with pytest.raises(DataError):
                build.build(card, source, out / name)
            continue
        manifest = build.build(card, source, out / name)
        assert list(report.protocols[name].splits) == list(manifest.splits)
        for split, stored in manifest.splits.items():
            rows = report.protocols[name].splits[split]
            assert (rows.listed, rows.counted, rows.left_out) == (stored.listed, stored.samples, stored.left_out)
            assert of_rules(rows.notes) == of_rules(stored.notes)
            if name == report.protocol:
                met = {rule: found.splits[split].count for rule, found in report.rules.items() if split in found.splits}
                assert met == of_rules({**stored.left_out, **stored.notes})


def of_rules(counts: dict[str, int]) -> dict[str, int]:
    """Cues have notes of their own."""
    return {rule: count for rule, count in counts.items() if rule in RULES}


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["emotic_demo", "caer_s_demo"])
def test_a_demo_set(dataset: str, sources: Path, tmp_path: Path) -> None:
    names = ["leak_free", *cards.load(dataset).protocols]
    cards_ = {name: cards.load(dataset, name) for name in names}
    source = sources / dataset
    report = check_source(cards_, "leak_free", source, source)
    assert sum(report.left_out.values()) > 0
    assert_sharding_agrees(report, cards_, source, tmp_path)


POLICIES = [
    {},
    {"vad_unknown": "skip", "box_repeated": "skip", "image_converted": "skip", "box_tiny": "skip"},
    {"box_outside": "skip", "label_missing": "skip", "image_shared": "keep", "image_misnamed": "skip"},
]


def dirty_emotic() -> EmoticSet:
    """Faults of all kinds, several in one image, or in an image that is shared."""
    dataset, jpeg = EmoticSet.clean(), encoded(picture(60))
    dataset.add("train", "broken.jpg", annotation(), annotation((1, 1, 9, 9)), content=jpeg[: len(jpeg) // 2])
    dataset.add("train", "png.jpg", annotation(), annotation(), content=encoded(picture(61, "L"), "PNG"))
    dataset.add("train", "huge.jpg", annotation(), content=encoded(picture(62, size=(2 * WIDTH, HEIGHT))))
    dataset.add("train", "gone.jpg", annotation())
    dataset.add("train", "mixed.jpg", annotation((-5, 1, 500, 60), vad=(nan, 2, 3)), annotation((1, 1, 5, 5), ()))
    dataset.add("val", "mixed.jpg", annotation((-5, 1, 500, 60)), annotation((200, 1, 300, 20)))
    dataset.add("val", "empty.jpg", annotation((200, 1, 300, 20)), annotation((-9, 1, 4, 5)))
    dataset.add("test", "cmyk.jpg", annotation((-9, 1, 4, 5)), annotation(), content=encoded(picture(63, "CMYK")))
    del dataset.files["framesdb/images/gone.jpg"]
    return dataset


@pytest.mark.parametrize("policies", POLICIES)
@pytest.mark.parametrize("protocol", ["leak_free", "port"])
def test_a_dirty_emotic(policies: dict[str, str], protocol: str, tmp_path: Path) -> None:
    source = dirty_emotic().write(tmp_path / "source")
    (source / "faces.csv").write_text(
        "id,x1,y1,x2,y2\nframesdb/images/train1.jpg#0,-4,5,30,40\nframesdb/images/test0.jpg#0,300,5,400,40\n"
    )
    cards_ = variants("emotic", policies, max_pixels=WIDTH * HEIGHT)
    report = check_source(cards_, protocol, source, source)
    assert len([rule for rule in RULES if report.rules[rule].splits]) >= 10
    assert_sharding_agrees(report, cards_, source, tmp_path / "shards")


@pytest.mark.parametrize("no_face", ["skip", "full", "center"])
def test_a_dirty_caer_s(no_face: str, tmp_path: Path) -> None:
    dataset = CaerSet.clean(train=8)
    dataset.files["train/Fear/0000.png"] = dataset.files["train/Fear/0000.png"][:400]
    dataset.files["test/Fear/0000.png"] = encoded(picture(60, "P"), "PNG")
    dataset.files |= {"train/note.txt": b"x", "test/Sad/.DS_Store": b"x"}
    for split, name, box in (
        ("train", "Sad/0001.png", "0,0,0,0"),
        ("train", "Sad/0006.png", "0,0,0,0"),
        ("train", "Angry/0004.png", "-9,-9,40,40"),
        ("test", "Happy/0001.png", "119,89,300,300"),
        ("test", "Happy/0000.png", "500,0,600,20"),
    ):
        dataset.box(split, name, box)
    source = dataset.write(tmp_path / "source")
    cards_ = variants("caer_s", {"face_missing": no_face})
    assert_sharding_agrees(check_source(cards_, "leak_free", source, source), cards_, source, tmp_path / "shards")
