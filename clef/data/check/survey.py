"""Every image of a source read once, as sharding will read it: whether it can be used, its size, bytes and look."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from clef.console import Progress
from clef.data import frame

SIDE = 16
BITS = SIDE * SIDE
"""Bits of the perceptual hash. Of 64, different views of one place often share all but four; not so of 256."""
SEEN = 512
"""Pixels on the short side that a look needs at least; far larger JPEGs are decoded smaller, to bound memory."""
_CHUNK = 16
"""Images that a process takes at a time."""


@dataclass(frozen=True)
class Look:
    """What an image turned out to be."""

    size: tuple[int, int] = (0, 0)
    """Width and height; 0, 0 where it can't be used."""
    digest: str = ""
    """The sha256 of the file."""
    hash: bytes | None = None
    """The perceptual hash; None for an image that shows too little to be told from others."""
    faults: tuple[str, ...] = ()
    """Rules that were met in reading it."""
    refused: str = ""
    """The rule by which it can't be used."""


def survey(
    paths: Iterable[Path], max_pixels: int, workers: int = 1, progress: Progress | None = None
) -> dict[Path, Look]:
    """A look at each image, the pixels dropped at once: a process holds one image at a time."""
    ordered = sorted(set(paths))
    looks: dict[Path, Look] = {}
    with _mapping(workers) as each:
        for path, look in zip(ordered, each(partial(look_at, max_pixels=max_pixels), ordered), strict=True):
            looks[path] = look
            if progress:
                progress("looked at", len(looks), len(ordered))
    return looks


def look_at(path: Path, max_pixels: int) -> Look:
    """A look at one image."""
    try:
        read = frame.decoded(path, max_pixels, short_side=SEEN)
    except frame.BadImage as fault:
        return Look(refused=str(fault))
    return Look(read.size, read.digest, perceptual_hash(read.image), read.faults)


def perceptual_hash(image: Image.Image) -> bytes | None:
    """256 bits that say which low frequencies of the image are strong; those of a flat one would fit any other."""
    import imagehash  # with SciPy's transforms: slow to import

    bits = np.asarray(imagehash.phash(image, hash_size=SIDE).hash).ravel()
    # Half of the bits are set, by the median, unless most frequencies are absent.
    return np.packbits(bits).tobytes() if bits.sum() >= BITS / 4 else None


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[..., Iterator[Look]]]:
    if workers == 1:
        yield map
        return
    with ProcessPoolExecutor(workers) as pool:
        yield partial(pool.map, chunksize=_CHUNK)
