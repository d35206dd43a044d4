"""How fast the sharder is, next to its own decoding, resizing and encoding, with one process and with several.

A dataset of photographs is made for it. docs/benchmarks.md says what each row means. Measure on a machine that does
nothing else.
"""

import argparse
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks import common, images
from benchmarks.common import Calls, Rates, Verdict, compare
from clef.console import ProgressBars, out
from clef.datasets import Person, cards, open_reader
from clef.datasets.cards import Card
from clef.errors import argument_parser
from clef.sharding import build
from clef.sharding.render import render

SPLIT = "train"


def main(arguments: list[str]) -> int:
    """Measure, show and write."""
    args = _parse(arguments)
    host = common.machine()  # before anything loads the machine
    with common.work_folder(args.keep) as folder:
        with ProgressBars("images") as progress:
            path = images.make_dataset(folder, args.people, args.image_size, 4 * args.processes, progress)
        card = cards.load(str(path))
        common.show_machine(host)
        out.print(f"{card.title}; page cache warm")
        calls = _contenders(card, folder / "sharded", args.processes)
        with common.in_processes(calls) as runs, ProgressBars("passes") as progress:
            rates = common.interleaved(runs, args.rounds, progress)
    results = verdicts(rates, args.processes)
    out.print(common.rates_table("sharding (processes)", rates, {}))
    out.print(common.verdicts_table(results))
    storage = card.storage.model_dump()
    data = {"title": card.title, "source_image": list(args.image_size), "storage": storage, "page_cache": "warm"}
    content = {"command": "sharding", "machine": host, "data": data}
    common.write_report(args.json, content | {"passes": common.passes(rates), "verdicts": results})
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argument_parser("python -m benchmarks sharding", __doc__)
    common.add_dataset_options(parser, people=300)
    text = "compare one process with so many (default: 2)"
    parser.add_argument("--processes", type=common.positive, default=2, metavar="N", help=text)
    common.add_report_options(parser, "sharding", rounds=5)
    return common.parse(parser, arguments)


def sharder(processes: int) -> str:
    """Return the name of the sharder with so many processes."""
    return f"sharder ({processes})"


def ceiling(processes: int) -> str:
    """Return the name of its decoding, resizing and encoding alone."""
    return f"ceiling ({processes})"


def _contenders(card: Card, target: Path, several: int) -> Calls:
    people = open_reader(card, Path(card.source)).read(SPLIT).people
    calls: Calls = {}
    for processes in sorted({1, several}):
        calls[ceiling(processes)] = (_measure_rendering, card, people, processes)
        calls[sharder(processes)] = (_measure_sharder, card, target, processes)
    return calls


def verdicts(rates: Rates, several: int) -> list[Verdict]:
    """Return how near the sharder comes to its ceiling, and what more processes bring."""
    results = [compare(rates, sharder(n), ceiling(n), 0.85) for n in sorted({1, several})]
    if several > 1:
        results.append(compare(rates, sharder(several), sharder(1), 0.9 * several))
    return results


def _measure_sharder(card: Card, target: Path, processes: int) -> float:
    """Return people a second of a whole `python -m clef.shard`, without the start of Python."""
    shutil.rmtree(target, ignore_errors=True)
    start = time.perf_counter()
    manifest = build.build(card, Path(card.source), target, processes)
    return sum(split.samples for split in manifest.splits.values()) / (time.perf_counter() - start)


def _measure_rendering(card: Card, people: list[Person], processes: int) -> float:
    """Return people a second of making members in memory: no tar, no hash, nothing flushed to disk."""
    step = card.storage.samples_per_shard
    parts = [(card, people[first : first + step]) for first in range(0, len(people), step)]
    start = time.perf_counter()
    if processes == 1:
        done = sum(map(_render_part, parts))
    else:
        with ProcessPoolExecutor(processes) as pool:
            done = sum(pool.map(_render_part, parts))
    return done / (time.perf_counter() - start)


def _render_part(part: tuple[Card, list[Person]]) -> int:
    card, people = part
    for person in people:
        render(person, card, SPLIT)
    return len(people)
