"""The cues of a person as members of their sample: arrays in fractions of the frame or the face, and the depth map.

A cue that is absent makes no member. Neither does one that can't be used: a flag says why, and the person is kept.
Boxes come clipped (`box_policy.clip_boxes`). Imports no torch.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clef.datasets.cards import Storage
from clef.datasets.orientation import turn_image
from clef.datasets.person import Cues
from clef.errors import raise_if_system_error
from clef.geometry import JOINTS, NUM_LANDMARKS, Box, PixelBox, Size, contains, round_outward
from clef.sharding.box_policy import PersonBoxes, finite_array
from clef.sharding.frame import Frame

_GRAY = {"L", "I", "I;16", "I;16B", "I;16L", "I;16N"}
"""Pillow's modes of an 8- or 16-bit gray image."""


class _UnusableCue(Exception):
    """Why a cue makes no member; the text is the flag."""


def face_and_landmarks(boxes: PersonBoxes, cues: Cues, flags: list[str]) -> tuple[PixelBox | None, np.ndarray | None]:
    """Return the face box, and the landmarks 68,2 in fractions of it; None for what can't be used.

    Where there is no face box, the one around the landmarks takes its place.
    """
    face = round_outward(boxes.face) if boxes.face else None
    if cues.landmarks is None:
        return face, None
    points = finite_array(cues.landmarks, (NUM_LANDMARKS, 2))
    if points is None:
        flags.append("landmarks malformed")
        return face, None
    if face is None:
        if boxes.landmarks is None:
            flags.append("landmarks outside the frame")
            return None, None
        face = round_outward(boxes.landmarks)
        flags.append("face from landmarks")
    if not contains(face, points.mean(axis=0)):
        flags.append("landmarks off the face")  # they belong to another person
        return face, None
    return face, (points - face[:2]) / (face[2] - face[0], face[3] - face[1])


def person_box(boxes: PersonBoxes, cues: Cues, flags: list[str]) -> PixelBox | None:
    """Return the detector's box of the subject in whole pixels; one that can't be used counts as none."""
    if cues.person is not None and boxes.detected is None:
        flags.append("person box unusable")
    return round_outward(boxes.detected) if boxes.detected else None


def members(cues: Cues, boxes: PersonBoxes, frame: Frame, storage: Storage, flags: list[str]) -> dict[str, bytes]:
    """Return the members depth.png, pose.npy, regions.npy and agents.npy, where there are such cues.

    Cues and boxes are in the pixels of the frame.
    """
    size = frame.size
    makers: dict[str, tuple[Any, Callable[[Any], bytes]]] = {
        "depth.png": (cues.depth, lambda path: _depth(path, storage.frame, frame.orientation)),
        "pose.npy": (cues.pose, lambda pose: npy(_pose(pose, size))),
        "regions.npy": (cues.regions, lambda regions: npy(_regions(regions, boxes.regions, size, storage.regions))),
        "agents.npy": (cues.others, lambda _: npy(_agents(boxes, size, flags))),
    }
    result = {}
    for kind, (cue, make) in makers.items():
        try:
            if cue is not None:
                result[kind] = make(cue)
        except _UnusableCue as reason:
            flags.append(str(reason))
    return result


def npy(values: np.ndarray) -> bytes:
    """Return the bytes of a .npy file of the values as float32."""
    buffer = io.BytesIO()
    np.save(buffer, values.astype(np.float32))
    return buffer.getvalue()


def _agents(boxes: PersonBoxes, size: Size, flags: list[str]) -> np.ndarray:
    """Return the boxes of subject and others, n,4, in fractions of the frame."""
    if None in boxes.others:
        flags.append("box of another unusable")
    return np.array([boxes.subject, *filter(None, boxes.others)]) / _corners(size)


def _pose(pose: Sequence[Sequence[float]], size: Size) -> np.ndarray:
    """Return the joints, 17,3: x and y in fractions of the frame, and the confidence."""
    joints = finite_array(pose, (len(JOINTS), 3))
    if joints is None:
        raise _UnusableCue("pose malformed")
    height, width = size
    return (joints / (width, height, 1)).clip(0, 1)


def _regions(regions: Sequence[Box], clipped: Sequence[Box | None], size: Size, limit: int) -> np.ndarray:
    """Return the first `limit` regions that lie in the frame, n,4, in fractions of it."""
    if any(finite_array(region, (4,)) is None for region in regions):
        raise _UnusableCue("regions malformed")
    kept = [region for region in clipped if region][:limit]
    if not kept:
        raise _UnusableCue("no region in the frame")
    return np.array(kept) / _corners(size)


def _corners(size: Size) -> tuple[int, int, int, int]:
    """Return what x1, y1, x2, y2 are divided by to become fractions of the frame."""
    height, width = size
    return width, height, width, height


@lru_cache(maxsize=1)  # the people of one image come one after another
def _depth(path: Path, short_side: int, orientation: int) -> bytes:
    """Return the depth map, which lies as the image is stored, turned, as an 8-bit PNG.

    Its smallest value becomes 0, and its largest 255.
    """
    values = _depth_values(path)
    least, most = values.min(), values.max()
    if least == most:
        raise _UnusableCue("depth flat")
    image = turn_image(Image.fromarray((values - least) * (255 / (most - least))), orientation)
    scale = short_side / min(image.size)
    if scale < 1:  # resized as floats, before it is rounded to whole grays
        shape = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(shape, Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image).round().clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _depth_values(path: Path) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(path.read_bytes()))
            image.load()
    except FileNotFoundError:
        raise _UnusableCue("depth missing") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise_if_system_error(error, path)
        raise _UnusableCue("depth unreadable") from None
    if image.mode not in _GRAY:
        raise _UnusableCue("depth not grey")
    return np.asarray(image).astype(np.float32)
