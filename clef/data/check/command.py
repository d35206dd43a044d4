"""`python -m clef.shard --dataset NAME --check`: its options, and the run from reading to the report."""

import argparse
from pathlib import Path

from clef import cards, datasets, files
from clef.cards import LEAK_FREE, Card
from clef.console import Steps
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
        default=NEAR,
        metavar="BITS",
        help=f"with --check: frames look the same up to so many of 256 bits (default: {NEAR})",
    )


def run(args: argparse.Namespace, card: Card, policies: dict[str, str]) -> int:
    """Check the source of `card`, as `args.protocol` has it. Returns 3 if a rule would stop sharding."""
    from clef.data.check import reading, show, survey  # NumPy and SciPy: not for --help
    from clef.data.check.examine import examine

    if not 0 <= args.near < survey.BITS / 2:
        raise ConfigError(f"--near {args.near}: from 0 to {survey.BITS // 2 - 1} bits are expected")
    source = Path(args.source or card.source)
    datasets.draw(card, source, args.workers)
    variants = {name: cards.load(args.dataset, name, policies) for name in (LEAK_FREE, *card.protocols)}
    with Steps("protocols") as progress:
        sources = reading.read(variants, source, Path(args.cues or source), progress)
    images = {person.image for each in sources.values() for people in each.people.values() for person in people}
    with Steps("images") as progress:
        looks = survey.survey(
            images, card.storage.max_pixels, args.workers, lambda done, all_: progress("looked at", done, all_)
        )
    with Steps("pairs of splits") as progress:
        report = examine(sources, args.protocol, source, looks, args.near, progress)
    if args.json:
        files.write(args.json, report.json())
    show.show(report)
    return DataError.exit_code if report.stops else 0
