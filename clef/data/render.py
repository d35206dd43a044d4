"""From one person and their image to the members of a sample: frames, crops and facts, all decided here once.

The subject's box is rounded outwards and black in `context.jpg` already. It is zeroed before the frame is made
smaller, so that no pixel of the subject is mixed into the rest, and once more after it.
"""

import io
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from clef.cards import Card, Storage
from clef.data import cue_members, frame
from clef.data.boxes import PixelBox, outward, scaled
from clef.data.decide import Flags, decide, pixels
from clef.datasets import Person


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
    flags = Flags(card.policies, person)
    read = _read(person, card, flags)
    image = read.image
    decided = decide(person, image.size, flags)
    notes = flags.met
    face, landmarks = cue_members.face_and_landmarks(pixels(decided.face), person.cues, image.size, notes)
    person_box = cue_members.person_box(person.cues.person, image.size, notes)
    boxes = _Boxes(outward(decided.subject), face, person_box)
    scene = _shrink(image, card.storage.frame)
    stored = boxes.scaled(image.size, scene.size)
    members = _images(image, scene, boxes, stored, card.storage)
    if landmarks is not None:
        members["landmarks.npy"] = cue_members.npy(landmarks)
    members |= cue_members.members(person.cues, decided.subject, image.size, card.storage, notes)
    facts: dict[str, Any] = {
        "id": person.id,
        "split": split,
        "labels": list(person.labels),
        "vad": _numbers(person.vad) if card.vad else None,
        "size": scene.size,
        "box": stored.subject,
        "face_box": stored.face,
        "person_box": stored.person,
        "source_size": image.size,
        "source_box": person.box,
        "image_sha256": read.digest,
        "flags": [*person.flags, *notes],
    }
    members["meta.json"] = json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()
    return Sample(members, person.labels, tuple(notes))


def _read(person: Person, card: Card, flags: Flags) -> frame.Frame:
    try:
        read = frame.read(person.image, card.storage.max_pixels)
    except frame.BadImage as fault:
        flags.refuse(str(fault))
    for rule in read.faults:
        flags.add(rule)
    return read


def _images(
    frame: Image.Image, scene: Image.Image, boxes: _Boxes, stored: _Boxes, storage: Storage
) -> dict[str, bytes]:
    """The JPEGs. `boxes` lie in the frame, `stored` in the scene, which is the frame made smaller."""
    context = black(np.asarray(_shrink(_blacked(frame, boxes.subject), storage.frame)), stored.subject)
    images = {
        "context.jpg": Image.fromarray(context),
        "scene.jpg": scene,
        "body.jpg": _shrink(frame.crop(boxes.subject), storage.body),
    }
    if boxes.face:
        images["face.jpg"] = _shrink(frame.crop(boxes.face), storage.face)
    return {kind: _jpeg(image, storage) for kind, image in images.items()}


def black(pixels: np.ndarray, box: PixelBox) -> np.ndarray:
    """A copy of H,W,3 pixels with the box zeroed."""
    result = pixels.copy()
    result[box[1] : box[3], box[0] : box[2]] = 0
    return result


def _blacked(frame: Image.Image, box: PixelBox) -> Image.Image:
    result = frame.copy()
    result.paste((0, 0, 0), box)
    return result


def _shrink(image: Image.Image, short_side: int) -> Image.Image:
    scale = short_side / min(image.size)
    if scale >= 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _jpeg(image: Image.Image, storage: Storage) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=storage.quality, subsampling=0)
    return buffer.getvalue()


def _numbers(values: tuple[float, ...] | None) -> list[float | None] | None:
    """JSON has no NaN: unknown is null."""
    return None if values is None else [None if math.isnan(v) else v for v in values]
