"""The places under a roof: an office, a kitchen, a party."""

from __future__ import annotations

import numpy as np

from clef.datasets.demo.pen import Colour, Pen, shade

Rng = np.random.Generator

INK: Colour = (44, 40, 44)


def office(pen: Pen, rng: Rng) -> None:
    """Blinds, desks and screens under a row of lamps."""
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


def kitchen(pen: Pen, rng: Rng) -> None:
    """Tiles, a shelf of pots, cupboards and a chequered floor."""
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


def party(pen: Pen, rng: Rng) -> None:
    """Balloons, bunting and confetti."""
    w, h = pen.width, pen.height
    floor = h * rng.uniform(0.76, 0.84)
    bright: tuple[Colour, ...] = ((250, 210, 70), (70, 200, 220), (250, 120, 70), (120, 220, 110), (250, 250, 250))
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
