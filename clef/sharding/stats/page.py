"""The numbers and the people of a set of shards as one HTML page that needs no other file, and no network.

Charts as inline SVG, coloured by the page's style sheet; each says in words what it shows.

People of a split to look at: what the shards hold of each, side by side in one small JPEG, as a data URI.
"""

import base64
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image, ImageDraw

from clef.data.manifest import Manifest
from clef.data.shards import SplitShards
from clef.datasets.cards import Card
from clef.datasets.policies import describe, described
from clef.errors import ShardError
from clef.sharding.stats.numbers import QUANTILES, VAD, Numbers, Sizes, histogram, meta, quantiles

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


def histogram_chart(counts: Sequence[int], labels: Sequence[str], title: str) -> Markup:
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


SHEET_HEIGHT = 128
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
        scale = min(SHEET_HEIGHT / picture.height, 2 * SHEET_HEIGHT / picture.width)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        scaled.append(picture.resize(size, Image.Resampling.LANCZOS))
    strip = Image.new("RGB", (sum(p.width for p in scaled) + GAP * max(0, len(scaled) - 1) or 1, SHEET_HEIGHT), GREY)
    x = 0
    for picture in scaled:
        strip.paste(picture, (x, 0))
        x += picture.width + GAP
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


PAIRS = 12
"""Pairs of labels named, of the first split."""
SHARES = [n / 100 for n in (0, 1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100)]
PIXELS = [0, 10, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960, 100000]
PIXEL_NAMES = [f"{low}–{high}" for low, high in pairwise(PIXELS[:-1])] + ["960+"]


Rows = list[tuple[str, list[str]]]
"""A table with a row for each thing and a column for each split."""


def render(card: Card, manifest: Manifest, counted: Sequence[Numbers], sheets: dict[str, Sheet]) -> str:
    """The page. The same shards, samples and seed give the same bytes."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    splits = list(counted)
    return environment.get_template("page.html.j2").render(
        card=card,
        manifest=manifest,
        splits=splits,
        names=[one.name for one in splits],
        marks=[mark(i) for i in range(len(splits))],
        people=_people(splits),
        left_out=_by_rule([one.split.left_out for one in splits]),
        notes=_by_rule([one.split.notes for one in splits]),
        flags=_by_rule([{flag: len(places) for flag, places in one.flagged.items()} for one in splits]),
        classes=_classes(manifest, splits),
        labels=_by_number([one.labels for one in splits]),
        pairs=[(" + ".join(pair), f"{n:,}") for pair, n in _pairs(splits[0])],
        images=_by_number([one.people for one in splits]),
        vad=_vad(splits) if manifest.vad else [],
        boxes=[_boxes("Subjects", splits, [one.subjects for one in splits]),
               _boxes("Faces", splits, [one.faces for one in splits])],
        quantile_names=[f"{q:.0%}" for q in QUANTILES],
        members=_members(splits),
        sheets=sheets,
    )  # fmt: skip


def _people(splits: list[Numbers]) -> Rows:
    return [
        ("listed in the source", [f"{one.split.listed:,}" for one in splits]),
        ("stored", [f"{one.split.samples:,}" for one in splits]),
        ("left out", [f"{sum(one.split.left_out.values()):,}" for one in splits]),
        ("images", [f"{one.people.total():,}" for one in splits]),
        ("the box surrounds a", [one.split.box_kind for one in splits]),
    ]


def _by_rule(counts: list[dict[str, int]]) -> Rows:
    """A row for each reason in words, the most frequent first."""
    worded = [described(one) for one in counts]
    names = sorted({name for one in worded for name in one})
    names.sort(key=lambda name: -sum(one.get(name, 0) for one in worded))
    return [(name, [_count(one.get(name, 0)) for one in worded]) for name in names]


def _by_number(counts: Sequence[dict[int, int]]) -> Rows:
    """A row for each number up to nine; the higher ones are one."""
    known = sorted({min(number, 10) for one in counts for number in one})
    rows = []
    for number in known:
        found = [sum(n for at, n in one.items() if min(at, 10) == number) for one in counts]
        rows.append((f"{number}" if number < 10 else "10 or more", [_count(n) for n in found]))
    return rows


def _count(number: int) -> str:
    return f"{number:,}" if number else "–"


@dataclass(frozen=True)
class ClassRow:
    """One class: of each split its count, its share in words, the share as a bar's length; then all on one line."""

    label: str
    cells: list[tuple[str, str, str]]
    dots: Markup
    drift: str


def _classes(manifest: Manifest, splits: list[Numbers]) -> list[ClassRow]:
    highest = max((one.share(label) for one in splits for label in manifest.classes), default=0) or 1
    rows = []
    for label in manifest.classes:
        shares = [one.share(label) for one in splits]
        cells = [
            (f"{one.split.classes.get(label, 0):,}", f"{share:.1%}", f"{100 * share / highest:.1f}")
            for one, share in zip(splits, shares, strict=True)
        ]
        at = max(range(len(shares)), key=lambda i: abs(shares[i] - shares[0]))
        apart = f"{100 * (shares[at] - shares[0]):+.1f}"
        drift = "–" if float(apart) == 0 else f"{apart} {splits[at].name}"
        rows.append(ClassRow(label, cells, dots(shares, [one.name for one in splits], highest), drift))
    return rows


def _pairs(one: Numbers) -> list[tuple[tuple[str, str], int]]:
    return sorted(one.pairs.items(), key=lambda item: (-item[1], item[0]))[:PAIRS]


def _vad(splits: list[Numbers]) -> list[tuple[str, list[tuple[Markup, str]]]]:
    """For each dimension a histogram of each split, and how many people it leaves out."""
    steps = range(1, 11)
    made = []
    for name in VAD:
        panels = []
        for one in splits:
            values = one.vad[name]
            chart = histogram_chart([values[i] for i in steps], [str(i) for i in steps], f"{name}, {one.name}")
            outside = sum(n for value, n in values.items() if value not in steps)
            unknown = one.split.samples - values.total()
            panels.append((chart, f"{unknown:,} unknown" + (f", {outside:,} outside 1–10" if outside else "")))
        made.append((name, panels))
    return made


@dataclass(frozen=True)
class BoxPart:
    """The sizes of one kind of box: histograms by split, and quantiles."""

    title: str
    shares: list[Markup]
    pixels: list[Markup]
    rows: list[tuple[str, str, list[str]]]
    """What is measured, the split, and its quantiles."""


def _boxes(title: str, splits: list[Numbers], sizes: list[Sizes]) -> BoxPart:
    names = [f"{100 * low:.0f}–{high:.0%}" for low, high in pairwise(SHARES)]
    shares, pixels, rows = [], [], []
    for one, boxes in zip(splits, sizes, strict=True):
        sides = boxes.sides
        shares.append(histogram_chart(histogram(boxes.share, SHARES), names, f"{title}, share, {one.name}"))
        pixels.append(
            histogram_chart(histogram(sides["short side"], PIXELS), PIXEL_NAMES, f"{title}, short side, {one.name}")
        )
    for side in Sizes().sides:
        for one, boxes in zip(splits, sizes, strict=True):
            form = "{:.1%}" if side == "share of the frame" else "{:,.0f}"
            rows.append((side, one.name, [form.format(value) for value in quantiles(boxes.sides[side])]))
    return BoxPart(title, shares, pixels, rows)


def _members(splits: list[Numbers]) -> Rows:
    """How many people have each member, and its mean size."""
    rows = []
    for kind in splits[0].sizes:
        found = [one.sizes[kind] for one in splits]
        if any(len(sizes) for sizes in found):
            rows.append((kind, [f"{len(s):,} · {s.mean() / 1024:.1f} KB" if len(s) else "–" for s in found]))
    total = [sum(int(s.sum()) for s in one.sizes.values()) for one in splits]
    return [*rows, ("all together", [f"{n / 1e6:,.1f} MB" for n in total])]
