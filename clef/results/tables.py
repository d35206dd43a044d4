"""The tables of a grid, as pure functions of what was gathered: its numbers beside the published ones. No torch.

The audits of a grid's cells beside each other, where there are any (docs/audit.md). Imports no torch.

Further measures of each method side by side: conventions of AP, F1, calibration, errors of VAD. Imports no torch.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from clef.datasets.cards import Card
from clef.metrics import CONVENTIONS
from clef.results import paper_tables, significance
from clef.results.formats import DASH, Table, percent, signed
from clef.results.frame import Gathered, Numbers, minus, parts_of, spread
from clef.results.intervals import OVER
from clef.results.notes import below, marked
from clef.results.published import number, published, title
from clef.results.significance import HEADS, Comparison, over_images, within

_PARTS = ("score", "factual", "Y_e")
_LEFT = {
    "value": "as it is",
    "subject_only": "subject",
    "context_only": "context",
    "swap.all.value": "swapped",
    "swap.branch.value": "branch",
}
_THIRDS = {"typical": "typical", "middle": "in between", "atypical": "atypical"}
_MOVES = {"moved": "moved", "to_right": "to right", "to_wrong": "to wrong", "spreads": "distance"}
_EFFECTS = ("TE", "NDE", "TIE")


class _Audits:
    """The numbers that were found, a value a seed, on one test split."""

    def __init__(self, part: Gathered, split: str) -> None:
        self.numbers = Numbers(part.rows)
        self.pairs = part.pairs
        self._found: dict[tuple[str, ...], list[float]] = defaultdict(list)
        self.people: dict[str, int] = {}
        """How many have each class."""
        for one in part.audits:
            if one.split == split:
                self._found[one.backbone, one.method, one.name, one.class_name].append(one.value)
                if one.name == "blanked.TE.own":
                    self.people[one.class_name] = one.samples

    def of(self, pair: tuple[str, str], name: str, class_name: str = "") -> list[float]:
        """A number of each audited seed."""
        return self._found.get((*pair, name, class_name), [])

    def same(self, name: str) -> str:
        """A number about the split, which no cell changes."""
        values = {f"{value:.1f}" for pair in self.pairs for value in self.of(pair, name)}
        return " or ".join(sorted(values, key=float)) or DASH

    def called(self, pair: tuple[str, str], part: str) -> str:
        """A part of a method's prediction, as tables call it."""
        return "TIE" if part == "score" and self.of(pair, "debiased.moved") else part

    @property
    def seeds(self) -> str:
        """How many cells the means are of."""
        counts = {pair: len(self.of(pair, "value.score")) for pair in self.pairs}
        audited = {pair: count for pair, count in counts.items() if count}
        if len(set(audited.values())) == 1:
            return f"means over seeds; audited: {next(iter(audited.values()))} of each"
        return "means over seeds; audited: " + ", ".join(f"{title(b)} {m} {n}" for (b, m), n in audited.items())


def audit_tables(part: Gathered, card: Card, name: str) -> list[Table]:
    """Of each test split: what is left of the metric, the thirds, the decisions that move, and effects per class."""
    made = []
    for split in card.test_splits:
        if any(one.split == split for one in part.audits):
            found, where = _Audits(part, split), f"{name}: the audit on {split}"
            made += [_left(found, where, card), _thirds(found, where, card), _decisions(found, where)]
            made += [
                _effects(found, f"{where}: effects on each class", backbone)
                for backbone in dict.fromkeys(pair[0] for pair in found.pairs if found.of(pair, "value.score"))
                if found.people
            ]
    return made


def _left(found: _Audits, where: str, card: Card) -> Table:
    """The metric as it is, with one of subject and context alone, and with another's context."""
    chance = found.same("chance")
    rows = [*_rows(found, _LEFT), ["chance", DASH, DASH, *[chance] * len(_LEFT)]]
    rows.append(["probe", DASH, DASH, DASH, DASH, found.same("prior"), DASH, DASH])
    notes = [
        found.seeds,
        "score: the logits, which CLEF ranks by TIE instead; subject, context: that alone, the other blanked; "
        "swapped: another's context in every stream that shows it; branch: in the context branch alone",
        "probe: a linear one of the context, fitted on train; it knows no network",
    ]
    return Table(f"{where}, {card.metric}, percent", ["backbone", "method", "part", *_LEFT.values()], rows, notes)


def _thirds(found: _Audits, where: str, card: Card) -> Table:
    """The metric by how typical the context is of the label."""
    chance = found.same("chance.thirds")
    chance = found.same("chance") if chance == DASH else chance
    rows = [*_rows(found, _THIRDS), ["chance", DASH, DASH, *[chance] * len(_THIRDS)]]
    what = "the three thirds of those who have a class, by how likely the probe calls it from the context"
    notes = [found.seeds, what]
    if card.task == "multi_label":
        notes.append("a third holds fewer people with the class, so chance is lower than on the whole split")
    columns = ["backbone", "method", "part", *_THIRDS.values()]
    return Table(f"{where}: typical and atypical contexts, {card.metric}, percent", columns, rows, notes)


def _rows(found: _Audits, kinds: Iterable[str]) -> list[list[str]]:
    """A row for each part of each method's prediction, a column a kind of number."""
    made = []
    for pair in found.pairs:
        for part in _PARTS:
            values = [found.of(pair, f"{kind}.{part}") for kind in kinds]
            if any(values):
                words = [title(pair[0]), pair[1], found.called(pair, part)]
                made.append([*words, *(spread(one, digits=1) for one in values)])
    return made


def _decisions(found: _Audits, where: str) -> Table:
    """How often decisions change, and which way: by TIE, and by swaps of both kinds."""
    rows = []
    for pair in found.pairs:
        causes = {"TIE for factual": ("debiased.", "")}
        for streams in ("branch", "all"):
            causes |= {f"{streams}: {found.called(pair, part)}": (f"swap.{streams}.", f".{part}") for part in _PARTS}
        for cause, (before, behind) in causes.items():
            values = [found.of(pair, f"{before}{what}{behind}") for what in _MOVES]
            if any(values):
                moves = [spread(one, digits=1) for one in values[:3]]
                rows.append([title(pair[0]), pair[1], cause, *moves, spread(values[3])])
    notes = [
        found.seeds,
        "TIE for factual: what TIE decides otherwise than the factual prediction; branch, all: what another's context "
        "changes of a part's decisions, in the context branch alone or in every stream that shows it",
        "moved, to right, to wrong: % of all decisions; distance: how far scores move, in standard deviations",
    ]
    return Table(f"{where}: decisions that change", ["backbone", "method", "cause", *_MOVES.values()], rows, notes)


def _effects(found: _Audits, where: str, backbone: str) -> Table:
    """Mean effects on a class over those who have it: CLEF's own, and those of inputs that are gone."""
    own, marked = [pair for pair in found.pairs if pair[0] == backbone], found.numbers.marked
    wanted = [
        (pair, f"{prefix}{effect}")
        for prefix in ("", "blanked.")
        for pair in own
        for effect in _EFFECTS
        if any(found.of(pair, f"{prefix}{effect}.own", one) for one in found.people)
    ]
    columns = [f"{marked(*pair, pair[1])}, {effect.replace('.', ' ')}" for pair, effect in wanted]
    rows = [
        [one, f"{people:,}", *(spread(found.of(pair, f"{effect}.own", one)) for pair, effect in wanted)]
        for one, people in found.people.items()
    ]
    notes = [
        found.seeds,
        "over the people who have the class; in log probability; blanked: by the factual prediction with inputs gone, "
        "which every method has",
    ]
    return Table(f"{where}, {title(backbone)}", ["class", "people", *columns], rows, notes)


_RANKED = [f"mAP{convention}" for convention in CONVENTIONS]
_DECIDED = ["accuracy", "macro F1"]
_STATED = ("score", "factual", "Y_e")
"""The parts whose calibration may be known, by preference."""


def measures(part: Gathered, card: Card, name: str) -> Table:
    """A row for each backbone, method and test split: means over seeds."""
    numbers = Numbers(row for row in part.rows if not row.class_name)
    several, vad = card.task == "multi_label", card.task == "multi_label" and card.vad
    ranked = _RANKED if several else _DECIDED
    rows = []
    for backbone, method in part.pairs:
        for split in card.test_splits:
            first, *values = [numbers.by_seed(backbone, method, split, metric).values() for metric in ranked]
            ranges = [within(part, (backbone, method, "", split), over) for over in OVER]
            errors = (numbers.by_seed(backbone, method, split, "ECE", one).values() for one in _STATED)
            values.append(next((found for found in errors if found), {}.values()))
            values += [numbers.by_seed(backbone, method, split, "VAD error", "vad").values()] if vad else []
            rows.append([title(backbone), method, split, spread(first), *ranges, *map(spread, values)])
    columns = ["backbone", "method", "split", ranked[0], *HEADS, *ranked[1:], "ECE", *(["VAD error"] if vad else [])]
    return Table(f"{name}: further measures, percent", columns, rows, [over_images(part), *_notes(several, vad)])


def _notes(several: bool, vad: bool) -> list[str]:
    notes = ["ECE: expected calibration error, 15 bins of equal width; of CLEF that of the factual prediction"]
    if several:
        notes.append(
            "mAP: scikit-learn's; VOC: the area below the envelope; 11-point: the envelope at recalls 0, 0.1 ... 1"
        )
        notes += ["VAD error: mean absolute error on the scale from 1 to 10, not percent"] if vad else []
    return notes


def all_tables(gathered: Gathered) -> list[Table]:
    """All tables of a grid."""
    return [table for _, made in by_set(gathered) for table in made]


def by_set(gathered: Gathered) -> list[tuple[str, list[Table]]]:
    """The tables of each dataset, as each protocol of the grid has it, and what it is called. None mixes two protocols.

    The main one comes first, and one of the parts of CLEF's prediction; then comparisons, further measures, classes,
    the paper's layouts, and the audit.
    """
    compared = significance.comparisons(gathered)
    made = []
    for part, card, name in parts_of(gathered):
        numbers = Numbers(part.rows)
        made.append((name, [marked(table, numbers) for table in _all_of(part, card, name, compared)]))
    return made


def _all_of(part: Gathered, card: Card, name: str, compared: list[Comparison]) -> list[Table]:
    parts = _parts(part, card, name)
    made = [_main(part, card, name), *([parts] if parts.rows else []), *significance.tables(part, compared, name)]
    made = [replace(table, main=True) for table in made]
    if part.rows:
        made += [measures(part, card, name), *paper_tables.per_class(part, card, name)]
        made += [*paper_tables.as_published(part, card, name), *paper_tables.settings(part, card, name)]
    return made + audit_tables(part, card, name)


def _main(part: Gathered, card: Card, name: str) -> Table:
    splits = list(card.test_splits)
    shifted = len(splits) > 1
    known, dataset, numbers = published(), part.runs[0].dataset, Numbers(part.rows)
    compared = dataset in known["metrics"]
    columns = ["backbone", "method", "seeds", *splits]
    columns += ["change"] if shifted else []
    columns += [f"published ({known['protocol']})", "gap"] if compared else []
    rows = []
    for backbone, method in part.pairs:
        values = [numbers.by_seed(backbone, method, split, card.metric).values() for split in splits]
        means = [numbers.mean(backbone, method, split, card.metric) for split in splits]
        row = [title(backbone), method, str(len(values[0])), *map(spread, values)]
        row += [signed(minus(means[-1], means[0]))] if shifted else []
        theirs = number(dataset, backbone, method)
        row += [percent(theirs), signed(minus(means[0], theirs))] if compared else []
        rows.append(row)
    notes = below(part, card, splits, known["protocol"] if compared else None)
    return Table(f"{name}: {card.metric}, percent", columns, rows, notes)


def _parts(part: Gathered, card: Card, name: str) -> Table:
    names = {"score": "TIE", "factual": "factual", "Y_e": "Y_e", "Y_c": "Y_c"}
    rows, numbers = [], Numbers(part.rows)
    for backbone, method in part.pairs:
        for split in card.test_splits:
            values = [numbers.by_seed(backbone, method, split, card.metric, one).values() for one in names]
            if values[1]:  # a context branch by itself has no factual prediction
                rows.append([title(backbone), method, split, *map(spread, values)])
    columns = ["backbone", "method", "split", *names.values()]
    notes = ["TIE is the score; Y_e is the backbone's part by itself, Y_c the context's"]
    return Table(f"{name}: the parts of the prediction, {card.metric}, percent", columns, rows, notes)
