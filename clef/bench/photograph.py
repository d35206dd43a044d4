"""Pictures that cost a JPEG codec what photographs do: 1/f noise, things with edges, grain. Not meant to be looked at.

At quality 90 they take 0.20 to 0.22 bytes a pixel, where photographs of this size mostly take 0.15 to 0.25; drawings,
such as the demo's, take far less and decode faster.
"""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

FIELD = 1536
"""Least side of the field of noise that pictures are cut from; it repeats without a seam."""
THINGS = 24
"""Shapes with edges in a picture."""
PixelBox = tuple[float, float, float, float]


def photograph(size: tuple[int, int], boxes: list[PixelBox], seed: int) -> Image.Image:
    """A picture of `size` (width, height): a scene, and a figure in each box x1, y1, x2, y2."""
    rng = np.random.default_rng(seed)
    red, blue, light = _cut(size, rng), _cut(size, rng), _light(size, rng)
    canvas = np.stack([light + 0.35 * red, light - 0.175 * (red + blue), light + 0.35 * blue], axis=-1)
    shapes = _shapes(size, boxes, rng)
    levels = rng.normal(0, 0.9, (int(shapes.max()) + 1, 3)).astype(np.float32)
    contrast = rng.uniform(0.3, 1.1, (len(levels), 1)).astype(np.float32)
    levels[0], contrast[0] = 0, 1
    canvas = canvas * contrast[shapes] + levels[shapes]
    # A sensor's noise, the same in all channels: a camera's own processing leaves little of it in the colours.
    canvas += 0.03 * rng.standard_normal((*shapes.shape, 1), dtype=np.float32)
    return Image.fromarray(np.clip(canvas * 42 + 118, 0, 255).astype(np.uint8))


@lru_cache(maxsize=1)
def _field(side: int) -> np.ndarray:
    """Noise of mean 0 and deviation 1 whose amplitude falls with the frequency, laid out twice in both directions."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf
    phases = np.exp(2j * np.pi * rng.random(frequency.shape))
    # Photographs have exponents of about 1; this one meets their bytes, which smooth regions keep low.
    field = np.fft.irfft2(phases / frequency**1.45, s=(side, side))
    return np.tile(field / field.std(), (2, 2)).astype(np.float32)


def _cut(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A part of the field, anywhere, mirrored or not; H,W."""
    side = max(FIELD, *size)
    x, y = rng.integers(0, side, 2)
    part = _field(side)[y : y + size[1], x : x + size[0]]
    return part[:, ::-1] if rng.random() < 0.5 else part


def _light(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Two parts of the field together, so that hardly two pictures share one."""
    share = rng.uniform(0.3, 0.7)
    return np.sqrt(share) * _cut(size, rng) + np.sqrt(1 - share) * _cut(size, rng)


def _shapes(size: tuple[int, int], boxes: list[PixelBox], rng: np.random.Generator) -> np.ndarray:
    """The number of the shape that each pixel belongs to, 0 for none; H,W. Figures lie in front."""
    image = Image.new("L", size)
    draw = ImageDraw.Draw(image)
    for number in range(1, THINGS + 1):
        middle, reach = rng.uniform(0, size), rng.uniform(0.03, 0.25) * min(size)
        if number % 2:
            corners = middle + reach * rng.uniform(-1, 1, (rng.integers(3, 8), 2))
            draw.polygon([(x, y) for x, y in corners.tolist()], number)
        else:
            draw.ellipse((*(middle - reach), *(middle + reach * rng.uniform(0.2, 1, 2))), number)
    for number, box in enumerate(boxes):
        head, edge = head_of(box), (box[2] - box[0]) / 8
        draw.rectangle((box[0] + edge, head[3], box[2] - edge, box[3]), THINGS + 1 + 2 * number)
        draw.ellipse(head, THINGS + 2 + 2 * number)
    return np.asarray(image)


def head_of(box: PixelBox) -> PixelBox:
    """Where the head of the figure in a box is."""
    x1, y1, x2, y2 = box
    return x1 + (x2 - x1) / 4, y1, x2 - (x2 - x1) / 4, y1 + (y2 - y1) / 5
