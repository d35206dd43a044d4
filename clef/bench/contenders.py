"""Who takes part in the comparison of loaders: for each a function and its arguments, which return people a second."""

from pathlib import Path
from typing import Any

from clef.bench import loose, peers, stages
from clef.bench.peers import OURS, PEERS, SHIPPED
from clef.bench.setting import Setting, timed
from clef.bench.verdicts import CACHE, CEILING, JPEG, LOOSE
from clef.cards import Card
from clef.data.cache import NodeCache
from clef.datasets import Person
from clef.errors import ClefError

CACHE_SHARE = 4
"""Of the others' people in a pass: from the cache each takes a fraction of the time."""
Calls = dict[str, tuple[Any, ...]]


def ours(setting: Setting) -> Calls:
    """Our loader, and what decoding alone does on as many cores."""
    return {CEILING: (stages.alone, setting, stages.CEILING, setting.workers), JPEG: (_ours, setting)}


def cached(setting: Setting, scratch: Path) -> tuple[Calls, list[str]]:
    """Our loader from a node cache below `scratch`, and why it is left out where there is no room for one."""
    try:
        NodeCache(str(scratch)).reserve(setting.shards.manifest, [setting.shards.name], setting.inputs)
        return {CACHE: (_cached, setting, scratch, scratch / "filled")}, []
    except ClefError as error:
        return {}, [f"{CACHE} left out: {error}"]


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
    """How many JPEGs each contender decodes for a person: the members, the one whole file, or none."""
    return {name: {LOOSE: 1, CACHE: 0}.get(name, setting.images_per_person) for name in names}


def _ours(setting: Setting) -> float:
    return timed(stages.ours(setting), setting, JPEG)


def _cached(setting: Setting, scratch: Path, filled: Path) -> float:
    cache = NodeCache(str(scratch))
    if not filled.exists():
        stages.fill(setting, cache)
        filled.touch()
    return timed(stages.ours(setting, cache, CACHE_SHARE), setting, CACHE, CACHE_SHARE)


def _peer(name: str, way: str, setting: Setting, folder: Path) -> float:
    if not folder.exists():
        folder.mkdir(parents=True)
        peers.prepare(name, setting, folder)
    return timed(peers.stream(name, way, setting, folder), setting, f"{name}, {way}")


def _loose(setting: Setting, people: list[Person]) -> float:
    return timed(loose.stream(setting, people), setting, LOOSE, loose.SHARE)
