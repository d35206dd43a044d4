"""sharding: the sharder beside its own decoding, resizing and encoding, with one process and with several

A set of photograph-like images is drawn for it. docs/benchmarks.md says what each row means. Measure on a machine that
does nothing else.
"""

import argparse
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import common, source
from clef.console import Steps, out
from clef.datasets import Person, cards, open_reader
from clef.datasets.cards import Card

SPLIT = "train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    common.add_drawn(parser, people=300)
    text = "compare one process with so many (default: 2)"
    parser.add_argument("--processes", type=common.positive, default=2, metavar="N", help=text)
    common.add_measured(parser, "shard")


def run(args: argparse.Namespace) -> int:
    """Measure, show and write."""
    from benchmarks import peers, report

    host = common.facts()  # before anything loads the machine
    with common.folder(args.keep) as folder:
        with Steps("images") as progress:
            path = source.make(folder, args.people, args.image_size, 4 * args.processes, common.cores(), progress)
        card = cards.load(str(path))
        report.show_machine(host)
        out.print(f"{card.title}; page cache warm")
        with common.apart(_calls(card, folder / "sharded", args.processes)) as apart, Steps("passes") as progress:
            rates = common.interleaved(apart, args.pairs, progress)
    found = peers.sharding(rates, args.processes)
    out.print(report.rates_table("sharding (processes)", rates, {}))
    out.print(report.verdicts_table(found))
    facts = {"command": "shard", "machine": host, "data": _facts(card, args)}
    report.write(args.json, facts | report.as_json(rates, found))
    return 0


def _facts(card: Card, args: argparse.Namespace) -> dict[str, Any]:
    storage = card.storage.model_dump()
    return {"title": card.title, "source_image": list(args.image_size), "storage": storage, "page_cache": "warm"}


def _calls(card: Card, target: Path, several: int) -> dict[str, tuple[Any, ...]]:
    from benchmarks.peers import rendering, sharder

    people = open_reader(card, Path(card.source)).read(SPLIT).people
    calls: dict[str, tuple[Any, ...]] = {}
    for workers in sorted({1, several}):
        calls[rendering(workers)] = (_render, card, people, workers)
        calls[sharder(workers)] = (_shard, card, target, workers)
    return calls


def _shard(card: Card, target: Path, workers: int) -> float:
    """People a second of a whole `python -m clef.shard`, but for the start of Python."""
    from clef.sharding import build

    shutil.rmtree(target, ignore_errors=True)
    start = time.perf_counter()
    manifest = build.build(card, Path(card.source), target, workers)
    return sum(split.samples for split in manifest.splits.values()) / (time.perf_counter() - start)


def _render(card: Card, people: list[Person], workers: int) -> float:
    """People a second of making members in memory: no tar, no hashes of members and shards, nothing flushed to disk."""
    step = card.storage.samples_per_shard
    parts = [(card, people[first : first + step]) for first in range(0, len(people), step)]
    start = time.perf_counter()
    if workers == 1:
        done = sum(map(_members, parts))
    else:
        with ProcessPoolExecutor(workers) as pool:
            done = sum(pool.map(_members, parts))
    return done / (time.perf_counter() - start)


def _members(part: tuple[Card, list[Person]]) -> int:
    from clef.sharding.render import render

    card, people = part
    for person in people:
        render(person, card, SPLIT)
    return len(people)
