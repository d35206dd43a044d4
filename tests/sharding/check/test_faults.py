"""Every fault that copies of the real sets are known to have, planted one at a time: the report names and counts it.

The tables say: what is wrong, the rule that names it, where it is met and how often, and how it is planted.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from math import nan
from pathlib import Path

import pytest
from rich.console import Console

from clef.datasets.policies import RULES
from clef.sharding.check.report import Report
from clef.sharding.check.show import print_report
from tests.sharding.check.factories import (
    CAER_CLASSES,
    HEIGHT,
    WIDTH,
    CaerSet,
    EmoticSet,
    annotation,
    encoded,
    picture,
    run_check,
)


@dataclass(frozen=True)
class Fault:
    """One row: the people met in each split, and the spellings found where the rule is about those."""

    what: str
    rule: str
    plant: Callable[..., object]
    met: dict[str, int] = field(default_factory=lambda: {"train": 1})
    found: dict[str, int] = field(default_factory=dict)
    stops: bool = False
    along: tuple[str, ...] = ()
    """Rules that the same fault meets too."""


def image(name: str, content: bytes) -> Callable[[EmoticSet], object]:
    return lambda dataset: dataset.files.update({f"framesdb/images/{name}": content})


def person(split: str = "train", **changes: object) -> Callable[[EmoticSet], object]:
    return lambda dataset: dataset.person(split, 0, **changes)


def no_image(dataset: EmoticSet) -> None:
    del dataset.files["framesdb/images/train0.jpg"]


def leak(dataset: EmoticSet) -> None:
    """An image of train in val too: one person with the same box, one with another."""
    dataset.add("val", "train0.jpg", annotation(), annotation((1, 1, 40, 40)))


def twice(split: str) -> Callable[[EmoticSet], object]:
    return lambda dataset: dataset.add(split, "twice.jpg", annotation(), annotation(), annotation((1, 1, 50, 50)))


JPEG = encoded(picture(77))
SMALLER = (WIDTH - 2, HEIGHT - 2)
EMOTIC = [
    Fault("a box beyond the frame", "box_outside", person(box=(-3.5, 6, WIDTH + 9.5, 80))),
    Fault("a box beyond the frame, in test", "box_outside", person("test", box=(11, -1, 60, 80)), {"test": 1}),
    Fault("a box under 400 px^2", "box_tiny", person(box=(11, 6, 30, 25 - 1))),
    Fault("a box that is empty after the clamp", "box_empty", person(box=(WIDTH + 4, 6, WIDTH + 30, 80))),
    Fault("a box upside down", "box_empty", person(box=(60, 80, 11, 6))),
    Fault("VAD that is NaN", "vad_unknown", person(vad=(nan, nan, nan))),
    Fault("VAD outside 1-10", "vad_outside", person(vad=(0.0, 5.0, 11.0))),
    Fault("a person listed twice in train", "box_repeated", twice("train")),
    Fault("a person listed twice in test", "box_repeated", twice("test"), {"test": 1}),
    Fault("an image of too many pixels", "image_too_large", image("train0.jpg", encoded(picture(77, size=(160, 120))))),
    Fault("PNG data under a .jpg name", "image_misnamed", image("train0.jpg", encoded(picture(77), "PNG"))),
    Fault("CMYK under a .jpg name", "image_converted", image("train0.jpg", encoded(picture(77, "CMYK")))),
    Fault("a grey JPEG", "image_converted", image("test1.jpg", encoded(picture(77, "L"))), {"test": 1}),
    Fault("a JPEG that EXIF turns", "image_rotated", image("train0.jpg", encoded(picture(77), orientation=6))),
    Fault("a smaller copy of an image", "image_resized", image("train0.jpg", encoded(picture(77, size=SMALLER)))),
    Fault("a truncated image", "image_unreadable", image("train0.jpg", JPEG[: len(JPEG) // 2])),
    Fault("an empty file", "image_unreadable", image("train0.jpg", b"")),
    Fault("a file that is no image", "image_unreadable", image("val0.jpg", b"<html>404</html>"), {"val": 1}),
    Fault("a missing image", "image_missing", no_image),
    Fault("an image of train in val", "image_shared", leak, {"val": 2}),
    Fault(
        "alias spellings", "label_alias", person(categories=("Disquitement", "Disconnect", "Doubt Confusion")),
        {"train": 1}, {"Disconnect": 1, "Disquitement": 1, "Doubt Confusion": 1},
    ),
    Fault("a person without labels", "label_missing", person(categories=())),
    Fault(
        "no labels by annotator", "annotators_missing",
        lambda dataset: dataset.unjudged.append(("test", 1)), {"test": 1},
    ),
    Fault("an unknown label", "label_unknown", person(categories=("Joy",)), {"train": 1}, {"Joy": 1}, stops=True),
]  # fmt: skip


def found_in(report: Report, rule: str) -> tuple[dict[str, int], dict[str, int]]:
    met = report.rules[rule].splits
    spellings: dict[str, int] = {}
    for one in met.values():
        spellings |= one.found
    return {split: one.count for split, one in met.items()}, spellings


def assert_named(fault: Fault, dataset: str, root: Path, **settings: object) -> None:
    report = run_check(dataset, root, **settings)  # type: ignore[arg-type]
    assert found_in(report, fault.rule) == (fault.met, fault.found)
    others = {rule for rule in RULES if report.rules[rule].splits} - {fault.rule}
    assert others == set(fault.along), "something else was named, too"
    assert report.stops == ([fault.rule] if fault.stops else [])
    for split, one in report.rules[fault.rule].splits.items():
        assert 1 <= len(one.examples) <= min(one.count, 5), split
        assert all(str(root) not in place for place in one.examples)


@pytest.mark.parametrize("fault", EMOTIC, ids=lambda fault: fault.what)
def test_a_fault_of_emotic(fault: Fault, tmp_path: Path) -> None:
    dataset = EmoticSet.clean()
    fault.plant(dataset)
    assert_named(fault, "emotic", dataset.write(tmp_path), max_pixels=WIDTH * HEIGHT)


def caer_image(name: str, content: bytes) -> Callable[[CaerSet], object]:
    return lambda dataset: dataset.files.update({name: content})


def caer_box(split: str, name: str, box: str) -> Callable[[CaerSet], object]:
    return lambda dataset: dataset.box(split, name, box)


def strays(dataset: CaerSet) -> None:
    dataset.files |= {"test/.DS_Store": b"x", "test/Sad/Thumbs.db": b"x", "test/Sad/._0000.png": b"x"}


def no_row(dataset: CaerSet) -> None:
    del dataset.boxes["test.txt"]["Fear/0001.png"]


def unmatched(dataset: CaerSet) -> None:
    dataset.boxes["train.txt"] |= {"Sad/0999.png": "5,20,10,60,50", "Fear/0999.png": "2,20,10,60,50"}


def conflicting(dataset: CaerSet) -> None:
    """The same image twice in the list: once with the split before its name, and another box."""
    dataset.boxes["test.txt"]["test/Fear/0001.png"] = "2,21,10,60,50"


def people_as_faces(dataset: CaerSet) -> None:
    """46 % of the frame each, as the face list of test that circulates."""
    for name, row in dataset.boxes["test.txt"].items():
        dataset.boxes["test.txt"][name] = f"{row[0]},20,5,92,74"


def relabelled(dataset: CaerSet) -> None:
    dataset.boxes["test.txt"]["Fear/0001.png"] = "5,20,10,60,50"


PNG = encoded(picture(77), "PNG")
CAER_S = [
    Fault("stray files", "file_stray", strays, {"test": 3}),
    Fault("a face box beyond the frame", "face_outside", caer_box("train", "Fear/0000.png", "-4,10,60,50"),
          along=("box_outside",)),
    Fault("a face box outside the frame", "box_empty", caer_box("test", "Sad/0000.png", "130,10,150,50"), {"test": 1}),
    Fault("no face: 0,0,0,0", "face_missing", caer_box("test", "Sad/0000.png", "0,0,0,0"), {"test": 1}),
    Fault("no face: no row", "face_missing", no_row, {"test": 1}),
    Fault("rows of images that are not there", "box_unmatched", unmatched, {"train": 2}),
    Fault("two boxes for one image", "box_conflict", conflicting, {"test": 1}, stops=True),
    Fault("people's boxes as faces", "face_is_person", people_as_faces, {"test": 14}),
    Fault("a label that is not the folder's", "label_conflict", relabelled, {"test": 1}, stops=True),
    Fault("a truncated image", "image_unreadable", caer_image("train/Fear/0000.png", PNG[: len(PNG) // 2])),
    Fault("JPEG data under a .png name", "image_misnamed", caer_image("train/Fear/0000.png", JPEG)),
    Fault("a palette", "image_converted", caer_image("test/Fear/0000.png", encoded(picture(77, "P"), "PNG")),
          {"test": 1}),
]  # fmt: skip


@pytest.mark.parametrize("fault", CAER_S, ids=lambda fault: fault.what)
def test_a_fault_of_caer_s(fault: Fault, tmp_path: Path) -> None:
    dataset = CaerSet.clean()
    fault.plant(dataset)
    assert_named(fault, "caer_s", dataset.write(tmp_path))


def test_a_face_box_outside_the_frame_where_there_is_a_person_box(tmp_path: Path) -> None:
    dataset = CaerSet.clean()
    dataset.box("test", "Sad/0000.png", "130,10,150,50")
    dataset.boxes["test_person.txt"] = {name: f"{row[0]},5,5,90,80" for name, row in dataset.boxes["test.txt"].items()}
    assert_named(Fault("", "face_empty", dataset.write, {"test": 1}), "caer_s", dataset.write(tmp_path))


def test_every_rule_has_a_planted_fault() -> None:
    assert {fault.rule for fault in EMOTIC + CAER_S} | {"face_empty"} == set(RULES)


def test_clean_sets_have_no_fault(tmp_path: Path) -> None:
    for name, dataset in (("emotic", EmoticSet.clean()), ("caer_s", CaerSet.clean())):
        report = run_check(name, dataset.write(tmp_path / name))
        assert [rule for rule in RULES if report.rules[rule].splits] == []
        assert (report.stops, report.leaks) == ([], [])
        assert not any(copies.images for copies in report.copies.values())


def test_angry_in_train_is_anger_in_test(tmp_path: Path) -> None:
    report = run_check("caer_s", CaerSet.clean().write(tmp_path))
    assert report.listed["train"].classes == dict.fromkeys(CAER_CLASSES, 3)
    assert report.listed["test"].classes == dict.fromkeys(CAER_CLASSES, 2)


def test_the_table_of_classes_says_who_is_not_in_it(tmp_path: Path) -> None:
    dataset = CaerSet.clean()
    dataset.box("test", "Sad/0000.png", "0,0,0,0")
    report = run_check("caer_s", dataset.write(tmp_path))
    for split, reasons in {"train": {"the gap between train and val": 7}, "test": {"face_missing": 1}}.items():
        listed = report.listed[split]
        assert listed.left_out == reasons
        assert sum(listed.classes.values()) + sum(reasons.values()) == listed.people
    console = Console(width=120, record=True, file=StringIO())
    print_report(report, console)
    rows = [line.split() for line in console.export_text().splitlines() if line.startswith(" left out: ")]
    assert rows == [
        ["left", "out:", "the", "gap", "between", "train", "and", "val", "7"],
        ["left", "out:", "face_missing", "1"],
    ]


def test_a_leak_of_whole_images_and_boxes(tmp_path: Path) -> None:
    dataset = EmoticSet.clean()
    leak(dataset)
    root = dataset.write(tmp_path)
    pair, *others = run_check("emotic", root).pairs
    assert (pair.first, pair.second) == ("train", "val")
    assert (pair.listed.images, pair.listed.people, pair.listed.boxes) == (1, 2, 1)
    assert not pair.counted.anything
    assert not any(other.listed.anything for other in others)
    paper = run_check("emotic", root, protocol="paper")
    assert paper.pairs[0].counted == paper.pairs[0].listed == pair.listed
    assert [each.counted.boxes for each in paper.leaks] == [1]


def test_the_same_bytes_under_another_name_and_frames_that_look_the_same(tmp_path: Path) -> None:
    dataset = EmoticSet.clean()
    original = dataset.files["framesdb/images/train1.jpg"]
    dataset.add("test", "copy.jpg", annotation(), annotation((1, 1, 40, 40)), content=original)
    dataset.add("test", "re-encoded.jpg", annotation(), content=encoded(picture(2), quality=60))  # train2.jpg
    dataset.add("train", "again.jpg", annotation(), content=original)
    report = run_check("emotic", dataset.write(tmp_path))
    (pair,) = report.leaks
    assert (pair.first, pair.second) == ("train", "test")
    assert (pair.counted.images, pair.counted.boxes, pair.counted.copies, pair.counted.near) == (0, 1, 1, 1)
    assert pair.counted.examples["copies"] == ["emotic/framesdb/images/copy.jpg = emotic/framesdb/images/train1.jpg"]
    assert pair.counted.examples["near"][0].startswith(
        "emotic/framesdb/images/re-encoded.jpg ~ emotic/framesdb/images/train2.jpg ("
    )
    assert report.copies["train"].examples == ["emotic/framesdb/images/again.jpg = emotic/framesdb/images/train1.jpg"]
    assert run_check("emotic", tmp_path, near=0).leaks[0].counted.near == 0


def test_shots_that_val_or_test_share_with_train(tmp_path: Path) -> None:
    dataset = CaerSet.clean()
    shot = picture(500, size=(WIDTH + 2, HEIGHT))
    views = [encoded(shot.crop((x, 0, x + WIDTH, HEIGHT)), "PNG") for x in (0, 1, 1)]
    dataset.files |= {"train/Sad/0000.png": views[0], "test/Sad/0000.png": views[1], "test/Sad/0001.png": views[2]}
    report = run_check("caer_s", dataset.write(tmp_path))
    (pair,) = report.leaks
    assert (pair.first, pair.second, pair.counted.near, pair.counted.images) == ("train", "test", 2, 0)
    assert report.copies["test"].images == 1
