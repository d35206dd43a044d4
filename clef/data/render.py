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
from clef.datasets import Box, Person

Image.MAX_IMAGE_PIXELS = 200_000_000  # EMOTIC holds images of up to 11,617 pixels a side
TINY = 400
"""Boxes of fewer square pixels are kept and flagged."""
PixelBox = tuple[int, int, int, int]


class Unusable(Exception):
    """This person can't be stored; the text is the reason that gets counted."""


@dataclass(frozen=True)
class Sample:
    """The bytes of each member, the labels, and what had to be decided."""

    members: dict[str, bytes]
    labels: tuple[str, ...]
    flags: tuple[str, ...]


def render(person: Person, card: Card, split: str) -> Sample:
    """The sample of one person. Raises Unusable when the image or the box can't be used."""
    frame, digest = _decode(person.image)
    flags = list(person.flags)
    box = outward(_clamp(person.box, frame.size, "box", flags))
    if (box[2] - box[0]) * (box[3] - box[1]) < TINY:
        flags.append("box tiny")
    face = _face(person.face, frame.size, flags)
    storage = card.storage
    scene = _shrink(frame, storage.frame)
    stored = _scaled(box, frame.size, scene.size)
    context = black(np.asarray(_shrink(_blacked(frame, box), storage.frame)), stored)
    members = {
        "context.jpg": _jpeg(Image.fromarray(context), storage),
        "scene.jpg": _jpeg(scene, storage),
        "body.jpg": _jpeg(_shrink(frame.crop(box), storage.body), storage),
    }
    if face:
        members["face.jpg"] = _jpeg(_shrink(frame.crop(face), storage.face), storage)
    facts: dict[str, Any] = {
        "id": person.id,
        "split": split,
        "labels": list(person.labels),
        "vad": _numbers(person.vad) if card.vad else None,
        "size": list(scene.size),
        "box": list(stored),
        "face_box": list(_scaled(face, frame.size, scene.size)) if face else None,
        "source_size": list(frame.size),
        "source_box": list(person.box) if person.box else None,
        "image_sha256": digest,
        "flags": flags,
    }
    members["meta.json"] = json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()
    return Sample(members, person.labels, tuple(flags))


def outward(box: Box) -> PixelBox:
    """Whole pixels that cover all of the box."""
    return math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])


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
    width, height = size
    if box is None:
        return 0, 0, width, height
    inside = (max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3]))
    if not (inside[2] > inside[0] and inside[3] > inside[1]):  # also NaN
        raise Unusable(f"{what} empty after clamping")
    if inside != box:
        flags.append(f"{what} clamped")
    return inside


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


def _scaled(box: PixelBox, source: tuple[int, int], stored: tuple[int, int]) -> PixelBox:
    x, y = stored[0] / source[0], stored[1] / source[1]
    return outward((box[0] * x, box[1] * y, min(box[2] * x, stored[0]), min(box[3] * y, stored[1])))


def _jpeg(image: Image.Image, storage: Storage) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=storage.quality, subsampling=0)
    return buffer.getvalue()


def _numbers(values: tuple[float, ...] | None) -> list[float | None] | None:
    """JSON has no NaN: unknown is null."""
    return None if values is None else [None if math.isnan(v) else v for v in values]
