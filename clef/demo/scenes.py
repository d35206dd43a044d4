"""Draws the kinds of places: a beach, a forest, a street at night, ruins, mountains; an office, a kitchen, a party.

Each kind has its own palette and objects. Sizes, positions, tints and light vary freely.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clef.demo.pen import Color, Pen, shade

Rng = np.random.Generator
INK: Color = (44, 40, 44)


def draw_scene(kind: str, width: int, height: int, seed: int) -> Pen:
    """Return the picture of a place of this kind, in some light. The same seed gives the same picture."""
    rng = np.random.default_rng([seed, 2])
    pen = Pen(width, height)
    SCENES[kind](pen, rng)
    pen.light(rng.uniform(0.72, 1.12) * rng.uniform(0.9, 1.1, 3))
    return pen


def draw_beach(pen: Pen, rng: Rng) -> None:
    """Draw sun, sea, sand and a parasol."""
    w, h = pen.width, pen.height
    sea, sand = h * rng.uniform(0.35, 0.45), h * rng.uniform(0.55, 0.68)
    pen.fade(0, sea, shade(rng, (120, 196, 240)), shade(rng, (214, 238, 246)))
    pen.ellipse(rng.uniform(0, w), h * rng.uniform(0.1, 0.25), 8, 8, (255, 240, 160))
    pen.fade(sea, sand, shade(rng, (40, 130, 190)), shade(rng, (90, 196, 206)))
    pen.fade(sand, h, shade(rng, (244, 220, 160)), shade(rng, (226, 190, 120)))
    for _ in range(8):
        x, y = rng.uniform(0, w), rng.uniform(sea + 2, sand)
        pen.line([(x, y), (x + 9, y)], 1.2, (236, 248, 250))
    for _ in range(rng.integers(1, 4)):
        x, y, tint = rng.uniform(0, w), rng.uniform(sand - 12, sand + 2), shade(rng, (230, 80, 70), 40)
        pen.line([(x, y), (x, y + 24)], 1.5, (150, 110, 80))
        pen.polygon([(x - 17, y + 5), (x - 9, y - 6), (x, y - 9), (x + 9, y - 6), (x + 17, y + 5)], tint)
        pen.polygon([(x - 5, y + 5), (x, y - 9), (x + 5, y + 5)], (250, 246, 240))
    _draw_spots(pen, rng, 14, sand + 6, h, 1.4, (206, 164, 104))


def draw_forest(pen: Pen, rng: Rng) -> None:
    """Draw trunks, leaves, ferns and toadstools."""
    w, h = pen.width, pen.height
    floor = h * rng.uniform(0.72, 0.82)
    pen.fade(0, floor, shade(rng, (46, 106, 62)), shade(rng, (150, 190, 110)))
    pen.fade(floor, h, shade(rng, (86, 110, 48)), shade(rng, (58, 74, 36)))
    for _ in range(rng.integers(6, 10)):
        x, size = rng.uniform(0, w), rng.uniform(3, 7)
        foot = floor + rng.uniform(-4, 10)
        pen.polygon(
            [(x - size * 0.6, 0), (x + size * 0.6, 0), (x + size, foot), (x - size, foot)], shade(rng, (96, 66, 42))
        )
    _draw_spots(pen, rng, 26, -6, h * 0.26, 13, (52, 128, 60))
    _draw_spots(pen, rng, 12, floor, h, 6, (72, 140, 56))
    for _ in range(rng.integers(2, 5)):
        x, y = rng.uniform(0, w), rng.uniform(floor + 4, h - 3)
        pen.line([(x, y), (x, y + 5)], 2, (240, 230, 210))
        pen.ellipse(x, y, 4.5, 3, shade(rng, (210, 60, 50)))


def draw_night_street(pen: Pen, rng: Rng) -> None:
    """Draw dark houses, lit windows, a moon and street lamps."""
    w, h = pen.width, pen.height
    road = h * rng.uniform(0.76, 0.84)
    pen.fade(0, road, shade(rng, (14, 16, 44), 8), shade(rng, (48, 46, 92), 8))
    pen.ellipse(rng.uniform(0, w), h * rng.uniform(0.08, 0.2), 6, 6, (240, 236, 200))
    left = rng.uniform(-20, 0)
    while left < w:
        wide, top = rng.uniform(20, 34), h * rng.uniform(0.16, 0.42)
        pen.box(left, top, left + wide, road, shade(rng, (30, 30, 52), 8))
        for x in np.arange(left + 4, left + wide - 5, 8):
            for y in np.arange(top + 5, road - 6, 10):
                lit = rng.random() < 0.4
                pen.box(x, y, x + 4, y + 5, (244, 206, 100) if lit else (22, 22, 40))
        left += wide + 1
    pen.fade(road, h, (40, 40, 48), (26, 26, 32))
    for x in np.arange(rng.uniform(0, 20), w, 24):
        pen.box(x, (road + h) / 2, x + 10, (road + h) / 2 + 1.6, (190, 184, 150))
    for x in np.arange(rng.uniform(5, 40), w, 62):
        pen.line([(x, h * 0.4), (x, road)], 1.6, (90, 90, 100))
        pen.ellipse(x, h * 0.4, 4, 4, (255, 232, 160))


def draw_ruins(pen: Pen, rng: Rng) -> None:
    """Draw broken columns and rubble under a dusty sky."""
    w, h = pen.width, pen.height
    ground = h * rng.uniform(0.66, 0.78)
    pen.fade(0, ground, shade(rng, (150, 130, 116)), shade(rng, (216, 170, 130)))
    for _ in range(5):
        x, y = rng.uniform(0, w), rng.uniform(0, h * 0.35)
        pen.ellipse(x, y, rng.uniform(14, 30), rng.uniform(4, 8), shade(rng, (126, 112, 106)))
    pen.fade(ground, h, shade(rng, (130, 108, 90)), shade(rng, (98, 82, 72)))
    for left in np.arange(rng.uniform(-6, 14), w, rng.uniform(24, 34)):
        wide, top, tint = rng.uniform(8, 13), h * rng.uniform(0.12, 0.6), shade(rng, (188, 172, 150))
        jag = [(left + wide, top + 4), (left + wide * 0.6, top - 3), (left + wide * 0.3, top + 5), (left, top)]
        pen.polygon([(left, ground + 4), (left + wide, ground + 4), *jag], tint)
        pen.box(left + wide * 0.4, top + 8, left + wide * 0.55, ground, (150, 134, 118))
        pen.box(left - 2, ground, left + wide + 2, ground + 5, tint)
    for _ in range(16):
        x, y, r = rng.uniform(0, w), rng.uniform(ground + 4, h), rng.uniform(2, 6)
        pen.polygon(
            [(x - r, y + r * 0.6), (x - r * 0.3, y - r * 0.6), (x + r, y + r * 0.5)], shade(rng, (160, 144, 126))
        )


def draw_mountain(pen: Pen, rng: Rng) -> None:
    """Draw snowy peaks, firs and falling snow."""
    w, h = pen.width, pen.height
    snow = h * rng.uniform(0.66, 0.76)
    pen.fade(0, snow, shade(rng, (110, 140, 206)), shade(rng, (216, 226, 246)))
    for x in np.arange(rng.uniform(-20, 10), w + 30, rng.uniform(34, 48)):
        top, half = h * rng.uniform(0.1, 0.34), rng.uniform(30, 44)
        pen.polygon([(x - half, snow), (x, top), (x + half, snow)], shade(rng, (104, 112, 146)))
        cap = 0.36 * (snow - top)
        pen.polygon(
            [(x - half * 0.36, top + cap), (x, top), (x + half * 0.36, top + cap), (x, top + cap * 0.7)],
            (248, 250, 255),
        )
    pen.fade(snow, h, (246, 250, 255), shade(rng, (206, 220, 240)))
    for _ in range(rng.integers(4, 8)):
        x, y, r = rng.uniform(0, w), rng.uniform(snow, h * 0.92), rng.uniform(6, 9)
        for lift in (0, 6, 12):
            pen.polygon(
                [(x - r + lift / 3, y - lift), (x, y - lift - 12), (x + r - lift / 3, y - lift)],
                shade(rng, (36, 88, 84)),
            )
    _draw_spots(pen, rng, 40, 0, h, 1.1, (244, 246, 252))


def _draw_spots(pen: Pen, rng: Rng, count: int, y1: float, y2: float, size: float, color: Color) -> None:
    for _ in range(count):
        x, y, r = rng.uniform(0, pen.width), rng.uniform(y1, y2), size * rng.uniform(0.6, 1.4)
        pen.ellipse(x, y, r, r * 0.8, shade(rng, color))


def draw_office(pen: Pen, rng: Rng) -> None:
    """Draw blinds, desks and screens under a row of lamps."""
    w, h = pen.width, pen.height
    floor = h * rng.uniform(0.7, 0.8)
    pen.fade(0, floor, shade(rng, (206, 204, 196)), shade(rng, (224, 222, 214)))
    pen.fade(floor, h, shade(rng, (120, 124, 136)), shade(rng, (96, 100, 112)))
    start = rng.uniform(-30, 10)
    for left in np.arange(start, w, 52):
        pen.box(left, h * 0.14, left + 38, h * 0.48, shade(rng, (150, 186, 210)))
        for y in np.arange(h * 0.14, h * 0.48, 5):
            pen.box(left, y, left + 38, y + 1.6, (240, 240, 236))
    for left in np.arange(start - 20, w, rng.uniform(44, 60)):
        pen.box(left + 6, 2, left + 30, 5, (255, 255, 240))
        top = floor - 6 + rng.uniform(-3, 3)
        pen.box(left, top, left + 40, top + 4, shade(rng, (140, 104, 72)))
        pen.box(left + 3, top + 4, left + 6, top + 24, (90, 90, 96))
        pen.box(left + 9, top - 15, left + 30, top - 3, (40, 44, 52))
        pen.box(left + 11, top - 13, left + 28, top - 5, shade(rng, (90, 150, 210), 30))


def draw_kitchen(pen: Pen, rng: Rng) -> None:
    """Draw tiles, a shelf of pots, cupboards and a chequered floor."""
    w, h = pen.width, pen.height
    top, floor = h * rng.uniform(0.52, 0.6), h * rng.uniform(0.8, 0.88)
    pen.box(0, 0, w, h, shade(rng, (206, 234, 222)))
    step = rng.uniform(9, 13)
    for x in np.arange(rng.uniform(0, step), w, step):
        pen.box(x, 0, x + 0.8, top, (250, 252, 250))
    for y in np.arange(rng.uniform(0, step), top, step):
        pen.box(0, y, w, y + 0.8, (250, 252, 250))
    shelf = h * rng.uniform(0.26, 0.34)
    pen.box(0, shelf, w, shelf + 3, (166, 116, 72))
    for x in np.arange(rng.uniform(2, 12), w, rng.uniform(17, 24)):
        tint, r = shade(rng, (206, 110, 70), 50), rng.uniform(4, 7)
        pen.box(x, shelf - r * 1.5, x + 2 * r, shelf, tint, radius=2)
        pen.line([(x + 2 * r, shelf - r), (x + 2 * r + 4, shelf - r)], 1.4, INK)
    pen.box(0, top, w, top + 4, shade(rng, (150, 100, 66)))
    for x in np.arange(rng.uniform(-20, 0), w, 28):
        pen.box(x, top + 4, x + 26.5, floor, shade(rng, (232, 200, 120), 8))
        pen.ellipse(x + 22, (top + floor) / 2, 1.4, 1.4, INK)
    for i, x in enumerate(np.arange(0, w, 9)):
        pen.box(x, floor, x + 9, (floor + h) / 2, (240, 236, 230) if i % 2 else (70, 74, 84))
        pen.box(x, (floor + h) / 2, x + 9, h, (70, 74, 84) if i % 2 else (240, 236, 230))


def draw_party(pen: Pen, rng: Rng) -> None:
    """Draw balloons, bunting and confetti."""
    w, h = pen.width, pen.height
    floor = h * rng.uniform(0.76, 0.84)
    bright: tuple[Color, ...] = ((250, 210, 70), (70, 200, 220), (250, 120, 70), (120, 220, 110), (250, 250, 250))
    pen.fade(0, floor, shade(rng, (196, 70, 160)), shade(rng, (240, 140, 180)))
    pen.fade(floor, h, shade(rng, (130, 60, 130)), shade(rng, (96, 44, 110)))
    for i, x in enumerate(np.arange(rng.uniform(-10, 0), w, 11)):
        y = h * 0.08 + 4 * np.sin(x / 14)
        pen.polygon([(x, y), (x + 9, y), (x + 4.5, y + 10)], bright[i % 5])
    for _ in range(rng.integers(6, 11)):
        x, y, tint = rng.uniform(0, w), h * rng.uniform(0.2, 0.6), shade(rng, bright[int(rng.integers(5))])
        pen.line([(x, y), (x + 2, y + 24)], 0.7, (250, 230, 240))
        pen.ellipse(x, y, 6.5, 8, tint)
        pen.ellipse(x - 2, y - 3, 1.5, 2, (255, 255, 255))
    for _ in range(50):
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        pen.box(x, y, x + 2, y + 2, bright[int(rng.integers(5))])


SCENES: dict[str, Callable[[Pen, Rng], None]] = {
    "office": draw_office,
    "kitchen": draw_kitchen,
    "night_street": draw_night_street,
    "party": draw_party,
    "beach": draw_beach,
    "ruins": draw_ruins,
    "forest": draw_forest,
    "mountain": draw_mountain,
}
"""The drawing function of each kind of place. `world` says which label has which kind."""
