"""From one person and their image to the members of a sample: frames, crops and facts, all decided here once.

The subject's box is rounded outwards and black in `context.jpg` already. It is zeroed before the frame is made
smaller, so that no pixel of the subject is mixed into the rest, and once more after it.
"""

import hashlib
import io
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clef.cards import Card, Storage
from clef.cues.boxes import inside
from clef.data import cue_members
from clef.data.boxes import PixelBox, outward, scaled
from clef.datasets import Box, Person

Image.MAX_IMAGE_PIXELS = 200_000_000  # EMOTIC holds images of up to 11,617 pixels a side
TINY = 400
"""Boxes of fewer square pixels are kept and flagged."""


class Unusable(Exception):
    """This person can't be stored; the text is the reason that gets counted."""


@dataclass(frozen=True)
class Sample:
    """The bytes of each member, the labels, and what had to be decided."""

    members: dict[str, bytes]
    labels: tuple[str, ...]
    flags: tuple[str, ...]


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
    """The sample of one person. Raises Unusable when the image or the box can't be used."""
    frame, digest = _decode(person.image)
    flags = list(person.flags)
    box = _clamp(person.box, frame.size, "box", flags)
    subject = outward(box)
    if (subject[2] - subject[0]) * (subject[3] - subject[1]) < TINY:
        flags.append("box tiny")
    face = _face(person.face, frame.size, flags)
    face, landmarks = cue_members.face_and_landmarks(face, person.cues, frame.size, flags)
    boxes = _Boxes(subject, face, cue_members.person_box(person.cues.person, frame.size, flags))
    scene = _shrink(frame, card.storage.frame)
    stored = boxes.scaled(frame.size, scene.size)
    members = _images(frame, scene, boxes, stored, card.storage)
    if landmarks is not None:
        members["landmarks.npy"] = cue_members.npy(landmarks)
    members |= cue_members.members(person.cues, box, frame.size, card.storage, flags)
    facts: dict[str, Any] = {
        "id": person.id,
        "split": split,
        "labels": list(person.labels),
        "vad": _numbers(person.vad) if card.vad else None,
        "size": scene.size,
        "box": stored.subject,
        "face_box": stored.face,
        "person_box": stored.person,
        "source_size": frame.size,
        "source_box": person.box,
        "image_sha256": digest,
        "flags": flags,
    }
    members["meta.json"] = json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()
    return Sample(members, person.labels, tuple(flags))


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


@lru_cache(maxsize=1)  # the people of one image follow each other
def _decode(path: Path) -> tuple[Image.Image, str]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise Unusable("image missing") from None
    except OSError as error:
        raise Unusable(f"image unreadable: {error.strerror}") from None
    try:
        # Annotations were drawn on the stored pixels: no EXIF rotation.
        return Image.open(io.BytesIO(data)).convert("RGB"), hashlib.sha256(data).hexdigest()
    except Image.DecompressionBombError:
        raise Unusable("image too large") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombWarning):
        raise Unusable("image truncated or not an image") from None


def _clamp(box: Box | None, size: tuple[int, int], what: str, flags: list[str]) -> Box:
    part = inside(box, *size)
    if part is None:  # also NaN
        raise Unusable(f"{what} empty after clamping")
    if box is not None and part != box:
        flags.append(f"{what} clamped")
    return part


def _face(face: Box | None, size: tuple[int, int], flags: list[str]) -> PixelBox | None:
    """The face's pixels; a face that lies outside the frame counts as none."""
    try:
        return outward(_clamp(face, size, "face", flags)) if face else None
    except Unusable:
        flags.append("face outside the frame")
        return None


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
