"""Who takes part in the comparison of loaders: for each a function and its arguments, which return people a second."""

from pathlib import Path
from typing import Any

from clef.bench import loose, peers, stages
from clef.bench.peers import OURS, PEERS, SHIPPED
from clef.bench.setting import Setting, timed
from clef.bench.verdicts import CEILING, JPEG, LOOSE
from clef.cards import Card
from clef.datasets import Person
from clef.errors import ClefError

LOOSE_SHARE = 0.25
"""Of the others' people in a pass: loose files take several times as long for each."""
Calls = dict[str, tuple[Any, ...]]


def ours(setting: Setting) -> Calls:
    """Our loader, and what decoding alone does on as many cores."""
    return {CEILING: (stages.alone, setting, stages.CEILING, setting.workers), JPEG: (_ours, setting)}


def others(setting: Setting, copies: Path) -> Calls:
    """The peers that are installed, both ways; `copies` is where they keep what they read."""
    return {
        f"{name}, {way}": (_peer, name, way, setting, copies / name)
        for name, peer in PEERS.items()
        for way in (SHIPPED, OURS)
        if not peer.missing
    }


def loose_files(setting: Setting, card: Card, source: Path) -> tuple[Calls, list[str]]:
    """The dataset's own files, and why they are left out where they can't be read."""
    try:
        return {LOOSE: (_loose, setting, loose.people(setting, card, source))}, []
    except ClefError as error:
        return {}, [f"{LOOSE} left out: {str(error).splitlines()[0]}"]


def missing() -> list[str]:
    """A line for each peer that is not installed: what would install it."""
    return [f"{name} is not installed, so not compared: {p.missing}" for name, p in PEERS.items() if p.missing]


def images_per_person(setting: Setting, names: list[str]) -> dict[str, float]:
    """How many JPEGs each contender decodes for a person: the members, or the one whole file."""
    return {name: 1 if name == LOOSE else setting.images_per_person for name in names}


def _ours(setting: Setting) -> float:
    return timed(stages.ours(setting), setting, JPEG)


def _peer(name: str, way: str, setting: Setting, folder: Path) -> float:
    if not folder.exists():
        folder.mkdir(parents=True)
        peers.prepare(name, setting, folder)
    return timed(peers.stream(name, way, setting, folder), setting, f"{name}, {way}")


def _loose(setting: Setting, people: list[Person]) -> float:
    return timed(loose.stream(setting, people), setting, LOOSE, LOOSE_SHARE)
