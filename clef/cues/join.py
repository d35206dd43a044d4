"""Cues join the people of a dataset, by id and by image, as the shards are made."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clef.cards import Card
from clef.cues import files
from clef.cues.files import OF_IMAGE, OF_PERSON, CueFile
from clef.datasets.person import Box, Cues, Person, Reading
from clef.errors import DataError

Roots = dict[str, list[CueFile]]
"""The cue files below each root of a dataset (`SplitSource.root`)."""


def cue_files(card: Card, source: Path) -> Roots:
    """The cue files of every root. DataError when the roots do not have the same cues by the same extractors."""
    roots = {part.root: files.found(source / part.root) for part in card.splits.values()}
    made = {root: {file.cue: file.made_by for file in found} for root, found in roots.items()}
    for cue in files.ALL:
        makers = {root: cues.get(cue, "nobody") for root, cues in made.items()}
        if len(set(makers.values())) > 1:
            said = "; ".join(f"{files.path_of(source / root, cue)} by {maker}" for root, maker in makers.items())
            raise DataError(
                f"the cue {cue} must come from one extractor in all of {card.name}: {said}. "
                f"Remove what is not wanted, and run python -m clef.cues --dataset {card.name} --cue {cue}"
            )
    return roots


def made_by(roots: Roots) -> dict[str, str]:
    """What extracted each cue."""
    return {file.cue: file.made_by for found in roots.values() for file in found}


def digest(roots: Roots) -> str:
    """A hash of all cue files, for the fingerprint of a set of shards; empty when there are none."""
    return "".join(f"{root} {files.digest(found)}\n" for root, found in roots.items() if found)


def join(card: Card, source: Path, readings: Mapping[str, Reading], roots: Roots) -> None:
    """Give the people in `readings` (by split) their cues, and note who has none.

    Raises DataError for a cue file whose keys match nobody: it is another dataset's.
    """
    for root, found in roots.items():
        own = {name: reading for name, reading in readings.items() if card.splits[name].root == root}
        everyone = [person for reading in own.values() for person in reading.people]
        strangers = {file.cue: _strangers(file, everyone, source / root) for file in found}
        for reading in own.values():
            reading.notes += _lacking(reading.people, source / root, found)
            reading.people = joined(reading.people, source / root, found)
        # A cue file serves all splits of its root: what matches none of them is noted once, at the first.
        next(iter(own.values())).notes += Counter(
            {f"cue {cue}: keys that match nobody": n for cue, n in strangers.items()}
        )


def joined(people: Sequence[Person], source: Path, cue_files: Sequence[CueFile]) -> list[Person]:
    """The people with their cues. The source's own face boxes go before a detector's."""
    shared = ambiguous(people)
    result = []
    for person, others in zip(people, _others(people), strict=True):
        own = {file.cue: file.values.get(_key(file, person, source)) for file in cue_files}
        if person.id in shared:
            own |= dict.fromkeys(set(own) & set(OF_PERSON))
        result.append(replace(person, face=person.face or own.get("face"), cues=Cues(**own, others=others)))
    return result


def ambiguous(people: Iterable[Person]) -> set[str]:
    """Ids that stand for more than one subject (another image or box): no cue of a person can be told to be theirs."""
    subjects: dict[str, set[Any]] = defaultdict(set)
    for person in people:
        subjects[person.id].add((person.image, person.box))
    return {name for name, found in subjects.items() if len(found) > 1}


def _key(file: CueFile, person: Person, source: Path) -> str:
    return files.image_key(source, person.image) if file.cue in OF_IMAGE else person.id


def _lacking(people: Sequence[Person], source: Path, cue_files: Sequence[CueFile]) -> Counter[str]:
    """People who have no line in a cue file at all: their cue was never looked for."""
    lacking = {
        f"cue {file.cue}: no line in its file": sum(_key(file, person, source) not in file.values for person in people)
        for file in cue_files
    }
    return +Counter(lacking)


def _strangers(file: CueFile, people: Sequence[Person], source: Path) -> int:
    """How many keys of a cue file are nobody's. DataError when all are."""
    keys = {_key(file, person, source) for person in people}
    strangers = file.values.keys() - keys
    if strangers and len(strangers) == len(file.values):
        raise DataError(
            f"{file.path}: none of its {len(strangers):,} keys is known in {source}: it says {min(strangers)!r}, "
            f"where {min(keys, default='nothing')!r} is expected; is it another dataset's?"
        )
    return len(strangers)


def _others(people: Sequence[Person]) -> list[tuple[Box, ...]]:
    by_image: dict[Path, list[Person]] = defaultdict(list)
    for person in people:
        by_image[person.image].append(person)
    return [
        tuple(o.box for o in by_image[person.image] if o is not person and o.box and o.box != person.box)
        for person in people
    ]
