"""`python -m clef.shard --dataset emotic`: a dataset on disk becomes shards of masked frames and subject crops."""

import argparse
from pathlib import Path

from rich.table import Table

from clef import datasets, process
from clef.console import ProgressBars, add_force_option, err, out
from clef.data.manifest import Manifest
from clef.datasets import cards
from clef.datasets.cards import Card, Release
from clef.datasets.policies import describe_counts, parse_policies
from clef.errors import ConfigError, ShardError, argument_parser, run_command
from clef.sharding import build, check, shard_plan, stats
from clef.sharding.build import prepare
from clef.sharding.check.scan import SplitCounts, nearest_release
from clef.sharding.reshard import reshard
from clef.sharding.verify import NOT_STATED, verify

MEGABYTE = 1_000_000
_OTHER_ACTIONS = ("check", "verify", "part", "finish", "reshard", "stats")
"""The options that do something else than making the whole set; one at a time."""
_CUE_COLUMNS = {"landmarks": "landmarks.npy", "pose": "pose.npy", "regions": "regions.npy", "depth": "depth.png"}
"""The columns of the report for members that not every set has."""


def main() -> int:
    """Run the command and return its exit code."""
    args = _parse_arguments()
    policies = parse_policies(args.policy)
    card = cards.load(args.dataset, args.protocol, policies)
    if check.requested(args):
        return check.run_check(args, card, policies)
    target = Path(args.out) / card.folder
    if args.verify:
        return _verify(target, args.workers)
    if args.stats is not None:
        return stats.write_page(args, card, target)
    if args.reshard is not None:
        return _reshard(card, target, args)
    source, cues = Path(args.source or card.source), Path(args.cues) if args.cues else None
    if args.part:
        return _build_part(card, source, target, args, cues)
    if args.finish:
        manifest = build.finish_parts(card, source, target, cues)
    else:
        with ProgressBars("people") as progress:
            manifest = prepare(card, source, target, args.workers, progress, cues)
    _report(card, manifest, target)
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argument_parser("python -m clef.shard", __doc__)
    parser.add_argument(
        "--dataset",
        type="path",
        required=True,
        help="a card in shards/ (emotic, caer_s, ...), or a card's path (.yaml)",
    )
    parser.add_argument(
        "--protocol",
        default=cards.LEAK_FREE,
        help="how the set is cut into splits and counted (default: leak_free; see shards/README.md)",
    )
    parser.add_argument(
        "--policy",
        action="append",
        default=[],
        metavar="RULE=WORD",
        help="what is done about a fault (repeatable; see shards/README.md)",
    )
    parser.add_argument("--source", type="path", help="the dataset's folder (default: the card's, below data/)")
    parser.add_argument(
        "--cues", type="path", help="the folder that python -m clef.cues --out wrote to (default: the source)"
    )
    parser.add_argument("--out", type="path", default="shards", help="shards go to OUT/<dataset> (default: shards)")
    parser.add_argument(
        "--workers", type=int, default=process.cores(), help="processes (default: one for each core it may use)"
    )
    parser.add_argument("--verify", action="store_true", help="read every byte of existing shards against the manifest")
    parser.add_argument("--part", metavar="I/N", help="make part I of N (1/N to N/N); --finish joins the parts")
    parser.add_argument("--finish", action="store_true", help="join the parts into a complete set")
    parser.add_argument(
        "--reshard", type=int, metavar="SAMPLES", help="copy existing shards to --to, with SAMPLES samples in each"
    )
    parser.add_argument("--to", help="with --reshard: the copy goes to TO/<dataset>")
    stats.add_arguments(parser)
    check.add_arguments(parser)
    add_force_option(parser)
    args = parser.parse_args()
    if args.workers < 1:
        raise ConfigError(f"--workers {args.workers}: at least 1 is expected")
    chosen = [f"--{name}" for name in _OTHER_ACTIONS if getattr(args, name) not in (None, False)]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)}: one at a time")
    if (args.reshard is None) != (args.to is None):
        raise ConfigError("--reshard and --to need each other: --reshard SAMPLES --to FOLDER")
    return args


def _build_part(card: Card, source: Path, target: Path, args: argparse.Namespace, cues: Path | None) -> int:
    part = shard_plan.parse_part(args.part)
    datasets.generate_demo(card, source, args.workers)
    with ProgressBars("people") as progress:
        jobs = build.build_part(card, source, target, part, args.workers, progress, cues)
    people = sum(job.size for job in jobs)
    out.print(
        f"{target}: part {part} is complete: {len(jobs)} shards, {people:,} people. When all parts are, run --finish"
    )
    return 0


def _reshard(card: Card, target: Path, args: argparse.Namespace) -> int:
    copy = Path(args.to) / card.folder
    with ProgressBars("people") as progress:
        manifest = reshard(target, args.reshard, copy, args.workers, progress)
    shards = sum(len(split.shards) for split in manifest.splits.values())
    out.print(f"{copy}: {shards} shards of up to {args.reshard:,} samples; their content is that of {target}")
    return 0


def _verify(target: Path, workers: int) -> int:
    with ProgressBars("MB") as progress:

        def progress_in_megabytes(name: str, done: int, total: int) -> None:
            progress(name, -(-done // MEGABYTE), -(-total // MEGABYTE))

        faults = verify(target, workers, progress_in_megabytes)
    if faults:
        plural = "s" if len(faults) > 1 else ""
        foreign = all(fault.endswith(NOT_STATED) for fault in faults)
        again = "restore what is damaged from a copy, or make the shards again in another folder (--out)"
        remedy = "the set itself is complete: move what isn't part of it elsewhere" if foreign else again
        raise ShardError("\n  ".join([f"{target}: {len(faults)} fault{plural}:", *faults, remedy]))
    out.print(f"{target}: complete: every byte is as it was written")
    return 0


def _report(card: Card, manifest: Manifest, target: Path) -> None:
    """Print what was stored and left out, and how far the counts are from those of the nearest release."""
    table = Table(title=f"{card.title} in {target}", title_justify="left")
    splits = manifest.splits.values()
    cues = {name: kind for name, kind in _CUE_COLUMNS.items() if any(split.members[kind] for split in splits)}
    for column in ("split", "shards", "listed", "stored", "with face", *cues, "boxes"):
        table.add_column(column, justify="left" if column in ("split", "boxes") else "right")
    for name, split in manifest.splits.items():
        numbers = [len(split.shards), split.listed, split.samples, split.members["face.jpg"]]
        numbers += [split.members[kind] for kind in cues.values()]
        table.add_row(name, *(f"{n:,}" for n in numbers), split.box_kind)
    out.print(table)
    if manifest.cues:
        made_by = "; ".join(f"{cue} by {maker}" for cue, maker in manifest.cues.items())
        out.print(f"cues: {made_by}", markup=False, soft_wrap=True)
    for name, split in manifest.splits.items():
        reasons = {f"left out: {reason}": count for reason, count in describe_counts(split.left_out).items()}
        for note, count in (reasons | describe_counts(split.notes)).items():
            out.print(f"  {name:<10} {count:>6,}  {note}")
    people = {title: Release(people=release.people) for title, release in card.releases.items()}
    listed = {name: SplitCounts(0, split.listed, {}, split.box_kind) for name, split in manifest.splits.items()}
    if nearest := nearest_release(people, listed):
        for difference in nearest.differing:
            counts = f"{difference.found:,} people listed, {nearest.name} has {difference.expected:,}"
            err.print(f"[yellow]note:[/] {difference.split}: {counts}; run --check for details")


if __name__ == "__main__":
    run_command(main)
