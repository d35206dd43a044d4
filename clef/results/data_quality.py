"""What was done to the data that numbers rest on, as cells record it, and the words for it below a table. No torch."""

from collections import Counter
from collections.abc import Iterable, Mapping

from clef.config import Strict
from clef.datasets.cards import Card
from clef.datasets.policies import describe

SHOWN = 4
"""Repairs named below a table; the rarer ones are summed up."""
Counts = dict[str, Counter[str]]
"""People by what befell them, and by split."""


class SplitData(Strict):
    """One split. `left_out` and `notes` count people by rule of `clef.datasets.policies`, or in words where there is no rule."""

    listed: int
    samples: int
    left_out: dict[str, int]
    notes: dict[str, int]


class CellData(Strict):
    """What a cell's result says of its shards."""

    protocol: str
    policies: dict[str, str]
    shards: str
    """A hash of what was read and how it was stored."""
    splits: dict[str, SplitData]


def most_common(cells: Iterable[CellData]) -> CellData:
    """The data that most cells rest on; the first of them where it is a tie."""
    known = list(cells)
    return max(known, key=known.count)


def notes(data: CellData, card: Card) -> list[str]:
    """How many people are listed and who is left out, repaired and flagged in which split: a line for each group."""
    groups: dict[str, Counts] = {"left out": {}, "clamped": {}, "kept and flagged": {}}
    for name, split in data.splits.items():
        for rule, count in split.left_out.items():
            groups["left out"].setdefault(_worded(rule), Counter())[name] += count
        for rule, count in split.notes.items():
            group = "clamped" if data.policies.get(rule) == "clamp" else "kept and flagged"
            groups[group].setdefault(_worded(rule), Counter())[name] += count
    lines = ["people: " + ", ".join(_people(name, split) for name, split in data.splits.items())]
    for title, rules in groups.items():
        if rules:
            shown = len(rules) if title == "left out" else SHOWN
            lines.append(f"{title}: {_counted(rules, shown, list(data.splits))}")
    stated = card.policies.model_dump()
    changed = [f"{rule}={word}" for rule, word in data.policies.items() if word != stated.get(rule)]
    return lines + ([f"policies other than the card's: {', '.join(changed)}"] if changed else [])


def _worded(rule: str) -> str:
    """A rule in words, without what it says in brackets; the cues' remarks are one, whichever cue they are about."""
    text = describe(rule).partition(" (")[0]
    return "cues: " + text.partition(": ")[2] if text.startswith("cue ") else text


def _people(name: str, split: SplitData) -> str:
    stored = "all" if split.samples == split.listed else f"{split.samples:,} of"
    return f"{name} {stored} {split.listed:,} listed"


def _counted(rules: Counts, shown: int, splits: list[str]) -> str:
    """What is counted, the most frequent first, with the count of each split."""
    ordered = sorted(rules, key=lambda rule: (-rules[rule].total(), rule))
    shown = len(ordered) if len(ordered) == shown + 1 else shown
    parts = [(rule, rules[rule]) for rule in ordered[:shown]]
    if rarer := ordered[shown:]:
        parts.append((f"{len(rarer)} rarer kinds", sum((rules[rule] for rule in rarer), Counter[str]())))
    return "; ".join(
        f"{text} ({', '.join(f'{name} {counts[name]:,}' for name in splits if counts[name])})" for text, counts in parts
    )


def differences(cells: Mapping[str, CellData]) -> list[str]:
    """In what the data of cells of one table differs, and which cells stand apart; nothing where all have the same."""
    usual = most_common(cells.values()) if cells else None
    others = [name for name, data in cells.items() if data != usual]
    if not others:
        return []
    what = _differing_policies(list(cells.values())) + _differing_counts(list(cells.values()))
    what = what or ["other boxes, cues or sizes of storage, the counts being the same"]
    rest = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return [f"not all cells rest on the same data: {'; '.join(what)} (apart from most: {', '.join(others[:3])}{rest})"]


def _differing_policies(known: list[CellData]) -> list[str]:
    rules = dict.fromkeys(rule for data in known for rule in data.policies)
    values = {rule: [data.policies.get(rule, "not stated") for data in known] for rule in rules}
    return [f"policy {rule} is {_values(words)}" for rule, words in values.items() if len(set(words)) > 1]


def _differing_counts(known: list[CellData]) -> list[str]:
    said = []
    for name in dict.fromkeys(name for data in known for name in data.splits):
        counts = [data.splits.get(name) for data in known]
        people = [f"{count.samples:,} of {count.listed:,}" if count else "no" for count in counts]
        if len(set(people)) > 1:
            said.append(f"{name} has {_values(people)} people")
        elif any(count != counts[0] for count in counts):
            said.append(f"{name} has other reasons or repairs")
    return said


def _values(values: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(values))


def official(data: CellData, card: Card, split: str, protocol: str) -> str:
    """Which protocol the published numbers are on, and whether `split` as read here is the official one."""
    ours = "as here" if data.protocol == protocol else f"not {data.protocol} as here"
    found = data.splits[split]
    known = ((release.people or release.images).get(split) for release in card.releases.values())
    theirs = next((count for count in known if count is not None), None)  # the card's first release is the official one
    if theirs is None:
        same = f"how many people the official {split} lists isn't known"
    elif found.listed != theirs:
        same = f"{split} is not the official one: {found.listed:,} people listed, {theirs:,} there"
    elif left := found.listed - found.samples:
        same = f"{split} lists the same {found.listed:,} people as the official one, of whom {left:,} are left out here"
    else:
        same = f"{split} is the same as the official one ({found.listed:,} people)"
    return f"published: on the protocol {protocol}, {ours}; {same}"
