"""What becomes of a person's boxes in a frame of a known size, by the policies. Sharding and the check share it."""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from clef.datasets import Person
from clef.datasets.policies import Policies
from clef.geometry import NUM_LANDMARKS, Box, Size, area, bounding_box, clip, expand, round_outward

TINY_AREA = 400
"""Square pixels; a smaller box is tiny."""
LANDMARK_MARGIN = 0.1
"""A face that is known by its landmarks alone is the box around them, and this share of its sides on each side."""


class Unusable(Exception):
    """This person is left out; the text is the rule that says so."""


class Flags:
    """The rules that were met for one person, in order. A rule whose policy is `skip` raises Unusable instead."""

    def __init__(self, policies: Policies, person: Person) -> None:
        self.policies, self.person = policies, person
        self.met: list[str] = []

    def add(self, rule: str) -> None:
        """Flag the person and continue. Raises Unusable or DataError where the policy is `skip` or `raise`."""
        if self.policies.check(rule, f"{self.person.id} ({self.person.image})") == "skip":
            raise Unusable(rule)
        self.met.append(rule)

    def refuse(self, rule: str) -> NoReturn:
        """Leave the person out: raise Unusable, or DataError where the policy is `raise`."""
        self.policies.check(rule, f"{self.person.id} ({self.person.image})")
        raise Unusable(rule)


@dataclass(frozen=True)
class PersonBoxes:
    """All boxes of a person, clipped to the frame, in pixels of the source image. None: nothing of it is usable."""

    subject: Box
    face: Box | None
    """As the source or a detector gives it."""
    landmarks: Box | None
    """The box around the landmarks: the face where `face` is None."""
    detected: Box | None
    """The subject's box by a person detector."""
    others: tuple[Box | None, ...]
    """Of the other people in the image."""
    regions: tuple[Box | None, ...]
    """Region proposals."""


def clip_boxes(person: Person, size: Size, flags: Flags) -> PersonBoxes:
    """Return all boxes of a person, clipped to a frame of this size (height, width).

    The boxes of subject and face are subject to the policies: raises Unusable, or DataError where the policy is
    `raise`. A box of a cue that can't be used is None; `cue_members` flags it.
    """
    cues = person.cues
    subject, face = clip_subject_and_face(person, size, flags)
    return PersonBoxes(
        subject=subject,
        face=face,
        landmarks=_box_of_landmarks(cues.landmarks, size),
        detected=_clip_cue(cues.person, size),
        others=tuple(_clip_cue(box, size) for box in cues.others),
        regions=tuple(_clip_cue(box, size) for box in cues.regions or ()),
    )


def clip_subject_and_face(person: Person, size: Size, flags: Flags) -> tuple[Box, Box | None]:
    """Return these two boxes, clipped to a frame of this size, by the policies; see `clip_boxes`."""
    return _clip_subject(person, size, flags), _clip_face(person.face, size, flags)


def _clip_subject(person: Person, size: Size, flags: Flags) -> Box:
    if person.image_size is not None and sorted(person.image_size) != sorted(size):  # they may be turned
        flags.add("image_resized")
    box = clip(person.box, size)
    if box is None:  # a box with NaN, too
        flags.refuse("box_empty")
    if person.box is not None and box != person.box:
        flags.add("box_outside")
    if area(tuple(map(float, round_outward(box)))) < TINY_AREA:  # type: ignore[arg-type]
        flags.add("box_tiny")
    return box


def _clip_face(face: Box | None, size: Size, flags: Flags) -> Box | None:
    if face is None:
        return None
    clipped = clip(face, size)
    if clipped is None:
        flags.add("face_empty")
    elif clipped != face:
        flags.add("face_outside")
    return clipped


def _box_of_landmarks(landmarks: object, size: Size) -> Box | None:
    points = finite_array(landmarks, (NUM_LANDMARKS, 2))
    return None if points is None else clip(expand(bounding_box(points.tolist()), LANDMARK_MARGIN), size)


def _clip_cue(box: Box | None, size: Size) -> Box | None:
    return None if finite_array(box, (4,)) is None else clip(box, size)


def finite_array(values: object, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the values as a float64 array of that shape; None when they are not that, or not all finite numbers."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return array if array.shape == shape and np.isfinite(array).all() else None
