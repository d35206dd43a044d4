"""loading: each stage alone, the whole loader, and the same images through other loaders

Without --dataset, a set of photograph-like images is drawn, sharded and removed again. docs/benchmarks.md says what
each row means. Measure on a machine that does nothing else.
"""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import common, source
from clef.config import CellConfig, resolve
from clef.console import Steps, out
from clef.datasets import cards
from clef.datasets.cards import Card
from clef.errors import ConfigError

if TYPE_CHECKING:
    from benchmarks.common import Setting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    cores = common.cores()
    parser.add_argument("--dataset", help="a card's name, or its path (.yaml): measure this set, not a drawn one")
    parser.add_argument("--shards", type=Path, metavar="DIR", help="its shards are in DIR/<dataset> (default: shards)")
    parser.add_argument("--source", type=Path, metavar="DIR", help="its files, to be read loose (default: the card's)")
    common.add_drawn(parser, people=600)
    parser.add_argument("--backbone", default="emot_net", help="whose inputs are read (default: emot_net)")
    parser.add_argument("--method", default="clef", help="likewise (default: clef)")
    text = f"loader processes (default: one for each core, {cores})"
    parser.add_argument("--workers", type=common.positive, default=cores, metavar="N", help=text)
    parser.add_argument("--samples", type=common.positive, default=2048, metavar="N", help="people in a pass (2048)")
    parser.add_argument("--batch", type=common.positive, metavar="N", help="people in a batch (default: the recipe's)")
    text = "also other loaders, where they are installed"
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help=text)
    common.add_measured(parser, "data")


def run(args: argparse.Namespace) -> int:
    """Measure, show and write."""
    if not args.dataset and (args.shards or args.source):
        raise ConfigError("--dataset: missing; --shards and --source go with it")
    host = common.facts()  # before anything loads the machine
    with common.folder(args.keep) as folder:
        card, dataset = (cards.load(args.dataset), args.dataset) if args.dataset else _drawn(args, folder)
        shards = args.shards or (Path("shards") if args.dataset else folder / "shards")
        config = resolve.resolve({
            "dataset": dataset, "backbone": args.backbone, "method": args.method, "runtime": {"shards": str(shards)}
        })  # fmt: skip
        _measure(args, card, config, args.source or Path(card.source), host)
    return 0


def _drawn(args: argparse.Namespace, folder: Path) -> tuple[Card, str]:
    """A drawn set and its shards."""
    from clef.sharding.build import prepare  # torch, by way of webdataset; --help need not wait for it

    with Steps("images") as progress:
        path = source.make(folder, args.people, args.image_size, 4 * args.workers, common.cores(), progress)
    card = cards.load(str(path))
    with Steps("people") as progress:
        prepare(card, Path(card.source), folder / "shards" / card.name, common.cores(), progress)
    return card, str(path)


def _measure(args: argparse.Namespace, card: Card, config: CellConfig, origin: Path, host: dict[str, Any]) -> None:
    from benchmarks import peers, report, stages  # torch

    setting = _setting(args, config)
    facts = {"command": "data", "machine": host, **_facts(card, config, setting)}
    report.show_facts(facts)
    one, every = stages.all_alone(setting)
    out.print(report.stages_table(one, every, setting.workers))
    with tempfile.TemporaryDirectory(prefix="clef-bench-") as copies:
        cached, notes = peers.cached(setting, Path(copies))
        runs = peers.ours(setting) | cached
        if args.peers:
            runs |= peers.others(setting, Path(copies))
            files, left_out = peers.loose_files(setting, card, origin)
            runs |= files
            notes += left_out + peers.missing()
        with common.apart(runs) as apart, Steps("passes") as progress:
            rates = common.interleaved(apart, args.pairs, progress)
    found = peers.verdicts(rates)
    sentence = peers.bottleneck(every, common.spread(rates[peers.JPEG]).median)
    images = peers.images_per_person(setting, list(rates))
    out.print(report.loaders_table(rates, images, setting.workers))
    out.print(sentence)
    out.print(report.verdicts_table(found))
    for note in notes:
        out.print(note, markup=False)
    stages_found = {"one_process": one, "all_processes": every}
    content = facts | {"stages": stages_found, **report.as_json(rates, found), "bottleneck": sentence, "notes": notes}
    report.write(args.json, content | {"jpegs_per_person": images})


def _setting(args: argparse.Namespace, config: CellConfig) -> "Setting":
    from benchmarks.common import Setting
    from clef.data.shards import SplitShards

    images = config.inputs.images
    if not images:
        raise ConfigError(
            f"{config.name}: reads no colour image, so there is nothing to measure; try another --backbone"
        )
    batch = args.batch or config.batch_size
    return Setting(SplitShards(config.shards, "train"), images, batch, args.workers, args.samples)


def _facts(card: Card, config: CellConfig, setting: "Setting") -> dict[str, Any]:
    """What the rates rest on."""
    return {
        "data": {
            "dataset": card.name,
            "title": card.title,
            "people": setting.places,
            "source_image": setting.sizes[0],
            "stored_frame": setting.sizes[1],
            "bytes_per_member": setting.member_bytes,
            "page_cache": "warm",
        },
        "setting": {
            "cell": config.name,
            "inputs": {name: {"size": list(c.size), "flip": c.flip} for name, c in setting.inputs.items()},
            "inputs_left_out": [name for name in config.inputs.present if name not in setting.inputs],
            "batch": setting.batch,
            "workers": setting.workers,
            "people_in_a_pass": setting.timed() * setting.batch,
        },
    }
