"""People of a split to look at: what the shards hold of each, side by side in one small JPEG, as a data URI."""

import base64
import io
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from clef.data.shards import SplitShards
from clef.data.stats.numbers import Numbers, meta
from clef.errors import ShardError
from clef.policies import describe

HEIGHT = 128
"""Pixels of a strip; no picture in it is wider than twice that."""
GAP = 4
FLAGGED = 4
"""People shown for each flag."""
GREY, ORANGE, BLUE = (128, 128, 128), (230, 159, 0), (86, 180, 233)


@dataclass(frozen=True)
class Shown:
    """One person of a sheet."""

    id: str
    labels: str
    flags: str
    image: str
    """A data URI."""
    parts: str
    """What the image shows, from left to right."""


@dataclass(frozen=True)
class Sheet:
    """People of one split: some drawn at random, and some of each flag, by its description."""

    random: list[Shown]
    flagged: dict[str, list[Shown]]


def of(shards: SplitShards, counted: Numbers, samples: int, seed: int) -> Sheet:
    """So many people of a split, the same ones for the same seed, and a few with each flag."""
    rng = np.random.default_rng([seed, zlib.crc32(shards.name.encode())])
    random = _draw(rng, range(len(shards)), samples)
    flagged = {flag: _draw(rng, counted.flagged[flag], min(FLAGGED, samples)) for flag in sorted(counted.flagged)}
    return Sheet(
        [show(shards, place) for place in random],
        {describe(flag): [show(shards, place, framed=True) for place in places] for flag, places in flagged.items()},
    )


def _draw(rng: np.random.Generator, places: range | list[int], count: int) -> list[int]:
    drawn = rng.choice(len(places), min(count, len(places)), replace=False)
    return [places[i] for i in sorted(map(int, drawn))]


def show(shards: SplitShards, place: int, framed: bool = False) -> Shown:
    """One person: context, body, face; `framed`: first the frame, the subject's box in orange, the face's in blue."""
    facts = meta(shards, place)
    pictures = {kind: _read(shards, place, kind) for kind in ("context", "body", "face")}
    if framed and (scene := _read(shards, place, "scene")):
        pictures = {"frame": _outlined(scene, facts["box"], facts["face_box"]), **pictures}
    found = {kind: picture for kind, picture in pictures.items() if picture is not None}
    absent = "".join(f", no {kind}" for kind in pictures if kind not in found)
    labels = ", ".join(facts["labels"]) or "no label"
    flags = "; ".join(describe(flag) for flag in facts["flags"])
    return Shown(facts["id"], labels, flags, _uri(list(found.values())), ", ".join(found) + absent)


def _read(shards: SplitShards, place: int, kind: str) -> Image.Image | None:
    content = shards.read(place, f"{kind}.jpg")
    if content is None:
        return None
    try:
        return Image.open(io.BytesIO(content)).convert("RGB")
    except (OSError, ValueError) as error:
        where = f"{shards.root}: {shards.name}: sample {shards.key(place)}"
        raise ShardError(f"{where}: its {kind}.jpg is damaged ({error}); {shards.remedy}") from None


def _outlined(scene: Image.Image, subject: list[int], face: list[int] | None) -> Image.Image:
    made = scene.copy()
    pen = ImageDraw.Draw(made)
    for box, colour in ((subject, ORANGE), (face, BLUE)):
        if box:  # stored boxes are half-open
            pen.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=colour)
    return made


def _uri(pictures: list[Image.Image]) -> str:
    """The pictures beside each other, all as tall as a strip, as far as they aren't too wide for it."""
    scaled = []
    for picture in pictures:
        scale = min(HEIGHT / picture.height, 2 * HEIGHT / picture.width)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        scaled.append(picture.resize(size, Image.Resampling.LANCZOS))
    strip = Image.new("RGB", (sum(p.width for p in scaled) + GAP * max(0, len(scaled) - 1) or 1, HEIGHT), GREY)
    x = 0
    for picture in scaled:
        strip.paste(picture, (x, 0))
        x += picture.width + GAP
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
