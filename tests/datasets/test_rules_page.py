"""shards/README.md against the rules, and against the protocols of the cards."""

import re
from pathlib import Path

from clef.datasets import cards
from clef.datasets.policies import RULES, Policies, allowed_policies, describe

TEXT = (Path(__file__).parents[2] / "shards/README.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("|")]


def test_every_rule_has_its_row() -> None:
    stated = [row for row in ROWS if row[0].strip("`") in RULES]
    defaults = Policies()
    assert stated == [
        [f"`{rule}`", describe(rule), ", ".join(allowed_policies(rule)), defaults.of(rule)] for rule in RULES
    ]


def test_every_word_of_a_policy_is_explained() -> None:
    words = {word for rule in RULES for word in allowed_policies(rule)}
    explained = {word for row in ROWS if len(row) == 2 for word in re.findall(r"`(\w+)`", row[0])}
    assert words <= explained


def test_every_protocol_has_its_row_and_the_counts_of_its_card() -> None:
    table = [row for row in ROWS if len(row) == 4 and row[1].split("`")[1:2] and row[0] in ("EMOTIC", "CAER-S", "")]
    stated: dict[str, dict[str, str]] = {"emotic": {}, "caer_s": {}}
    name = ""
    for title, protocol, _, counts in table:
        name = {"EMOTIC": "emotic", "CAER-S": "caer_s", "": name}[title]
        stated[name][protocol.split("`")[1]] = counts
    for name, rows in stated.items():
        assert list(rows) == [cards.LEAK_FREE, *cards.load(name).protocols]
        for protocol, counts in rows.items():
            releases = cards.load(name, protocol).releases.values()
            numbers = [f"{n:,}" for release in releases for n in (*release.people.values(), *release.images.values())]
            assert all(number in numbers for number in re.findall(r"\d+,\d+", counts)), (name, protocol)
