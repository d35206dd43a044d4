"""The audits of a grid's cells beside each other, where there are any (docs/audit.md). Imports no torch."""

from collections import defaultdict
from collections.abc import Iterable

from clef.cards import Card
from clef.results.formats import DASH, Table
from clef.results.numbers import Numbers, spread
from clef.results.published import title
from clef.results.rows import Gathered

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
