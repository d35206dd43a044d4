"""EXIF's orientation: how a stored image must be turned to be seen upright, and its boxes and points with it.

A camera held on its side stores the picture lying, and states in EXIF how to turn it. Everything here works on the
turned picture. Which of the two a dataset's boxes refer to is stated by the image's size in the annotations, where they
have it and it tells, and otherwise by the policy of `image_rotated`.
"""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from clef.datasets.person import Person
from clef.errors import raise_if_system_error
from clef.geometry import Size, turn_box, turn_point, turned_size

if TYPE_CHECKING:
    from PIL import Image  # slow to import

_ORIENTATION_TAG = 0x0112
_TRANSPOSITIONS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE",
    8: "ROTATE_90",
}  # fmt: skip
"""Pillow's name of the transposition by which an image of each orientation is turned."""


def open_image(file: Path | IO[bytes]) -> "Image.Image":
    """Open an image without the limits that Pillow has for what strangers upload: callers limit its pixels.

    A PNG may hold text of up to 64 MB, such as the history that an image editor writes; Pillow stops at 1 MB.
    """
    from PIL import Image, PngImagePlugin

    Image.MAX_IMAGE_PIXELS = None
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
    warnings.filterwarnings("ignore", "Corrupt EXIF data")  # names no file, and the pixels may be sound
    return Image.open(file)


def read_orientation(image: "Image.Image") -> int:
    """Return the orientation, 1-8, that the EXIF data of an open image states; 1 where there is none, or it is broken.

    A PNG is loaded before, because its EXIF data may come after its pixels, and a TIFF after, because Pillow then turns
    it itself. That raises what Pillow raises.
    """
    if image.format == "PNG":
        image.load()
    try:
        stated = image.getexif().get(_ORIENTATION_TAG, 1)
        orientation = int(stated) if stated in range(1, 9) else 1
    except Exception:  # Pillow raises a dozen types of errors for damaged EXIF data, and the pixels may be sound
        orientation = 1
    if image.format == "TIFF":
        image.load()
    return orientation


def size_when_turned(image: "Image.Image", orientation: int) -> Size:
    """Return the height and width that an open image has when it is turned, after `read_orientation`."""
    size = image.height, image.width
    return size if image.format == "TIFF" else turned_size(size, orientation)


def read_size(path: Path, turned: bool = False) -> Size | None:
    """Return height and width from an image's header, as stored or as turned; None when it can't be read."""
    try:
        with open_image(path) as image:
            return size_when_turned(image, read_orientation(image)) if turned else (image.height, image.width)
    except (OSError, SyntaxError, ValueError) as error:
        raise_if_system_error(error, path)
        return None


def turn_image(image: "Image.Image", orientation: int) -> "Image.Image":
    """Return an open image turned, after `read_orientation`; the image itself where it is upright."""
    from PIL import Image

    if orientation == 1 or image.format == "TIFF":
        return image
    return image.transpose(Image.Transpose[_TRANSPOSITIONS[orientation]])


def turn_value(value: Any, orientation: int, size: Size) -> Any:
    """Return a box, a point (with what follows x and y), or any sequence of these, as it is when the image is turned.

    `size` is the height and width before that. None stays None.
    """
    if value is None or orientation == 1 or not len(value):
        return value
    if hasattr(value[0], "__len__"):
        return tuple(turn_value(part, orientation, size) for part in value)
    if len(value) == 4:
        return turn_box(tuple(value), orientation, size)
    return (*turn_point(value, orientation, size), *value[2:])


def turn_person(person: Person, orientation: int, size: Size, policy: str) -> Person:
    """Return a person with all boxes and points in pixels of the turned image.

    Args:
        person: as the reader returned them, with cues, which are in pixels of the stored image (docs/cues.md).
        orientation: what the image's EXIF data states, 1-8.
        size: height and width of the turned image.
        policy: that of `image_rotated`; it decides where the source doesn't state the image's size, or that doesn't.
    """
    if orientation == 1:
        return person
    stored = turned_size(size, orientation)

    def turn(value: Any) -> Any:
        return turn_value(value, orientation, stored)

    as_listed = turn if _boxes_refer_to_stored(person, stored, size, policy) else lambda value: value
    cues = person.cues
    turned = replace(
        cues,
        **{name: turn(getattr(cues, name)) for name in ("face", "person", "landmarks", "pose", "regions")},
        others=tuple(map(as_listed, cues.others)),
    )
    face = turned.face if person.face is cues.face else as_listed(person.face)
    return replace(person, box=as_listed(person.box), face=face, cues=turned)


def _boxes_refer_to_stored(person: Person, stored: Size, turned: Size, policy: str) -> bool:
    """Return whether a person's boxes are in pixels of the stored image, rather than of the turned one."""
    if stored != turned and person.image_size in (stored, turned):
        return person.image_size == stored
    return policy != "turned"
