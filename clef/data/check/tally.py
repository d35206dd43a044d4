"""What becomes of the people of a split, rule by rule: sharding's own decisions, taken without pixels."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clef.cards import Card
from clef.data.check.survey import Look
from clef.data.decide import Flags, Unusable, decide
from clef.datasets.person import EXAMPLES, Person, Reading
from clef.policies import RULES, allowed


@dataclass
class Tally:
    """A split: who would be counted, and by rule (or in words) who is left out or noted, with examples."""

    people: list[Person] = field(default_factory=list)
    """Who would be counted."""
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    images: defaultdict[str, set[Path]] = field(default_factory=lambda: defaultdict(set))
    """By rule, the images in which it was met, where only decoding shows it."""
    examples: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    found: dict[str, Counter[str]] = field(default_factory=dict)

    def met(self, rule: str) -> int:
        """People (or files, or rows) of whom the rule speaks."""
        return self.left_out[rule] + self.notes[rule]

    def _note(self, rule: str, person: Person) -> None:
        self.images[rule].add(person.image)
        if len(self.examples[rule]) < EXAMPLES:
            self.examples[rule].append(person.id)


def unstopped(card: Card) -> Card:
    """The card with the mildest other policy for each rule that would stop."""
    stopping = [rule for rule in RULES if card.policies.of(rule) == "raise"]
    milder = {rule: next(word for word in allowed(rule) if word != "raise") for rule in stopping}
    return card.model_copy(update={"policies": card.policies.model_copy(update=milder)})


def tally(card: Card, reading: Reading, looks: Mapping[Path, Look]) -> Tally:
    """What sharding would decide about each person of a split that was read and settled with an unstopped card."""
    result = Tally(left_out=Counter(reading.left_out), notes=Counter(reading.notes), found=reading.found)
    for rule, places in reading.examples.items():
        result.examples[rule] += places
    for person in reading.people:
        flags = Flags(card.policies, person)
        try:
            _judge(person, looks[person.image], flags)
        except Unusable as reason:
            result.left_out[str(reason)] += 1
            result._note(str(reason), person)
            continue
        result.people.append(person)
        result.notes.update(flags.met)
        for rule in flags.met:
            result._note(rule, person)
    return result


def _judge(person: Person, look: Look, flags: Flags) -> None:
    if look.refused:
        flags.refuse(look.refused)
    for rule in look.faults:
        flags.add(rule)
    decide(person, look.size, flags)
