"""`python -m clef.shard --dataset NAME --check`: its options, and the run from reading to the report."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from clef import cards, datasets, io
from clef.cards import LEAK_FREE, Card
from clef.console import Steps
from clef.data.check import reading, survey
from clef.data.check.examine import examine
from clef.data.check.report import Report
from clef.data.check.show import show
from clef.errors import ConfigError, DataError

NEAR = 16
"""Of 256 bits. In 99 of 100 cases the same photograph as JPEG of quality 50, or at a quarter of its size, stays within
16. Different photographs are some 128 apart; crops of the same one that overlap, more than 24."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the check."""
    group = parser.add_argument_group("looking at a source before it is sharded")
    group.add_argument(
        "--check", action="store_true", help="report what is listed, what is wrong, what leaks; shard nothing"
    )
    group.add_argument("--json", metavar="PATH", type=Path, help="with --check: write the report there, too")
    group.add_argument(
        "--near",
        type=int,
        metavar="BITS",
        help=f"with --check: frames look the same up to so many of 256 bits (default: {NEAR})",
    )


def wanted(args: argparse.Namespace) -> bool:
    """Whether the check was asked for. ConfigError for an option of it without it."""
    if not args.check and (args.json or args.near is not None):
        raise ConfigError("--json and --near are options of --check: add it, or leave them out")
    return bool(args.check)


def run(args: argparse.Namespace, card: Card, policies: dict[str, str]) -> int:
    """Check the source of `card`, as `args.protocol` has it. Returns 3 if a rule would stop sharding."""
    source = Path(args.source or card.source)
    datasets.draw(card, source, args.workers)
    variants = {name: cards.load(args.dataset, name, policies) for name in (LEAK_FREE, *card.protocols)}
    near = NEAR if args.near is None else args.near
    report = look(variants, args.protocol, source, Path(args.cues or source), args.workers, near)
    if args.json:
        io.write(args.json, report.json())
    show(report)
    return DataError.exit_code if report.stops else 0


def look(
    variants: Mapping[str, Card], protocol: str, source: Path, cues: Path, workers: int = 1, near: int = NEAR
) -> Report:
    """The report on `source` under `protocol`, one of the card's `variants`. Raises DataError, ConfigError."""
    if not 0 <= near < survey.BITS // 2:
        raise ConfigError(f"--near {near}: from 0 to {survey.BITS // 2 - 1} bits are expected")
    with Steps("protocols") as progress:
        sources = reading.read(variants, protocol, source, cues, progress)
    images = reading.images(sources.values())
    with Steps("images") as progress:
        max_pixels = variants[protocol].storage.max_pixels
        looks = survey.survey(images, max_pixels, workers, progress)
    with Steps("pairs of splits") as progress:
        return examine(sources, protocol, source, looks, near, progress)
