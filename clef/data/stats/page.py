"""The numbers and the people of a set of shards as one HTML page that needs no other file, and no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from clef.cards import Card
from clef.data.manifest import Manifest
from clef.data.stats import charts
from clef.data.stats.numbers import QUANTILES, VAD, Numbers, Sizes, histogram, quantiles
from clef.data.stats.sheets import Sheet
from clef.policies import described

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
        marks=[charts.mark(i) for i in range(len(splits))],
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
        rows.append(ClassRow(label, cells, charts.dots(shares, [one.name for one in splits], highest), drift))
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
            chart = charts.histogram([values[i] for i in steps], [str(i) for i in steps], f"{name}, {one.name}")
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
        shares.append(charts.histogram(histogram(boxes.share, SHARES), names, f"{title}, share, {one.name}"))
        pixels.append(
            charts.histogram(histogram(sides["short side"], PIXELS), PIXEL_NAMES, f"{title}, short side, {one.name}")
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
