"""Boxes: their arithmetic, and whose face or body a detection is."""

import itertools

import numpy as np
import pytest

from clef.cues.view import crop_view
from clef.geometry import area, best_face, best_person, body_box, clip, iou, rescale

SUBJECT = (100, 100, 200, 400)


def counted(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """Intersection over union by counting pixels."""
    masks = np.zeros((2, 12, 12), bool)
    for mask, box in zip(masks, (a, b), strict=True):
        mask[box[1] : box[3], box[0] : box[2]] = True
    union = (masks[0] | masks[1]).sum()
    return float((masks[0] & masks[1]).sum() / union) if union else 0.0


def test_overlap_is_that_of_counted_pixels() -> None:
    corners = [(0, 0), (2, 5), (4, 1)]
    boxes = [(x, y, x + w, y + h) for (x, y), w, h in itertools.product(corners, (1, 4, 7), (2, 6))]
    for a, b in itertools.product(boxes, boxes):
        assert iou(a, b) == pytest.approx(counted(a, b))


def test_the_part_in_the_frame() -> None:
    assert clip((-5, 2, 8, 50), (20, 10)) == (0, 2, 8, 20)
    assert clip(None, (20, 10)) == (0, 0, 10, 20)
    assert clip((12, 0, 15, 5), (20, 10)) is None
    assert clip((float("nan"), 0, 5, 5), (20, 10)) is None


def test_a_box_in_a_smaller_frame_is_rounded_outward_and_stays_in_it() -> None:
    assert rescale((10, 5, 30, 20), (40, 100), (20, 25)) == (2, 2, 8, 10)  # height halved, width by four
    assert rescale((0, 0, 101, 41), (41, 101), (20, 50)) == (0, 0, 50, 20)


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        ([], None),
        ([(130, 110, 170, 150)], 0),
        ([(0, 110, 40, 150)], None),  # someone beside
        ([(180, 110, 230, 160)], None),  # the centre lies outside
        ([(105, 110, 120, 125), (130, 110, 170, 150)], 1),  # one small, behind
        ([(130, 300, 170, 340), (130, 110, 170, 150)], 1),  # on a shirt, or a child in front
        ([(165, 115, 205, 155), (128, 112, 168, 152)], 1),  # a neighbour leans in
    ],
)
def test_the_subjects_face_among_others(candidates: list, expected: int | None) -> None:
    assert best_face(candidates, SUBJECT) == (None if expected is None else candidates[expected])


def test_a_known_face_decides() -> None:
    small, large = (110, 110, 130, 130), (140, 110, 190, 160)
    assert best_face([small, large], SUBJECT, (112, 111, 131, 131)) == small
    assert best_face([large], SUBJECT, small) is None


def test_the_subject_among_people() -> None:
    own, other = (95, 95, 205, 390), (180, 90, 300, 400)
    assert best_person([other, own], SUBJECT, None) == own
    assert best_person([other], SUBJECT, None) is None
    assert best_person([(100, 100, 120, 130)], SUBJECT, None) is None  # a hand


def test_the_person_who_hangs_from_a_face() -> None:
    face = (140, 100, 180, 140)
    own, taller = (110, 90, 210, 390), (100, 10, 230, 400)
    assert best_person([taller, own], face, face) == own
    assert best_person([(300, 90, 400, 390)], face, face) is None


def test_a_body_is_looked_for_below_a_face_where_the_face_is_all_there_is() -> None:
    assert body_box(SUBJECT, (130, 110, 170, 150)) == SUBJECT
    x1, y1, x2, y2 = body_box((140, 100, 180, 140), (140, 100, 180, 140))
    assert (x1 + x2) / 2 == 160
    assert (x2 - x1, y2 - y1) == (120, 200)
    assert y1 < 100 < 140 < y2


@pytest.mark.parametrize("longest", [16, 40, 640])
def test_a_view_finds_its_way_back(longest: int) -> None:
    frame = np.zeros((90, 120, 3), np.uint8)
    frame[40:60, 70:100] = 255
    part = crop_view(frame, (50, 30, 110, 80), 0.1, longest)
    assert max(part.width, part.height) <= longest
    ys, xs = np.nonzero(part.pixels[..., 0] > 127)
    found = part.box((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
    assert found == pytest.approx((70, 40, 100, 60), abs=part.scale)
    assert area(found) == pytest.approx(600, rel=0.05 if part.scale == 1 else 0.4)
