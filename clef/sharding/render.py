"""From one person and their image to the members of a sample: frames, crops and facts, all decided here once.

The subject's box is rounded outwards and black in `context.jpg` already. It is zeroed before the frame is made
smaller, so that no pixel of the subject is mixed into the rest, and once more after it.
"""

import io
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from clef.datasets import Person
from clef.datasets.cards import Card, Storage
from clef.geometry import PixelBox, outward, scaled
from clef.sharding import cue_members, frame
from clef.sharding.box_policy import Flags, decide, pixels
from clef.sharding.frame import Frame

_FINER = 2
"""A large JPEG is decoded to so many times the stored side at least: what is left to shrink is done well."""


@dataclass(frozen=True)
class Sample:
    """The bytes of each member, the labels, and what had to be decided here (the reader's own flags not among it)."""

    members: dict[str, bytes]
    labels: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Boxes:
    """In whole pixels of one frame."""

    subject: PixelBox
    face: PixelBox | None
    person: PixelBox | None

    def scaled(self, source: tuple[int, int], stored: tuple[int, int]) -> "_Boxes":
        boxes = (box and scaled(box, source, stored) for box in (self.subject, self.face, self.person))
        return _Boxes(*boxes)  # type: ignore[arg-type]


def render(person: Person, card: Card, split: str) -> Sample:
    """The sample of one person. Raises Unusable when the policies leave the person out."""
    storage, flags = card.storage, Flags(card.policies, person)
    read = _read(person, storage, flags)
    decided = decide(person, read.size, flags)
    notes = flags.met
    face, landmarks = cue_members.face_and_landmarks(pixels(decided.face), person.cues, read.size, notes)
    person_box = cue_members.person_box(person.cues.person, read.size, notes)
    boxes = _Boxes(outward(decided.subject), face, person_box)
    scene, hidden = _scene(read, storage), read.mask(boxes.subject)
    stored = replace(boxes, subject=hidden).scaled(read.size, scene.size)
    images = {"context.jpg": _context(read, hidden, stored.subject, storage), "scene.jpg": scene}
    images |= _crops(read, boxes, storage, flags)
    members = {kind: _jpeg(image, storage) for kind, image in images.items()}
    if landmarks is not None:
        members["landmarks.npy"] = cue_members.npy(landmarks)
    members |= cue_members.members(person.cues, decided.subject, read.size, storage, notes)
    facts: dict[str, Any] = {
        "id": person.id,
        "split": split,
        "labels": list(person.labels),
        "vad": _numbers(person.vad) if card.vad else None,
        "size": scene.size,
        "box": stored.subject,
        "face_box": stored.face,
        "person_box": stored.person,
        "source_size": read.size,
        "source_box": person.box,
        "image_sha256": read.digest,
        "flags": [*person.flags, *notes],
    }
    members["meta.json"] = json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()
    return Sample(members, person.labels, tuple(notes))


def _read(person: Person, storage: Storage, flags: Flags) -> Frame:
    read = _usable(lambda: frame.read(person.image, storage.max_pixels, _FINER * storage.frame), flags)
    for rule in read.faults:
        flags.add(rule)
    return read


def _usable(read: Callable[[], Frame], flags: Flags) -> Frame:
    try:
        return read()
    except frame.BadImage as fault:
        flags.refuse(str(fault))


def _scene(read: Frame, storage: Storage) -> Image.Image:
    return _shrink(read.image, storage.frame, (0, 0, *read.size), read.factor)


def _context(read: Frame, hidden: PixelBox, stored: PixelBox, storage: Storage) -> Image.Image:
    """The scene without its subject: `hidden` of the source and `stored` of the scene are black."""
    with _blacked(read.image, read.box(hidden)):
        context = np.asarray(_scene(read, storage))
    return Image.fromarray(black(context, stored))


def black(pixels: np.ndarray, box: PixelBox) -> np.ndarray:
    """A copy of H,W,3 pixels with the box zeroed."""
    result = pixels.copy()
    result[box[1] : box[3], box[0] : box[2]] = 0
    return result


@contextmanager
def _blacked(image: Image.Image, box: PixelBox) -> Iterator[None]:
    """The box is black within the block. The image itself, because a copy of a large one may not fit in memory."""
    hidden = image.crop(box)
    image.paste((0, 0, 0), box)
    try:
        yield
    finally:
        image.paste(hidden, box)


def _crops(read: Frame, boxes: _Boxes, storage: Storage, flags: Flags) -> dict[str, Image.Image]:
    """Body and face, from an image that was decoded finer than the frame where they need it."""
    wanted = {"body.jpg": (boxes.subject, storage.body)}
    if boxes.face:
        wanted["face.jpg"] = (boxes.face, storage.face)
    factors = {kind: frame.factor_for(min(_size(box)), short_side) for kind, (box, short_side) in wanted.items()}
    finer = read
    if (factor := min(factors.values())) < read.factor:
        finer = _usable(lambda: frame.decoded(read.path, storage.max_pixels, min(read.size) // factor), flags)
    sources = {kind: read if read.factor <= factors[kind] else finer for kind in wanted}
    return {kind: _crop(sources[kind], box, short_side) for kind, (box, short_side) in wanted.items()}


def _crop(read: Frame, box: PixelBox, short_side: int) -> Image.Image:
    """A box of the source, made smaller."""
    outer = read.box(box)
    x, y = outer[0] * read.factor, outer[1] * read.factor
    return _shrink(read.image.crop(outer), short_side, (box[0] - x, box[1] - y, box[2] - x, box[3] - y), read.factor)


def _size(box: PixelBox) -> tuple[int, int]:
    return box[2] - box[0], box[3] - box[1]


def _shrink(image: Image.Image, short_side: int, box: PixelBox, factor: int) -> Image.Image:
    """A box with `short_side` pixels on its short side, unless it has fewer.

    It is in pixels of which `factor` x `factor` make one of the image, so it may end within one.
    """
    size = _size(box)
    scale = short_side / min(size)
    if scale >= 1:
        return image
    size = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    inner = tuple(value / factor for value in box)
    return image.resize(size, Image.Resampling.LANCZOS, box=inner, reducing_gap=3.0)  # type: ignore[arg-type]


def _jpeg(image: Image.Image, storage: Storage) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=storage.quality, subsampling=0)
    return buffer.getvalue()


def _numbers(values: tuple[float, ...] | None) -> list[float | None] | None:
    """JSON has no NaN: unknown is null."""
    return None if values is None else [None if math.isnan(v) else v for v in values]
