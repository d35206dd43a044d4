"""What becomes of a person's boxes in a frame of a known size, by the policies. Sharding and the check share it."""

from dataclasses import dataclass
from typing import NoReturn

from clef.datasets import Box, Person
from clef.datasets.policies import Policies
from clef.geometry import PixelBox, area, inside, outward

TINY = 400
"""Square pixels; a smaller box is tiny."""
Size = tuple[int, int]
"""Width and height of the source image."""


class Unusable(Exception):
    """This person is left out; the text is the rule that says so."""


class Flags:
    """The rules that were met for one person, in order; those that leave the person out raise Unusable."""

    def __init__(self, policies: Policies, person: Person) -> None:
        self.policies, self.person = policies, person
        self.met: list[str] = []

    def add(self, rule: str) -> None:
        """Go on with the person, flagged. Unusable or DataError if the policy is another."""
        if self.policies.check(rule, f"{self.person.id} ({self.person.image})") == "skip":
            raise Unusable(rule)
        self.met.append(rule)

    def refuse(self, rule: str) -> NoReturn:
        """Leave the person out. DataError if the policy is `raise`."""
        self.policies.check(rule, f"{self.person.id} ({self.person.image})")
        raise Unusable(rule)


@dataclass(frozen=True)
class Boxes:
    """The subject's box and the face's, in the frame; the face is None when there is none."""

    subject: Box
    face: Box | None


def decide(person: Person, size: Size, flags: Flags) -> Boxes:
    """The person's boxes, clamped. Raises Unusable, or DataError where the policy is `raise`."""
    box = inside(person.box, *size)
    if box is None:  # also NaN
        flags.refuse("box_empty")
    if person.box is not None and box != person.box:
        flags.add("box_outside")
    if area(tuple(map(float, outward(box)))) < TINY:  # type: ignore[arg-type]
        flags.add("box_tiny")
    return Boxes(box, _face(person.face, size, flags))


def _face(face: Box | None, size: Size, flags: Flags) -> Box | None:
    if face is None:
        return None
    part = inside(face, *size)
    if part is None:
        flags.add("face_empty")
    elif part != face:
        flags.add("face_outside")
    return part


def pixels(box: Box | None) -> PixelBox | None:
    """Whole pixels that cover all of a box, if there is one."""
    return None if box is None else outward(box)
