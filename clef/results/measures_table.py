"""Further measures of each method side by side: conventions of AP, F1, calibration, errors of VAD. Imports no torch."""

from clef.cards import Card
from clef.metrics import CONVENTIONS
from clef.results.comparisons import HEADS, over_images, within
from clef.results.formats import Table
from clef.results.intervals import OVER
from clef.results.numbers import Numbers, spread
from clef.results.published import title
from clef.results.rows import Gathered

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
