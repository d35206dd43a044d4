"""`python -m clef.shard --stats`: describe a set of shards in one HTML page. Imports no torch."""

import argparse
from pathlib import Path

from clef.console import ProgressBars, check_outputs, out
from clef.datasets.cards import Card
from clef.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the page."""
    parser.add_argument(
        "--stats",
        nargs="?",
        const="",
        metavar="PATH",
        help="describe existing shards in one HTML page (default: OUT/<dataset>.html)",
    )
    parser.add_argument(
        "--stats-samples", type=int, default=24, metavar="N", help="people shown of each split (default: 24)"
    )
    parser.add_argument("--stats-seed", type=int, default=0, metavar="N", help="which people those are (default: 0)")
    parser.add_argument("--no-images", action="store_true", help="leave the people out of the page")


def write_page(args: argparse.Namespace, card: Card, target: Path) -> int:
    """Write the page of the shards in the folder `target`. Return the exit code. Raises ShardError, ConfigError."""
    from clef import io
    from clef.data import manifest as manifests
    from clef.data.shards import SplitShards
    from clef.sharding.stats import numbers, page

    for name in ("stats_samples", "stats_seed"):
        if (value := getattr(args, name)) < 0:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: at least 0 is expected")
    path = Path(args.stats) if args.stats else target.with_name(f"{target.name}.html")
    check_outputs({"--stats": path if args.stats else None}, [target], args.force)
    manifest = manifests.load(target)
    splits, sheets = [], {}
    with ProgressBars("people") as progress:
        for name in manifest.splits:
            shards = SplitShards(target, name, manifest)
            splits.append(numbers.count_split(shards, progress))
            if not args.no_images:
                sheets[name] = page.make_sheet(shards, splits[-1], args.stats_samples, args.stats_seed)
    io.write(path, page.render(card, manifest, splits, sheets))
    out.print(f"written to {path}", markup=False, soft_wrap=True)
    if not args.no_images:
        out.print("it shows people: if the dataset may not be shared, keep it to yourself, or add --no-images")
    return 0
