"""training: what our step loop costs beside a hand-written one of bare PyTorch

Both train the same tiny model on the same batches, which lie in memory: what is left is the loop itself. Ours logs,
looks after numbers that are not finite, signals, clocks and the watchdog; the bare one does nothing of the kind.
"""

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from clef import cards, cell
from clef.bench import machine, options, rounds
from clef.console import Steps, out
from clef.data import writer
from clef.datasets.demo import generate
from clef.overrides import nest

BAR = 300.0
"""Microseconds a step that our loop may cost on top."""
JSON = Path("results/bench/train.json")
DATASET: Literal["caer_s_demo"] = "caer_s_demo"
PEOPLE = 210
TINY: dict[str, Any] = nest(
    {
        "dataset": DATASET,
        "backbone": {"name": "caer_net", "width": 0.0625},
        "method": {"name": "vanilla"},
        "inputs.face.size": [24, 24],
        "inputs.scene_without_face": {"size": [28, 36], "crop": [24, 24]},
        "batch_size": 4,
        "epochs": 100_000,
    }
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--pairs", type=options.positive, default=201, help="rounds; medians are of so many (201)")
    parser.add_argument("--steps", type=options.positive, default=40, help="steps of each loop in a round (40)")
    parser.add_argument("--json", type=Path, default=JSON, metavar="PATH", help=f"default: {JSON}")


def run(args: argparse.Namespace) -> int:
    """Measure, show and write."""
    from clef.bench import report

    host = machine.facts()
    report.show_machine(host)
    with tempfile.TemporaryDirectory(prefix="clef-bench-") as folder:
        seconds = _measure(args, Path(folder))
    extra = [1e6 * (ours - bare) for ours, bare in zip(seconds["ours"], seconds["bare"], strict=True)]
    overhead = rounds.spread(extra)
    loops = {name: rounds.spread([1e6 * value for value in values]) for name, values in seconds.items()}
    out.print(report.steps_table(loops, overhead, BAR))
    facts = {"steps": args.steps, "pairs": args.pairs, "bar": BAR, "met": overhead.median <= BAR}
    microseconds = {name: asdict(value) for name, value in (loops | {"overhead": overhead}).items()}
    microseconds["overhead"]["rounds"] = extra
    report.write(args.json, {"machine": host, **facts, "microseconds_a_step": microseconds})
    return 0


def _measure(args: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Seconds a step of each loop, one a round."""
    card = cards.load(DATASET)
    generate(DATASET, folder / "source", people=PEOPLE, workers=machine.cores())
    with Steps("people") as progress:
        writer.build(card, folder / "source", folder / "shards" / card.name, machine.cores(), progress)
    config = cell.resolve({**TINY, "runtime": {"shards": str(folder / "shards"), "workers": 0, "threads": 1}})
    from clef.bench.loops import both  # torch

    with both(config, folder / "cell", args.steps) as loops, Steps("passes") as progress:
        return rounds.interleaved(loops, args.pairs, progress)
