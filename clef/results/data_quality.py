"""What was done to the data that numbers rest on, as cells record it, and notes about it. Imports no torch."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping

from clef.datasets.cards import Card
from clef.datasets.policies import describe
from clef.yaml_config import Strict

SHOWN = 4
"""Kinds of repairs that are named below a table; the rarer ones are summed up."""
Counts = dict[str, Counter[str]]
"""People by what happened to them, and by split."""


class SplitData(Strict):
    """A split: `left_out` and `notes` count people by rule (`clef.datasets.policies`), or by a text where none fits."""

    listed: int
    samples: int
    left_out: dict[str, int]
    notes: dict[str, int]


class CellData(Strict):
    """What a cell's result says about its shards."""

    protocol: str
    policies: dict[str, str]
    shards: str
    """A hash of what was read and how it was stored."""
    splits: dict[str, SplitData]


def most_common(cells: Iterable[CellData]) -> CellData:
    """Return the data that most cells rest on; the first of them in a tie."""
    known = list(cells)
    contents = [_content(cell) for cell in known]
    counts = Counter(contents)
    return known[contents.index(max(counts, key=counts.__getitem__))]


def _content(data: CellData) -> str:
    """Return all that it says, as text: a key for thousands of cells, compared at once."""
    return json.dumps(data.model_dump(), sort_keys=True)


def notes(data: CellData, card: Card) -> list[str]:
    """Return how many people are listed, left out, repaired and flagged in each split: a line for each group."""
    groups: dict[str, Counts] = {"left out": {}, "clamped": {}, "kept and flagged": {}}
    for name, split in data.splits.items():
        for rule, count in split.left_out.items():
            groups["left out"].setdefault(_in_words(rule), Counter())[name] += count
        for rule, count in split.notes.items():
            group = "clamped" if data.policies.get(rule) == "clamp" else "kept and flagged"
            groups[group].setdefault(_in_words(rule), Counter())[name] += count
    lines = ["people: " + ", ".join(_count_people(name, split) for name, split in data.splits.items())]
    for title, rules in groups.items():
        if rules:
            shown = len(rules) if title == "left out" else SHOWN
            lines.append(f"{title}: {_list_counts(rules, shown, list(data.splits))}")
    stated = card.policies.model_dump()
    changed = [f"{rule}={policy}" for rule, policy in data.policies.items() if policy != stated.get(rule)]
    return lines + ([f"policies other than the card's: {', '.join(changed)}"] if changed else [])


def _in_words(rule: str) -> str:
    """Return a rule in words, without its remark in brackets; remarks about any cue count as one."""
    text = describe(rule).partition(" (")[0]
    return "cues: " + text.partition(": ")[2] if text.startswith("cue ") else text


def _count_people(name: str, split: SplitData) -> str:
    stored = "all" if split.samples == split.listed else f"{split.samples:,} of"
    return f"{name} {stored} {split.listed:,} listed"


def _list_counts(rules: Counts, shown: int, splits: list[str]) -> str:
    """Return what is counted, the most frequent first, with the count of each split."""
    ordered = sorted(rules, key=lambda rule: (-rules[rule].total(), rule))
    shown = len(ordered) if len(ordered) == shown + 1 else shown  # summing up a single one saves nothing
    parts = [(rule, rules[rule]) for rule in ordered[:shown]]
    if rarer := ordered[shown:]:
        parts.append((f"{len(rarer)} rarer kinds", sum((rules[rule] for rule in rarer), Counter[str]())))
    return "; ".join(
        f"{text} ({', '.join(f'{name} {counts[name]:,}' for name in splits if counts[name])})" for text, counts in parts
    )


def differences(cells: Mapping[str, CellData]) -> list[str]:
    """Return how the data of the cells of one table differs, and which cells differ from most; [] where none does."""
    usual = most_common(cells.values()) if cells else None
    others = [name for name, data in cells.items() if data != usual]
    if not others:
        return []
    what = _differing_policies(list(cells.values())) + _differing_counts(list(cells.values()))
    what = what or ["the same counts, but other boxes, cues or sizes of storage"]
    rest = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return [f"not all cells use the same data: {'; '.join(what)} (unlike most: {', '.join(others[:3])}{rest})"]


def _differing_policies(cells: list[CellData]) -> list[str]:
    rules = dict.fromkeys(rule for data in cells for rule in data.policies)
    values = {rule: [data.policies.get(rule, "not stated") for data in cells] for rule in rules}
    return [f"policy {rule} is {_alternatives(words)}" for rule, words in values.items() if len(set(words)) > 1]


def _differing_counts(cells: list[CellData]) -> list[str]:
    remarks = []
    for name in dict.fromkeys(name for data in cells for name in data.splits):
        counts = [data.splits.get(name) for data in cells]
        people = [f"{count.samples:,} of {count.listed:,}" if count else "no" for count in counts]
        if len(set(people)) > 1:
            remarks.append(f"{name} has {_alternatives(people)} people")
        elif any(count != counts[0] for count in counts):
            remarks.append(f"{name} has other reasons or repairs")
    return remarks


def _alternatives(values: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(values))


def compare_with_official(data: CellData, card: Card, split: str, protocol: str) -> str:
    """Return a note: the protocol of the published numbers, and whether `split` as read here is the official one."""
    ours = "as here" if data.protocol == protocol else f"not {data.protocol} as here"
    counts = data.splits[split]
    released = ((release.people or release.images).get(split) for release in card.releases.values())
    official = next((count for count in released if count is not None), None)  # the first release is the official one
    if official is None:
        same = f"how many people the official {split} lists isn't known"
    elif counts.listed != official:
        same = f"{split} is not the official one: {counts.listed:,} people listed, {official:,} there"
    elif missing := counts.listed - counts.samples:
        same = f"{split} lists the same {counts.listed:,} people as the official one, of whom {missing:,} are left out"
        same += " here"
    else:
        same = f"{split} is the same as the official one ({counts.listed:,} people)"
    return f"published: on the protocol {protocol}, {ours}; {same}"
