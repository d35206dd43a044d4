"""From one person and their image to the members of a sample: images, crops, cues and metadata.

The subject's box is rounded outward, and black in `context.jpg` as it is stored. It is zeroed before the frame is made
smaller, so that no pixel of the subject is mixed into the rest, and again after it.
"""

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from clef.datasets import Person
from clef.datasets.cards import Card, Storage
from clef.datasets.orientation import turn_person
from clef.geometry import PixelBox, Size, rescale, round_outward
from clef.sharding import cue_members, frame
from clef.sharding.box_policy import Flags, clip_boxes
from clef.sharding.frame import Frame

_OVERSAMPLING = 2
"""A large JPEG is decoded to so many times the stored side at least, so that the rest is shrunk by a good filter."""


@dataclass(frozen=True)
class Sample:
    """The bytes of each member, the labels, and the flags that were raised here (those of the reader are not in it)."""

    members: dict[str, bytes]
    labels: tuple[str, ...]
    notes: tuple[str, ...]


def render(person: Person, card: Card, split: str) -> Sample:
    """Return the sample of one person. Raises Unusable when the policies leave the person out."""
    storage, flags = card.storage, Flags(card.policies, person)
    image = _read(person, storage, flags)
    person = turn_person(person, image.orientation, image.size, card.policies.image_rotated)
    boxes = clip_boxes(person, image.size, flags)
    notes = flags.met  # from here on, the flags of cues come on top; they have no policies
    subject = round_outward(boxes.subject)
    face, landmarks = cue_members.face_and_landmarks(boxes, person.cues, notes)
    detected = cue_members.person_box(boxes, person.cues, notes)

    scene, hidden = _scene(image, storage), image.mask(subject)
    stored: Size = (scene.height, scene.width)
    box = rescale(hidden, image.size, stored)
    pictures = {"context.jpg": _context(image, hidden, box, storage), "scene.jpg": scene}
    pictures |= _crops(image, subject, face, storage, flags)
    members = {kind: _jpeg(picture, storage) for kind, picture in pictures.items()}
    if landmarks is not None:
        members["landmarks.npy"] = cue_members.npy(landmarks)
    members |= cue_members.members(person.cues, boxes, image, storage, notes)
    stored_boxes = {
        "box": box,
        "face_box": rescale(face, image.size, stored) if face else None,
        "person_box": rescale(detected, image.size, stored) if detected else None,
    }
    members["meta.json"] = _metadata(person, card, split, image, stored, stored_boxes, notes)
    return Sample(members, person.labels, tuple(notes))


def _metadata(
    person: Person,
    card: Card,
    split: str,
    image: Frame,
    stored: Size,
    stored_boxes: Mapping[str, PixelBox | None],
    notes: list[str],
) -> bytes:
    """Return meta.json. Its sizes are width first; shards/README.md says what each key is."""
    meta: dict[str, Any] = {
        "id": person.id,
        "split": split,
        "labels": list(person.labels),
        "vad": _nan_to_null(person.vad) if card.vad else None,
        "size": stored[::-1],
        **stored_boxes,
        "source_size": image.size[::-1],
        "source_box": person.box,
        "image_sha256": image.sha256,
        "flags": [*person.flags, *notes],
    }
    return json.dumps(meta, ensure_ascii=False, separators=(",", ":")).encode()


def _nan_to_null(values: tuple[float, ...] | None) -> list[float | None] | None:
    """Return the values with None for NaN, which JSON has no word for."""
    return None if values is None else [None if math.isnan(v) else v for v in values]


def _read(person: Person, storage: Storage, flags: Flags) -> Frame:
    image = _refuse_unusable(
        lambda: frame.read_frame(person.image, storage.max_pixels, _OVERSAMPLING * storage.frame), flags
    )
    for rule in image.faults:
        flags.add(rule)
    return image


def _refuse_unusable(read: Callable[[], Frame], flags: Flags) -> Frame:
    try:
        return read()
    except frame.UnusableImage as fault:
        flags.refuse(str(fault))


def _scene(image: Frame, storage: Storage) -> Image.Image:
    height, width = image.size
    return _shrink(image.pixels, storage.frame, (0, 0, width, height), image.factor)


def _context(image: Frame, hidden: PixelBox, stored: PixelBox, storage: Storage) -> Image.Image:
    """Return the scene without its subject: `hidden` of the source and `stored` of the scene are black."""
    with _black_within(image.pixels, image.reduce_box(hidden)):
        context = np.asarray(_scene(image, storage))
    return Image.fromarray(zero_box(context, stored))


def zero_box(pixels: np.ndarray, box: PixelBox) -> np.ndarray:
    """Return a copy of H,W,3 pixels with the box zeroed."""
    result = pixels.copy()
    result[box[1] : box[3], box[0] : box[2]] = 0
    return result


@contextmanager
def _black_within(image: Image.Image, box: PixelBox) -> Iterator[None]:
    """Make the box black inside the block. It changes the image itself: a copy of a large one may not fit in memory."""
    hidden = image.crop(box)
    image.paste((0, 0, 0), box)
    try:
        yield
    finally:
        image.paste(hidden, box)


def _crops(
    image: Frame, subject: PixelBox, face: PixelBox | None, storage: Storage, flags: Flags
) -> dict[str, Image.Image]:
    """Return body and face. Where they need finer pixels than the frame, the image is decoded again for them."""
    wanted = {"body.jpg": (subject, storage.body)}
    if face:
        wanted["face.jpg"] = (face, storage.face)
    factors = {kind: frame.reduction_for(min(_sides(box)), short_side) for kind, (box, short_side) in wanted.items()}
    finer = image
    if (factor := min(factors.values())) < image.factor:
        finer = _refuse_unusable(
            lambda: frame.decode_frame(image.path, storage.max_pixels, min(image.size) // factor), flags
        )
    sources = {kind: image if image.factor <= factors[kind] else finer for kind in wanted}
    return {kind: _crop(sources[kind], box, short_side) for kind, (box, short_side) in wanted.items()}


def _crop(image: Frame, box: PixelBox, short_side: int) -> Image.Image:
    """Return a box of the source, made smaller."""
    outer = image.reduce_box(box)
    x, y = outer[0] * image.factor, outer[1] * image.factor
    inner = (box[0] - x, box[1] - y, box[2] - x, box[3] - y)
    return _shrink(image.pixels.crop(outer), short_side, inner, image.factor)


def _sides(box: PixelBox) -> tuple[int, int]:
    """Return width and height of a box."""
    return box[2] - box[0], box[3] - box[1]


def _shrink(image: Image.Image, short_side: int, box: PixelBox, factor: int) -> Image.Image:
    """Return a box of the image with `short_side` pixels on its short side; the image itself where it has fewer.

    The box is in pixels of the source, of which `factor` x `factor` make one of the image. So it may end within one.
    """
    sides = _sides(box)
    scale = short_side / min(sides)
    if scale >= 1:
        return image
    target = max(1, round(sides[0] * scale)), max(1, round(sides[1] * scale))
    inner = tuple(value / factor for value in box)
    return image.resize(target, Image.Resampling.LANCZOS, box=inner, reducing_gap=3.0)  # type: ignore[arg-type]


def _jpeg(image: Image.Image, storage: Storage) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=storage.quality, subsampling=0)
    return buffer.getvalue()
