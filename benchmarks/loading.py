"""How fast the stages of loading, our whole loader, and other loaders on the same images are.

Without --dataset, a dataset of photographs is made, sharded and removed again. docs/benchmarks.md says what each row
means. Measure on a machine that does nothing else.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import common, images, peers, stages
from benchmarks.common import Calls, Rates, Verdict, compare
from benchmarks.setting import Setting, measure
from clef import process
from clef.config import CellConfig, resolve
from clef.console import ProgressBars, out
from clef.data.decoded_cache import NodeCache
from clef.data.shards import SplitShards
from clef.datasets import cards
from clef.datasets.cards import Card
from clef.datasets.person import Person
from clef.errors import ClefError, ConfigError, argument_parser
from clef.sharding import build

JPEG, CACHE, CEILING, LOOSE = "ours (JPEG)", "ours (cache)", "ceiling of decoding", "loose files"
"""Names of contenders. A peer's two are its own name, a comma, and the way."""
CACHE_SHARE = 4
"""How many passes are timed for the cache: each takes a fraction of another loader's time."""
WORKER_STAGES = ("read", "decode+squash", "augment", "collate")
"""The stages that a worker goes through for every batch."""


def main(arguments: list[str]) -> int:
    """Measure, show and write."""
    args = _parse(arguments)
    if not args.dataset and (args.shards or args.source):
        raise ConfigError("--dataset: missing; --shards and --source go with it")
    host = common.machine()  # before anything loads the machine
    with common.work_folder(args.keep) as folder:
        card, dataset = (cards.load(args.dataset), args.dataset) if args.dataset else _make_dataset(args, folder)
        shards = args.shards or (Path("shards") if args.dataset else folder / "shards")
        cell = {"dataset": dataset, "backbone": args.backbone, "method": args.method}
        config = resolve.resolve(cell | {"runtime": {"shards": str(shards)}})
        facts = {"command": "loading", "machine": host}
        common.write_report(args.json, facts | _run(args, card, config, args.source or Path(card.source), host))
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser, cores = argument_parser("python -m benchmarks loading", __doc__), process.cores()
    parser.add_argument("--dataset", help="a card's name, or its path (.yaml): measure this dataset")
    parser.add_argument("--shards", type=Path, metavar="DIR", help="its shards are in DIR/<dataset> (default: shards)")
    parser.add_argument("--source", type=Path, metavar="DIR", help="its files, to be read loose (default: the card's)")
    common.add_dataset_options(parser, people=600)
    parser.add_argument("--backbone", default="emot_net", help="whose inputs are read (default: emot_net)")
    parser.add_argument("--method", default="clef", help="whose inputs are read, too (default: clef)")
    text = f"loader processes (default: one for each core, {cores})"
    parser.add_argument("--workers", type=common.positive, default=cores, metavar="N", help=text)
    parser.add_argument("--samples", type=common.positive, default=2048, metavar="N", help="people in a pass (2048)")
    parser.add_argument("--batch", type=common.positive, metavar="N", help="people in a batch (default: the recipe's)")
    text = "how long each stage is repeated (1)"
    parser.add_argument("--stage-seconds", type=float, default=1.0, metavar="S", help=text)
    text = "also measure other loaders, where they are installed"
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help=text)
    common.add_report_options(parser, "loading", rounds=5)
    return common.parse(parser, arguments)


def _make_dataset(args: argparse.Namespace, folder: Path) -> tuple[Card, str]:
    """Return the card of a dataset made and sharded in `folder`, and its path."""
    with ProgressBars("images") as progress:
        path = images.make_dataset(folder, args.people, args.image_size, 4 * args.workers, progress)
    card = cards.load(str(path))
    with ProgressBars("people") as progress:
        build.build(card, Path(card.source), folder / "shards" / card.name, process.cores(), progress)
    return card, str(path)


def _run(
    args: argparse.Namespace, card: Card, config: CellConfig, source: Path, host: Mapping[str, Any]
) -> dict[str, Any]:
    """Measure and show everything, and return it as the JSON file holds it."""
    setting = _setting(args, config)
    facts = _facts(card, config, setting)
    _show_facts(facts, host)
    one, every = stages.measure_stages(setting)
    _show_stages(one, every, setting.workers)
    with tempfile.TemporaryDirectory(prefix="clef-bench-") as scratch:
        calls, notes = contenders(setting, card, source, Path(scratch), args.peers)
        with common.in_processes(calls) as runs, ProgressBars("passes") as progress:
            rates = common.interleaved(runs, args.rounds, progress)
    results = verdicts(rates)
    sentence = bottleneck(every, common.spread(rates[JPEG]).median)
    jpegs = {name: {LOOSE: 1, CACHE: 0}.get(name, setting.jpegs_per_person) for name in rates}
    _show_loaders(rates, jpegs, setting.workers)
    out.print(sentence)
    out.print(common.verdicts_table(results))
    for note in notes:
        out.print(note, markup=False)
    return facts | {
        "stages": {"one_process": one, "all_processes": every},
        "passes": common.passes(rates),
        "verdicts": results,
        "bottleneck": sentence,
        "notes": notes,
        "jpegs_per_person": jpegs,
    }


def _setting(args: argparse.Namespace, config: CellConfig) -> Setting:
    inputs = config.inputs.images
    if not inputs:
        message = f"{config.name}: reads no color image, so there is nothing to measure; try another --backbone"
        raise ConfigError(message)
    shards = SplitShards(config.shards, "train")
    return Setting(shards, inputs, args.batch or config.batch_size, args.workers, args.samples, args.stage_seconds)


def contenders(setting: Setting, card: Card, source: Path, scratch: Path, with_peers: bool) -> tuple[Calls, list[str]]:
    """Return the calls that measure each loader, and a note for each that is left out."""
    calls: Calls = {
        CEILING: (stages.measure_stage, setting, stages.CEILING_STAGE, setting.workers),
        JPEG: (_measure_ours, setting),
    }
    notes = []
    try:
        NodeCache(str(scratch)).reserve(setting.shards.manifest, [setting.shards.name], setting.inputs)
        calls[CACHE] = (_measure_cached, setting, scratch)
    except ClefError as error:
        notes.append(f"{CACHE} left out: {error}")
    if not with_peers:
        return calls, notes
    for name in peers.PEERS:
        if hint := peers.install_hint(name):
            notes.append(f"{name} is not installed, so not compared: {hint}")
        else:
            for way in (peers.SHIPPED, peers.OURS):
                calls[f"{name}, {way}"] = (_measure_peer, name, way, setting, scratch / name)
    try:
        calls[LOOSE] = (_measure_loose, setting, peers.list_people(setting, card, source))
    except ClefError as error:
        notes.append(f"{LOOSE} left out: {str(error).splitlines()[0]}")
    return calls, notes


def _measure_ours(setting: Setting) -> float:
    return measure(stages.our_loader(setting), setting, JPEG)


def _measure_cached(setting: Setting, scratch: Path) -> float:
    cache, filled = NodeCache(str(scratch)), scratch / "filled"
    if not filled.exists():
        stages.fill_cache(setting, cache)
        filled.touch()
    return measure(stages.our_loader(setting, cache, CACHE_SHARE), setting, CACHE, CACHE_SHARE)


def _measure_peer(name: str, way: str, setting: Setting, folder: Path) -> float:
    return measure(peers.PEERS[name](setting, folder, way), setting, f"{name}, {way}")


def _measure_loose(setting: Setting, people: list[Person]) -> float:
    return measure(peers.loose_loader(setting, people), setting, LOOSE, peers.LOOSE_SHARE)


def verdicts(rates: Rates) -> list[Verdict]:
    """Return one verdict for each comparison that these contenders allow."""
    results = []
    if CEILING in rates:
        results.append(compare(rates, JPEG, CEILING, 0.9))
    if CACHE in rates:
        results.append(compare(rates, CACHE, JPEG, 3))
    for name in rates:
        way = name.rpartition(", ")[2]
        if way == peers.OURS:
            results.append(compare(rates, JPEG, name, 0.95))
        elif way == peers.SHIPPED:
            results.append(compare(rates, JPEG, name, 1, strictly=True))
    if LOOSE in rates:
        results.append(compare(rates, JPEG, LOOSE))
    return results


def bottleneck(stage_rates: Mapping[str, float], loader: float) -> str:
    """Return a sentence on the stage that takes most of a worker's time.

    `stage_rates`: the ceiling of each stage, in people a second; `loader`: the rate of the whole loader.
    """
    seconds = {name: 1 / stage_rates[name] for name in WORKER_STAGES}
    worst = max(seconds, key=lambda name: seconds[name])
    share = seconds[worst] / sum(seconds.values())
    return (
        f"{worst} is the bottleneck: {share:.0%} of a worker's time; alone it does {stage_rates[worst]:,.0f} people/s, "
        f"the whole loader from JPEG {loader:,.0f}."
    )


def _facts(card: Card, config: CellConfig, setting: Setting) -> dict[str, Any]:
    """Return what the rates depend on."""
    return {
        "data": {
            "dataset": card.name,
            "title": card.title,
            "people": setting.people,
            "source_image": setting.image_sizes[0],
            "stored_frame": setting.image_sizes[1],
            "bytes_per_member": setting.member_bytes,
            "page_cache": "warm",
        },
        "setting": {
            "cell": config.name,
            "inputs": {name: {"size": list(c.size), "flip": c.flip} for name, c in setting.inputs.items()},
            "inputs_left_out": [name for name in config.inputs.present if name not in setting.inputs],
            "batch": setting.batch_size,
            "workers": setting.workers,
            "people_in_a_pass": setting.timed_batches() * setting.batch_size,
        },
    }


def _show_facts(facts: Mapping[str, Any], host: Mapping[str, Any]) -> None:
    data, setting = facts["data"], facts["setting"]
    common.show_machine(host)
    members = ", ".join(f"{kind} {size / 1024:.1f} KB" for kind, size in data["bytes_per_member"].items())
    source, stored = ("x".join(map(str, data[name])) for name in ("source_image", "stored_frame"))
    delivery = f"batches of {setting['batch']}; {setting['workers']} workers"
    lines = [
        f"{data['title']}: {data['people']} people read; images {source}, stored {stored}; {members}; page cache warm",
        f"{setting['cell']}: {', '.join(setting['inputs'])}; {delivery}",
    ]
    if left_out := setting["inputs_left_out"]:
        lines.append(f"not color images, so left out: {', '.join(left_out)}")
    for line in lines:
        out.print(line, markup=False)


def _show_stages(one: Mapping[str, float], every: Mapping[str, float], workers: int) -> None:
    table = common.make_table("stages alone, people/s", "stage", "1 process", f"{workers} processes (ceiling)")
    for name in every:
        table.add_row(name, f"{one[name]:,.0f}" if name in one else "", f"{every[name]:,.0f}")
    out.print(table)


def _show_loaders(rates: Rates, jpegs: Mapping[str, float], workers: int) -> None:
    """Show people a second, JPEGs a second (`jpegs`: how many for each person), and how ours from JPEG compares."""
    decoded = {name: f"{common.spread(rates[name]).median * count:,.0f}" for name, count in jpegs.items()}
    others: Sequence[str] = [name for name in rates if name not in (JPEG, CACHE)]
    times = {name: f"{common.format_number(compare(rates, JPEG, name).ratio.median)}×" for name in others}
    columns = {"JPEGs/s": decoded, f"{JPEG} is": times}
    out.print(common.rates_table(f"whole loaders, {workers} workers", rates, columns))
