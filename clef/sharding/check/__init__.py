"""`python -m clef.shard --check`: look at a source before anything is sharded.

The report says what is listed, what is wrong with it, what leaks between splits and what would be stored. Nothing is
written, and no rule stops the check: one that would stop sharding is reported. Imports no torch.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from clef import datasets, io
from clef.console import ProgressBars, check_outputs
from clef.datasets import cards
from clef.datasets.cards import LEAK_FREE, Card
from clef.errors import ConfigError, DataError
from clef.sharding.check import scan
from clef.sharding.check.report import Report, build_report
from clef.sharding.check.show import print_report

DEFAULT_NEAR_BITS = 16
"""Up to this many different bits of 256, two images count as similar. In 99 of 100 cases the same photograph as JPEG of
quality 50, or at a quarter of its size, differs in at most 16. Different photographs differ in about 128, overlapping
crops of one photograph in more than 24."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the check."""
    group = parser.add_argument_group("looking at a source before it is sharded")
    group.add_argument(
        "--check", action="store_true", help="report what is listed, what is wrong, what leaks; shard nothing"
    )
    group.add_argument("--json", metavar="PATH", type=Path, help="with --check: write the report there, too")
    group.add_argument(
        "--near",
        type=int,
        metavar="BITS",
        help=f"with --check: frames whose hashes differ in at most BITS of 256 bits look the same "
        f"(default: {DEFAULT_NEAR_BITS})",
    )


def requested(args: argparse.Namespace) -> bool:
    """Return whether the check was asked for. Raises ConfigError for one of its options without `--check`."""
    if not args.check and (args.json or args.near is not None):
        raise ConfigError("--json and --near are options of --check: add it, or leave them out")
    return bool(args.check)


def run_check(args: argparse.Namespace, card: Card, policies: dict[str, str]) -> int:
    """Check the source of a card and print the report. Return the exit code: 3 if a rule would stop sharding."""
    source = Path(args.source or card.source)
    card_file = [Path(args.dataset)] if args.dataset.endswith(".yaml") else []
    check_outputs({"--json": args.json}, [source, Path(args.cues or source), *card_file], args.force)
    datasets.generate_demo(card, source, args.workers)
    variants = {name: cards.load(args.dataset, name, policies) for name in (LEAK_FREE, *card.protocols)}
    near = DEFAULT_NEAR_BITS if args.near is None else args.near
    report = check_source(variants, args.protocol, source, Path(args.cues or source), args.workers, near)
    if args.json:
        io.write(args.json, report.json())
    print_report(report)
    return DataError.exit_code if report.stops else 0


def check_source(
    variants: Mapping[str, Card],
    protocol: str,
    source: Path,
    cues: Path,
    workers: int = 1,
    near: int = DEFAULT_NEAR_BITS,
) -> Report:
    """Return the report on a source under one protocol.

    Args:
        variants: the card of every protocol, by the protocol's name.
        protocol: the protocol to report on.
        source: the folder of the dataset.
        cues: the folder of the cue files.
        workers: how many processes open images.
        near: images count as similar up to this many different bits.

    Raises:
        ConfigError: `near` is out of range.
        DataError: the source can't be read under the protocol.
    """
    if not 0 <= near < scan.BITS // 2:
        raise ConfigError(f"--near {near}: from 0 to {scan.BITS // 2 - 1} bits are expected")
    with ProgressBars("protocols") as progress:
        sources = scan.read_protocols(variants, protocol, source, cues, progress)
    images = scan.all_images(sources.values())
    with ProgressBars("images") as progress:
        max_pixels = variants[protocol].storage.max_pixels
        scans = scan.scan_images(images, max_pixels, workers, progress)
    with ProgressBars("pairs of splits") as progress:
        return build_report(sources, protocol, source, scans, near, progress)
