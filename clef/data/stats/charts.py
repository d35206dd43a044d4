"""Charts as inline SVG, coloured by the page's style sheet; each says in words what it shows."""

from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT, BASE = 200, 92, 74
"""Of a histogram, and where its bars stand."""
DOTS, EDGE = 220, 8
"""The width of a row of dots, and the room at its ends."""
_MARKS = (
    '<circle cx="{x}" cy="9" r="5"/>',
    '<rect x="{left}" y="4.5" width="9" height="9"/>',
    '<path d="M{x} 3 L{right} 14 L{left} 14 Z"/>',
    '<path d="M{x} 3 L{right} 9 L{x} 15 L{left} 9 Z"/>',
)
"""A mark for each split: told apart by its shape as well as by its colour."""


def histogram(counts: Sequence[int], labels: Sequence[str], title: str) -> Markup:
    """Bars on a line; `labels` names each bar, and the first, middle and last are written below."""
    highest, step = max(counts, default=0), WIDTH / max(1, len(counts))
    said = ", ".join(f"{label}: {n:,}" for label, n in zip(labels, counts, strict=True) if n) or "none"
    bars = Markup().join(
        Markup('<rect class="fill" x="{}" y="{}" width="{}" height="{}"><title>{}: {:,}</title></rect>').format(
            f"{i * step + step * 0.08:.1f}", f"{BASE - h:.1f}", f"{step * 0.84:.1f}", f"{h:.1f}", label, n
        )
        for i, (label, n) in enumerate(zip(labels, counts, strict=True))
        for h in [n / max(1, highest) * (BASE - 16)]
    )
    ends = {0: ("start", 0.0), len(labels) - 1: ("end", float(WIDTH))}  # labels at the ends must not be cut
    ticks = Markup().join(
        Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(x, HEIGHT - 6, anchor, labels[i])
        for i in sorted({0, len(labels) // 2, len(labels) - 1})
        for anchor, x in [ends.get(i, ("middle", step * (i + 0.5)))]
    )
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{title}: {said}">'
        '<text x="{w}" y="10" text-anchor="end">{most}</text>{bars}'
        '<line class="axis" x1="0" y1="{b}" x2="{w}" y2="{b}"/>{ticks}</svg>'
    ).format(w=WIDTH, h=HEIGHT, b=BASE, title=title, said=said, most=f"{highest:,}", bars=bars, ticks=ticks)


def dots(values: Sequence[float], names: Sequence[str], highest: float) -> Markup:
    """A mark for each split's share on one line from 0 to `highest`, the first split's in front."""
    at = [EDGE + value / max(highest, 1e-9) * (DOTS - 2 * EDGE) for value in values]
    marks = [
        Markup('<g class="s{}">{}<title>{}: {:.1%}</title></g>').format(i % len(_MARKS), _mark(i, x), name, value)
        for i, (x, name, value) in enumerate(zip(at, names, values, strict=True))
    ]
    said = ", ".join(f"{name} {value:.1%}" for name, value in zip(names, values, strict=True))
    return Markup(
        '<svg class="dots" viewBox="0 0 {w} 18" role="img" aria-label="{said}">'
        '<line class="axis" x1="{e}" y1="9" x2="{r}" y2="9"/>{line}{marks}</svg>'
    ).format(w=DOTS, said=said, e=EDGE, r=DOTS - EDGE, line=_span(at), marks=Markup().join(reversed(marks)))


def mark(number: int) -> Markup:
    """The mark of a split, for a legend."""
    return Markup('<svg class="mark" viewBox="0 0 18 18" aria-hidden="true"><g class="s{}">{}</g></svg>').format(
        number % len(_MARKS), _mark(number, 9)
    )


def _mark(number: int, x: float) -> Markup:
    places = {"x": f"{x:.1f}", "left": f"{x - 5:.1f}", "right": f"{x + 5:.1f}"}
    return Markup(_MARKS[number % len(_MARKS)].format(**places))


def _span(at: Sequence[float]) -> Markup:
    """How far the splits lie apart."""
    return Markup('<line class="span" x1="{:.1f}" y1="9" x2="{:.1f}" y2="9"/>').format(min(at), max(at))
