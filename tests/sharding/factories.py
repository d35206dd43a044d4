"""A person with all cues: 60 x 40 pixels of bright noise, and coordinates that are easy to divide."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from clef.data.shards import SplitShards
from clef.datasets import Person, cards
from clef.datasets.cards import Card
from clef.datasets.person import Cues
from clef.geometry import JOINTS
from clef.sharding.render import Sample, render

WIDTH, HEIGHT = 60, 40
BOX, FACE, DETECTED = (10, 5, 50, 40), (24, 8, 36, 16), (6, 4, 45, 40)
REGIONS = ((0, 0, 30, 20), (30, 10, 90, 30), (70, 0, 80, 10), (15, 20, 45, 40))
"""The second is cut by the frame, the third lies outside."""
OTHERS = ((-6, 10, 6, 30), (45, 0, 57, 40))


def card(**storage: Any) -> Card:
    """emotic_demo's card with other settings of storage."""
    found = cards.load("emotic_demo")
    return found.model_copy(update={"storage": found.storage.model_copy(update=storage)})


def face_shape() -> np.ndarray:
    """68 points of a face that is its own mirror image, in its box, drawn in the order of iBUG 300-W."""
    jaw = [(0.5 - 0.5 * np.cos(np.pi * i / 16), 0.4 + 0.6 * np.sin(np.pi * i / 16)) for i in range(17)]
    brow = list(zip((0.1, 0.17, 0.24, 0.31, 0.38), (0.25, 0.2, 0.17, 0.18, 0.21), strict=True))
    brows = brow + [(1 - x, y) for x, y in reversed(brow)]
    nose = [(0.5, 0.3 + 0.07 * i) for i in range(4)] + [(0.4 + 0.05 * i, 0.62) for i in range(5)]
    eyes = _ring(0.3, 0.32, 0.08, 0.03, 6) + _ring(0.7, 0.32, 0.08, 0.03, 6)
    return np.array(jaw + brows + nose + eyes + _ring(0.5, 0.8, 0.2, 0.08, 12) + _ring(0.5, 0.8, 0.14, 0.03, 8))


def _ring(x: float, y: float, wide: float, high: float, points: int) -> list[tuple[float, float]]:
    """From the corner on the picture's left over the top and back below."""
    angles = [np.pi - 2 * np.pi * i / points for i in range(points)]
    return [(x + wide * np.cos(a), y - high * np.sin(a)) for a in angles]


def landmarks() -> np.ndarray:
    """A crooked face in FACE, in pixels: no point is the mirror image of another."""
    crooked = face_shape() + np.random.default_rng(1).uniform(-0.1, 0.1, (68, 2))
    return np.array(FACE[:2]) + crooked * (FACE[2] - FACE[0], FACE[3] - FACE[1])


def joints() -> dict[str, tuple[float, float, float]]:
    """Joints by name, in pixels; a wrist that lies beyond the frame, and a confidence above 1."""
    found = {name: (20.0 + i, 8.0 + 2 * i, i / 20) for i, name in enumerate(JOINTS)}
    return found | {"left_wrist": (66.0, -4.0, 0.25), "right_wrist": (15.0, 30.0, 1.5)}


def depth_values() -> np.ndarray:
    """16 bits: 1000 everywhere but for 2000 and 3000, left of the middle."""
    values = np.full((HEIGHT, WIDTH), 1000, np.uint16)
    values[4:30, 6:20], values[10:20, 9:15] = 2000, 3000
    return values


def person(folder: Path) -> Person:
    """The person with all cues; their files are written into `folder`."""
    pixels = np.random.default_rng(0).integers(100, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    Image.fromarray(depth_values()).save(folder / "depth.png")
    cues = Cues(
        person=DETECTED,
        landmarks=tuple(map(tuple, landmarks().tolist())),
        pose=tuple(joints()[name] for name in JOINTS),
        regions=REGIONS,
        depth=folder / "depth.png",
        others=OTHERS,
    )
    return Person("somebody", folder / "picture.png", BOX, ("Happiness",), FACE, (1.0, 2.0, 3.0), (), cues)


def mirrored(original: Person, folder: Path) -> Person:
    """The same person seen in a mirror, by name and by pixel: what an annotator of the mirror image would write."""
    for name in ("picture.png", "depth.png"):
        values = np.asarray(Image.open(original.image.parent / name))
        Image.fromarray(values[:, ::-1].copy()).save(folder / name)
    swap = {"left": "right", "right": "left"}
    by_name = {
        "_".join(swap.get(part, part) for part in n.split("_")): (WIDTH - x, y, c) for n, (x, y, c) in joints().items()
    }
    shape = face_shape()
    partner = [int(np.abs(shape - (1 - x, y)).sum(1).argmin()) for x, y in shape]
    seen = landmarks()[partner]
    assert original.box
    assert original.face
    cues = replace(
        original.cues,
        person=_turned(DETECTED),
        landmarks=tuple((WIDTH - x, y) for x, y in seen.tolist()),
        pose=tuple(by_name[name] for name in JOINTS),
        regions=tuple(map(_turned, REGIONS)),
        depth=folder / "depth.png",
        others=tuple(map(_turned, OTHERS)),
    )
    return replace(original, image=folder / "picture.png", box=_turned(BOX), face=_turned(FACE), cues=cues)


def _turned(box: tuple[float, ...]) -> tuple[float, float, float, float]:
    return WIDTH - box[2], box[1], WIDTH - box[0], box[3]


class InMemory(SplitShards):
    """A split of rendered people that was never written."""

    def __init__(self, *people: Person, **storage: Any) -> None:
        made = card(**storage)
        self.samples: list[Sample] = [render(one, made, "train") for one in people]
        self.root, self.name = Path("shards/made"), "train"
        self.reads: list[str] = []
        self.manifest = SimpleNamespace(dataset="made", classes=list(made.classes), vad=True, task=made.task)  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int, kind: str) -> bytes | None:
        """As of a set on disk; what is read is noted."""
        self.reads.append(kind)
        return self.samples[index].members.get(kind)

    def key(self, index: int) -> str:
        """As of a set on disk."""
        return f"{index:08d}"
