"""The HTML page of a set of shards: its numbers, and some of its people.

This file prepares tables, histograms and pictures; `page.html.j2` lays them out, and `charts.html.j2` draws the charts
as SVG. They aren't drawn by matplotlib, which is optional: as part of the page they follow its colors, in dark mode
too, and each bar says its number under the mouse.
"""

import base64
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from clef.data.manifest import Manifest
from clef.data.shards import SplitShards
from clef.datasets.cards import Card
from clef.datasets.policies import describe, describe_counts
from clef.errors import ShardError
from clef.sharding.stats.numbers import QUANTILES, VAD, BoxSizes, SplitNumbers, histogram, quantiles, read_meta
from clef.templates import render_page

TOP_PAIRS = 12
"""How many pairs of labels are shown, of the first split."""
SHARES = [n / 100 for n in (0, 1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100)]
PIXELS = [0, 10, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960, 100000]
"""The edges of the histograms' bins."""
MIN_BINS = 8
"""How many bins a histogram shows at least."""

TableRows = list[tuple[str, list[str]]]
"""A table with a column for each split: the title of each row, and its cells."""


def render(card: Card, manifest: Manifest, splits: Sequence[SplitNumbers], sheets: dict[str, "Sheet"]) -> str:
    """Return the page as HTML. The same shards, samples and seed give the same bytes.

    Args:
        card: the card of the dataset.
        manifest: the manifest of its shards.
        splits: the numbers of each split.
        sheets: the people to show, by split; empty for a page without pictures.
    """
    return render_page(
        "sharding/stats/page.html.j2",
        card=card,
        manifest=manifest,
        names=[split.name for split in splits],
        people=_people_table(splits),
        left_out=_rule_table([split.split.left_out for split in splits]),
        notes=_rule_table([split.split.notes for split in splits]),
        flags=_rule_table([{flag: len(indices) for flag, indices in split.flagged.items()} for split in splits]),
        classes=_class_rows(manifest, splits),
        highest_share=_highest_share(manifest, splits),
        labels=_number_table([split.labels for split in splits]),
        pairs=_top_pairs(splits[0]),
        images=_number_table([split.people for split in splits]),
        vad=_vad_sections(splits) if manifest.vad else [],
        boxes=[
            _box_section("Subjects", splits, [split.subjects for split in splits]),
            _box_section("Faces", splits, [split.faces for split in splits]),
        ],
        quantile_names=[f"{q:.0%}" for q in QUANTILES],
        members=_member_table(splits),
        sheets=sheets,
    )


# Tables with a column for each split


def _people_table(splits: Sequence[SplitNumbers]) -> TableRows:
    return [
        ("listed in the source", [f"{split.split.listed:,}" for split in splits]),
        ("stored", [f"{split.split.samples:,}" for split in splits]),
        ("left out", [f"{sum(split.split.left_out.values()):,}" for split in splits]),
        ("images", [f"{split.people.total():,}" for split in splits]),
        ("what the box surrounds", [split.split.box_kind for split in splits]),
    ]


def _rule_table(counts: list[dict[str, int]]) -> TableRows:
    """Return a row for each rule in words, the most frequent first. `counts` are by rule, for each split."""
    described = [describe_counts(of_split) for of_split in counts]
    names = sorted({name for of_split in described for name in of_split})
    names.sort(key=lambda name: -sum(of_split.get(name, 0) for of_split in described))
    return [(name, [_format_count(of_split.get(name, 0)) for of_split in described]) for name in names]


def _number_table(counts: Sequence[dict[int, int]]) -> TableRows:
    """Return a row for each number up to nine, and one for all higher ones. `counts` are by number, for each split."""
    rows = []
    for number in sorted({min(number, 10) for of_split in counts for number in of_split}):
        totals = [sum(n for key, n in of_split.items() if min(key, 10) == number) for of_split in counts]
        rows.append((f"{number}" if number < 10 else "10 or more", [_format_count(n) for n in totals]))
    return rows


def _member_table(splits: Sequence[SplitNumbers]) -> TableRows:
    """Return how many people have each member, and its mean size."""
    rows = []
    for kind in splits[0].sizes:
        sizes = [split.sizes[kind] for split in splits]
        if any(map(len, sizes)):
            rows.append((kind, [f"{len(s):,} · {s.mean() / 1024:.1f} KB" if len(s) else "–" for s in sizes]))
    total = [sum(int(s.sum()) for s in split.sizes.values()) for split in splits]
    return [*rows, ("all together", [f"{n / 1e6:,.1f} MB" for n in total])]


def _format_count(number: int) -> str:
    return f"{number:,}" if number else "–"


# Classes


@dataclass(frozen=True)
class ClassRow:
    """One class, and how frequent it is in each split."""

    label: str
    cells: list[tuple[str, str, str]]
    """Of each split the count, the share in words, and the length of its bar in percent."""
    shares: list[float]
    """Of each split, 0-1."""
    drift: str
    """The largest difference of a split from the first, in percentage points, and that split."""


def _class_rows(manifest: Manifest, splits: Sequence[SplitNumbers]) -> list[ClassRow]:
    highest = _highest_share(manifest, splits)
    rows = []
    for label in manifest.classes:
        shares = [split.share(label) for split in splits]
        cells = [
            (f"{split.split.classes.get(label, 0):,}", f"{share:.1%}", f"{100 * share / highest:.1f}")
            for split, share in zip(splits, shares, strict=True)
        ]
        rows.append(ClassRow(label, cells, shares, _drift(shares, [split.name for split in splits])))
    return rows


def _highest_share(manifest: Manifest, splits: Sequence[SplitNumbers]) -> float:
    return max((split.share(label) for split in splits for label in manifest.classes), default=0) or 1


def _drift(shares: list[float], names: list[str]) -> str:
    furthest = max(range(len(shares)), key=lambda i: abs(shares[i] - shares[0]))
    points = f"{100 * (shares[furthest] - shares[0]):+.1f}"
    return "–" if float(points) == 0 else f"{points} {names[furthest]}"


def _top_pairs(split: SplitNumbers) -> list[tuple[str, str]]:
    """Return the labels that most often go together, and how many people have both."""
    pairs = sorted(split.pairs.items(), key=lambda item: (-item[1], item[0]))[:TOP_PAIRS]
    return [(" + ".join(pair), f"{count:,}") for pair, count in pairs]


# Histograms


@dataclass(frozen=True)
class Histogram:
    """The bars of one chart."""

    title: str
    """What is counted, for readers who can't see the chart."""
    labels: list[str]
    """What each bar stands for."""
    counts: list[int]

    @property
    def summary(self) -> str:
        """Return the chart in words."""
        bars = zip(self.labels, self.counts, strict=True)
        return ", ".join(f"{label}: {count:,}" for label, count in bars if count) or "none"


@dataclass(frozen=True)
class VadSection:
    """One of valence, arousal and dominance: a histogram for each split, and a remark about who isn't in it."""

    title: str
    charts: list[Histogram]
    remarks: list[str]


def _vad_sections(splits: Sequence[SplitNumbers]) -> list[VadSection]:
    steps = range(1, 11)
    sections = []
    for name in VAD:
        charts, remarks = [], []
        for split in splits:
            values = split.vad[name]
            charts.append(Histogram(f"{name}, {split.name}", [str(i) for i in steps], [values[i] for i in steps]))
            unknown = split.split.samples - values.total()
            outside = sum(n for value, n in values.items() if value not in steps)
            remarks.append(f"{unknown:,} unknown" + (f", {outside:,} outside 1–10" if outside else ""))
        sections.append(VadSection(name, charts, remarks))
    return sections


@dataclass(frozen=True)
class BoxSection:
    """The sizes of one kind of box: histograms for each split, and quantiles."""

    title: str
    shares: list[Histogram]
    pixels: list[Histogram]
    rows: list[tuple[str, str, list[str]]]
    """What is measured, the split, and the quantiles."""


def _box_section(title: str, splits: Sequence[SplitNumbers], boxes: list[BoxSizes]) -> BoxSection:
    share_labels = [f"{100 * low:.0f}–{high:.0%}" for low, high in pairwise(SHARES)]
    pixel_labels = [f"{low}–{high}" for low, high in pairwise(PIXELS[:-1])] + [f"{PIXELS[-2]}+"]
    shares = [histogram(sizes.share, SHARES) for sizes in boxes]
    pixels = [histogram(sizes.sides["short side"], PIXELS) for sizes in boxes]
    names = [split.name for split in splits]
    rows = []
    for side in BoxSizes().sides:
        form = "{:.1%}" if side == "share of the frame" else "{:,.0f}"
        for name, sizes in zip(names, boxes, strict=True):
            rows.append((side, name, [form.format(value) for value in quantiles(sizes.sides[side])]))
    return BoxSection(
        title,
        _trimmed_histograms([f"{title}, share, {name}" for name in names], share_labels, shares),
        _trimmed_histograms([f"{title}, short side, {name}" for name in names], pixel_labels, pixels),
        rows,
    )


def _trimmed_histograms(titles: list[str], labels: list[str], counts: list[list[int]]) -> list[Histogram]:
    """Return a histogram for each split, without most of the bins at either end that are empty in all splits."""
    used = [i for i in range(len(labels)) if any(of_split[i] for of_split in counts)] or range(len(labels))
    first = max(0, min(used[0] - 1, len(labels) - MIN_BINS))
    bins = slice(first, max(used[-1] + 2, first + MIN_BINS))
    return [Histogram(title, labels[bins], of_split[bins]) for title, of_split in zip(titles, counts, strict=True)]


# People of a split, side by side in one small JPEG each

SHEET_HEIGHT = 128
"""Pixels of a strip; no picture in it is wider than twice that."""
GAP = 4
FLAGGED = 4
"""How many people are shown for each flag."""
GRAY, ORANGE, BLUE = (128, 128, 128), (230, 159, 0), (86, 180, 233)


@dataclass(frozen=True)
class ShownPerson:
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
    """People of one split: some drawn at random, and some with each flag, by its description."""

    random: list[ShownPerson]
    flagged: dict[str, list[ShownPerson]]


def make_sheet(shards: SplitShards, numbers: SplitNumbers, samples: int, seed: int) -> Sheet:
    """Return so many people of a split, always the same ones for a seed, and a few with each flag."""
    rng = np.random.default_rng([seed, zlib.crc32(shards.name.encode())])
    random = _sample(rng, range(len(shards)), samples)
    flagged = {flag: _sample(rng, numbers.flagged[flag], min(FLAGGED, samples)) for flag in sorted(numbers.flagged)}
    return Sheet(
        [show_person(shards, index) for index in random],
        {
            describe(flag): [show_person(shards, index, with_frame=True) for index in indices]
            for flag, indices in flagged.items()
        },
    )


def _sample(rng: np.random.Generator, indices: range | list[int], count: int) -> list[int]:
    chosen = rng.choice(len(indices), min(count, len(indices)), replace=False)
    return [indices[i] for i in sorted(map(int, chosen))]


def show_person(shards: SplitShards, index: int, with_frame: bool = False) -> ShownPerson:
    """Return one person to show: context, body and face.

    `with_frame` puts the frame before them, with the subject's box in orange and the face's in blue.
    """
    facts = read_meta(shards, index)
    pictures = {kind: _read_picture(shards, index, kind) for kind in ("context", "body", "face")}
    if with_frame and (scene := _read_picture(shards, index, "scene")):
        pictures = {"frame": _outline_boxes(scene, facts["box"], facts["face_box"]), **pictures}
    present = {kind: picture for kind, picture in pictures.items() if picture is not None}
    absent = "".join(f", no {kind}" for kind in pictures if kind not in present)
    labels = ", ".join(facts["labels"]) or "no label"
    flags = "; ".join(describe(flag) for flag in facts["flags"])
    return ShownPerson(facts["id"], labels, flags, _strip_uri(list(present.values())), ", ".join(present) + absent)


def _read_picture(shards: SplitShards, index: int, kind: str) -> Image.Image | None:
    content = shards.read(index, f"{kind}.jpg")
    if content is None:
        return None
    try:
        return Image.open(io.BytesIO(content)).convert("RGB")
    except (OSError, ValueError) as error:
        where = f"{shards.root}: {shards.name}: sample {shards.key(index)}"
        raise ShardError(f"{where}: its {kind}.jpg is damaged ({error}); {shards.remedy}") from None


def _outline_boxes(scene: Image.Image, subject: list[int], face: list[int] | None) -> Image.Image:
    outlined = scene.copy()
    pen = ImageDraw.Draw(outlined)
    for box, color in ((subject, ORANGE), (face, BLUE)):
        if box:  # stored boxes are half-open
            pen.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=color)
    return outlined


def _strip_uri(pictures: list[Image.Image]) -> str:
    """Return the pictures side by side as a data URI; all are as tall as the strip unless too wide for that."""
    scaled = []
    for picture in pictures:
        scale = min(SHEET_HEIGHT / picture.height, 2 * SHEET_HEIGHT / picture.width)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        scaled.append(picture.resize(size, Image.Resampling.LANCZOS))
    strip = Image.new("RGB", (sum(p.width for p in scaled) + GAP * max(0, len(scaled) - 1) or 1, SHEET_HEIGHT), GRAY)
    x = 0
    for picture in scaled:
        strip.paste(picture, (x, 0))
        x += picture.width + GAP
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
