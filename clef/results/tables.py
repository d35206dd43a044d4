"""The tables of a grid, as pure functions of what was gathered: the main ones, further measures, audits. No torch."""

from collections.abc import Iterable
from dataclasses import replace

from clef.datasets.cards import Card
from clef.metrics import METRICS
from clef.results import paper_tables, significance
from clef.results.formats import DASH, Table, format_percent, format_signed
from clef.results.frame import GridResults, format_spread, parts_of, subtract
from clef.results.intervals import OVER
from clef.results.notes import main_notes, mark_untrained
from clef.results.published import backbone_title, is_published, published, published_value
from clef.results.significance import INTERVAL_HEADS, Comparison, format_interval, interval_note

Pair = tuple[str, str]
"""A backbone and a method."""


def all_tables(gathered: GridResults) -> list[Table]:
    """Return all tables of a grid."""
    return [table for _, tables in tables_by_dataset(gathered) for table in tables]


def tables_by_dataset(gathered: GridResults) -> list[tuple[str, list[Table]]]:
    """Return the name and the tables of each dataset and protocol of a grid. No table mixes two protocols.

    The main table comes first, then the parts of CLEF's prediction, comparisons, further measures, classes, the
    layouts of the paper, and the audit.
    """
    compared = significance.comparisons(gathered)
    return [
        (name, [mark_untrained(table, part.values) for table in _tables_of_part(part, card, name, compared)])
        for part, card, name in parts_of(gathered)
    ]


def _tables_of_part(part: GridResults, card: Card, name: str, compared: list[Comparison]) -> list[Table]:
    parts = _parts_table(part, card, name)
    comparisons = significance.comparison_tables(part, compared, name)
    tables = [_main_table(part, card, name), *([parts] if parts.rows else []), *comparisons]
    tables = [replace(table, main=True) for table in tables]
    if len(part.rows):
        tables += [_measures_table(part, card, name), *paper_tables.class_tables(part, card, name)]
        tables += [*paper_tables.published_layouts(part, card, name), *paper_tables.variant_tables(part, card, name)]
    return tables + _audit_tables(part, card, name)


def _main_table(part: GridResults, card: Card, name: str) -> Table:
    """Return the headline of each backbone and method on each test split, next to what is published."""
    splits, dataset = list(card.test_splits), part.runs[0].dataset
    shifted, compared = len(splits) > 1, is_published(dataset)
    columns = ["backbone", "method", "seeds", *splits]
    columns += ["change"] if shifted else []
    columns += [f"published ({published()['protocol']})", "gap"] if compared else []
    rows = []
    for backbone, method in part.pairs:
        values = [part.values.by_seed(backbone, method, split, card.metric).values() for split in splits]
        means = [part.values.mean(backbone, method, split, card.metric) for split in splits]
        row = [backbone_title(backbone), method, str(len(values[0])), *map(format_spread, values)]
        row += [format_signed(subtract(means[-1], means[0]))] if shifted else []
        theirs = published_value(dataset, backbone, method)
        row += [format_percent(theirs), format_signed(subtract(means[0], theirs))] if compared else []
        rows.append(row)
    return Table(f"{name}: {card.metric}, percent", columns, rows, main_notes(part, card, splits, compared))


def _parts_table(part: GridResults, card: Card, name: str) -> Table:
    """Return the headline of each part of a prediction that has two: the backbone's and the context branch's."""
    titles = ("score", "factual", "Y_e", "Y_c")
    rows, methods = [], set()
    for backbone, method in part.pairs:
        for split in card.test_splits:
            values = [part.values.by_seed(backbone, method, split, card.metric, each).values() for each in titles]
            if values[1]:  # a context branch by itself has no factual prediction
                rows.append([backbone_title(backbone), method, split, *map(format_spread, values)])
                methods.add(method)
    only_clef = methods <= {run.method for run in part.runs if run.is_clef}
    columns = ["backbone", "method", "split", "TIE" if only_clef else "score", *titles[1:]]
    score = "TIE is the score" if only_clef else "score: what the method ranks by (CLEF: TIE); factual: Y_c + Y_e"
    notes = [f"{score}; Y_e is the backbone's part alone, Y_c the context's"]
    return Table(f"{name}: the parts of the prediction, {card.metric}, percent", columns, rows, notes)


# Further measures

_CALIBRATED = ("score", "factual", "Y_e")
"""The parts whose calibration may be known, by preference."""


def _measures_table(part: GridResults, card: Card, name: str) -> Table:
    """Return the headline with its intervals, the other metrics of the task, calibration, and errors of VAD."""
    several = card.task == "multi_label"
    vad = several and card.vad
    others = [metric.name for metric in METRICS.values() if metric.task == card.task and metric.name != card.metric]
    rows = []
    for backbone, method in part.pairs:
        for split in card.test_splits:
            first, *further = [part.values.by_seed(backbone, method, split, m).values() for m in (card.metric, *others)]
            ranges = [format_interval(part, (backbone, method, "", split), over) for over in OVER]
            errors = (part.values.by_seed(backbone, method, split, "ECE", each).values() for each in _CALIBRATED)
            further.append(next((values for values in errors if values), {}.values()))
            further += [part.values.by_seed(backbone, method, split, "VAD error", "vad").values()] if vad else []
            row = [backbone_title(backbone), method, split, format_spread(first), *ranges]
            rows.append(row + [format_spread(values) for values in further])
    columns = ["backbone", "method", "split", card.metric, *INTERVAL_HEADS, *others, "ECE"]
    columns += ["VAD error"] if vad else []
    notes = [interval_note(part), *_measures_notes(several, vad)]
    return Table(f"{name}: further measures, percent", columns, rows, notes)


def _measures_notes(several: bool, vad: bool) -> list[str]:
    notes = ["ECE: expected calibration error, 15 bins of equal width; of CLEF that of the factual prediction"]
    if several:
        notes.append(
            "mAP: scikit-learn's; VOC: the area below the envelope; 11-point: the envelope at recalls 0, 0.1 ... 1"
        )
        notes += ["VAD error: mean absolute error on the scale from 1 to 10, not percent"] if vad else []
    return notes


# Audits (docs/audit.md)

_AUDITED_PARTS = ("score", "factual", "Y_e")
_REMAINING = {
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
    """The numbers of the audits on one test split, one value a seed."""

    def __init__(self, part: GridResults, split: str) -> None:
        audits = part.audits[part.audits["split"] == split]
        self.pairs = part.pairs
        self.mark = part.values.mark
        groups = audits.groupby(["backbone", "method", "name", "class_name"], sort=False)["value"]
        self._values: dict[tuple[str, ...], list[float]] = groups.agg(list).to_dict()
        with_class = audits[audits["name"] == "blanked.TE.own"]
        self.people: dict[str, int] = dict(zip(with_class["class_name"], with_class["samples"], strict=True))
        """How many people have each class."""

    def values(self, pair: Pair, name: str, class_name: str = "") -> list[float]:
        """Return a number of each audited seed."""
        return self._values.get((*pair, name, class_name), [])

    def shared(self, name: str) -> str:
        """Return a number about the split itself, which no cell changes."""
        values = {f"{value:.1f}" for pair in self.pairs for value in self.values(pair, name)}
        return " or ".join(sorted(values, key=float)) or DASH

    def part_title(self, pair: Pair, part: str) -> str:
        """Return a part of a method's prediction as tables call it."""
        return "TIE" if part == "score" and self.values(pair, "debiased.moved") else part

    @property
    def seeds_note(self) -> str:
        """Return the note about how many cells the means are over."""
        counts = {pair: len(self.values(pair, "value.score")) for pair in self.pairs}
        audited = {pair: count for pair, count in counts.items() if count}
        if len(set(audited.values())) == 1:
            return f"means over seeds; audited: {next(iter(audited.values()))} of each"
        listed = (f"{backbone_title(backbone)} {method} {count}" for (backbone, method), count in audited.items())
        return "means over seeds; audited: " + ", ".join(listed)


def _audit_tables(part: GridResults, card: Card, name: str) -> list[Table]:
    """Return, for each audited test split: what remains of the metric, thirds, decisions, and effects on classes."""
    tables = []
    for split in card.test_splits:
        if not (part.audits["split"] == split).any():
            continue
        audits, title = _Audits(part, split), f"{name}: the audit on {split}"
        tables += [_remaining(audits, title, card), _thirds(audits, title, card), _decisions(audits, title)]
        audited = dict.fromkeys(pair[0] for pair in audits.pairs if audits.values(pair, "value.score"))
        if audits.people:
            tables += [_effects(audits, f"{title}: effects on each class", backbone) for backbone in audited]
    return tables


def _remaining(audits: _Audits, title: str, card: Card) -> Table:
    """Return the metric as it is, with the subject or the context alone, and with another person's context."""
    chance = audits.shared("chance")
    rows = [*_audit_rows(audits, _REMAINING), ["chance", DASH, DASH, *[chance] * len(_REMAINING)]]
    rows.append(["probe", DASH, DASH, DASH, DASH, audits.shared("prior"), DASH, DASH])
    notes = [
        audits.seeds_note,
        "score: the logits, which CLEF ranks by TIE instead; subject, context: that alone, the other blanked; "
        "swapped: another's context in every stream that shows it; branch: in the context branch alone",
        "probe: a linear classifier of the context, fitted on train, independent of the cells",
    ]
    columns = ["backbone", "method", "part", *_REMAINING.values()]
    return Table(f"{title}, {card.metric}, percent", columns, rows, notes)


def _thirds(audits: _Audits, title: str, card: Card) -> Table:
    """Return the metric by how typical the context is of the label."""
    chance = audits.shared("chance.thirds")
    chance = audits.shared("chance") if chance == DASH else chance
    rows = [*_audit_rows(audits, _THIRDS), ["chance", DASH, DASH, *[chance] * len(_THIRDS)]]
    notes = [
        audits.seeds_note,
        "people who have a class, in three thirds by the probability that the probe gives it from the context",
    ]
    if card.task == "multi_label":
        notes.append("a third holds fewer people with the class, so chance is lower than on the whole split")
    columns = ["backbone", "method", "part", *_THIRDS.values()]
    return Table(f"{title}: typical and atypical contexts, {card.metric}, percent", columns, rows, notes)


def _audit_rows(audits: _Audits, names: Iterable[str]) -> list[list[str]]:
    """Return a row for each part of each method's prediction, with a column for each of these numbers."""
    rows = []
    for pair in audits.pairs:
        for part in _AUDITED_PARTS:
            values = [audits.values(pair, f"{name}.{part}") for name in names]
            if any(values):
                words = [backbone_title(pair[0]), pair[1], audits.part_title(pair, part)]
                rows.append([*words, *(format_spread(each, digits=1) for each in values)])
    return rows


def _decisions(audits: _Audits, title: str) -> Table:
    """Return how often decisions change, and to which side: by TIE, and by both kinds of swaps."""
    rows = []
    for pair in audits.pairs:
        causes = {"TIE instead of factual": ("debiased.", "")}
        for streams in ("branch", "all"):
            for part in _AUDITED_PARTS:
                causes[f"{streams}: {audits.part_title(pair, part)}"] = f"swap.{streams}.", f".{part}"
        for cause, (prefix, suffix) in causes.items():
            values = [audits.values(pair, f"{prefix}{move}{suffix}") for move in _MOVES]
            if any(values):
                moves = [format_spread(each, digits=1) for each in values[:3]]
                rows.append([backbone_title(pair[0]), pair[1], cause, *moves, format_spread(values[3])])
    notes = [
        audits.seeds_note,
        "TIE instead of factual: what TIE decides differently from the factual prediction; branch, all: what another's "
        "context changes in a part's decisions, in the context branch alone or in every stream that shows it",
        "moved, to right, to wrong: % of all decisions; distance: how far scores move, in standard deviations",
    ]
    return Table(f"{title}: decisions that change", ["backbone", "method", "cause", *_MOVES.values()], rows, notes)


def _effects(audits: _Audits, title: str, backbone: str) -> Table:
    """Return the mean effects on each class over those who have it: CLEF's own, and those of blanked inputs."""
    columns = [
        (pair, f"{prefix}{effect}")
        for prefix in ("", "blanked.")
        for pair in audits.pairs
        for effect in _EFFECTS
        if pair[0] == backbone
        and any(audits.values(pair, f"{prefix}{effect}.own", class_name) for class_name in audits.people)
    ]
    heads = [f"{audits.mark(*pair, pair[1])}, {effect.replace('.', ' ')}" for pair, effect in columns]
    rows = [
        [name, f"{people:,}", *(format_spread(audits.values(pair, f"{effect}.own", name)) for pair, effect in columns)]
        for name, people in audits.people.items()
    ]
    notes = [
        audits.seeds_note,
        "over the people who have the class; in log probability; blanked: by the factual prediction with inputs gone, "
        "which every method has",
    ]
    return Table(f"{title}, {backbone_title(backbone)}", ["class", "people", *heads], rows, notes)
