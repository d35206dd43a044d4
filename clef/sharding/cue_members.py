"""The cues of a person as members of their sample: arrays in parts of the frame or the face, and the depth map.

A cue that is not there makes no member. Neither does one that can't be used: a flag says why, and the person is kept.
Imports no torch.
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
from clef.datasets.person import Box, Cues
from clef.geometry import JOINTS, LANDMARKS, PixelBox, around, grown, holds, inside, outward

MARGIN = 0.1
"""A face that only landmarks tell of is the box around them, and this share of it on each side."""
_GREY = {"L", "I", "I;16", "I;16B", "I;16L", "I;16N"}
"""Pillow's modes of an 8- or 16-bit grey image."""
Size = tuple[int, int]
"""Width and height of the source image."""


class _UnusableCue(Exception):
    """Why a cue makes no member; the text is the flag."""


def members(cues: Cues, box: Box, size: Size, storage: Storage, flags: list[str]) -> dict[str, bytes]:
    """All members but the landmarks, of which `face_and_landmarks` decides. `box` is the subject's, clamped."""
    makers: dict[str, tuple[Any, Callable[[Any], bytes]]] = {
        "depth.png": (cues.depth, lambda path: _depth(path, storage.frame)),
        "pose.npy": (cues.pose, lambda pose: npy(_pose(pose, size))),
        "regions.npy": (cues.regions, lambda boxes: npy(_regions(boxes, size, storage.regions))),
        "agents.npy": (cues.others, lambda others: npy(_agents(box, others, size, flags))),
    }
    result = {}
    for kind, (cue, make) in makers.items():
        try:
            if cue is not None:
                result[kind] = make(cue)
        except _UnusableCue as reason:
            flags.append(str(reason))
    return result


def face_and_landmarks(
    face: PixelBox | None, cues: Cues, size: Size, flags: list[str]
) -> tuple[PixelBox | None, np.ndarray | None]:
    """The face box, and the landmarks 68,2 in parts of it. Where there is no face box, the landmarks make one."""
    if cues.landmarks is None:
        return face, None
    points = _finite(cues.landmarks, (LANDMARKS, 2))
    if points is None:
        flags.append("landmarks malformed")
        return face, None
    if face is None:
        found = inside(grown(around(points.tolist()), MARGIN), *size)
        if found is None:
            flags.append("landmarks outside the frame")
            return None, None
        face = outward(found)
        flags.append("face from landmarks")
    if not holds(face, points.mean(axis=0)):
        flags.append("landmarks off the face")  # they are another's
        return face, None
    return face, (points - face[:2]) / (face[2] - face[0], face[3] - face[1])


def person_box(box: Box | None, size: Size, flags: list[str]) -> PixelBox | None:
    """The detector's box in whole pixels of the frame; one that can't be used counts as none."""
    found = _usable(box, size) if box is not None else None
    if box is not None and found is None:
        flags.append("person box unusable")
    return outward(found) if found else None


def npy(values: np.ndarray) -> bytes:
    """The bytes of a .npy file of float32."""
    buffer = io.BytesIO()
    np.save(buffer, values.astype(np.float32))
    return buffer.getvalue()


def _agents(box: Box, others: Sequence[Box], size: Size, flags: list[str]) -> np.ndarray:
    found = [_usable(other, size) for other in others]
    if None in found:
        flags.append("box of another unusable")
    return np.array([box, *filter(None, found)]) / (size * 2)


def _pose(pose: Sequence[Sequence[float]], size: Size) -> np.ndarray:
    joints = _finite(pose, (len(JOINTS), 3))
    if joints is None:
        raise _UnusableCue("pose malformed")
    return (joints / (*size, 1)).clip(0, 1)


def _regions(regions: Sequence[Box], size: Size, most: int) -> np.ndarray:
    if any(_finite(region, (4,)) is None for region in regions):
        raise _UnusableCue("regions malformed")
    found = [part for region in regions if (part := inside(region, *size))][:most]
    if not found:
        raise _UnusableCue("no region in the frame")
    return np.array(found) / (size * 2)


@lru_cache(maxsize=1)  # the people of one image follow each other
def _depth(path: Path, short_side: int) -> bytes:
    """The map as an 8-bit PNG: its own least value 0, its greatest 255."""
    values = _depth_values(path)
    least, most = values.min(), values.max()
    if least == most:
        raise _UnusableCue("depth flat")
    image = Image.fromarray((values - least) * (255 / (most - least)))
    scale = short_side / min(image.size)
    if scale < 1:  # before rounding to whole greys
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
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _UnusableCue("depth unreadable") from None
    if image.mode not in _GREY:
        raise _UnusableCue("depth not grey")
    return np.asarray(image).astype(np.float32)


def _usable(box: Box, size: Size) -> Box | None:
    return inside(box, *size) if _finite(box, (4,)) is not None else None


def _finite(values: object, shape: tuple[int, ...]) -> np.ndarray | None:
    """The values as an array of that shape, or None when they are not that or not all numbers."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return array if array.shape == shape and np.isfinite(array).all() else None
