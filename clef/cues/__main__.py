"""`python -m clef.cues --dataset emotic --cue pose`: find a cue of every person or image, before sharding.

It writes <source>/cues/<cue>.jsonl, line by line; run again, it continues where it stopped. Find faces first:
landmarks and pose use them. docs/cues.md says what each cue is, which backbones read it, and which environment
MediaPipe needs. For an image of yours, or a folder of them, which `clef.predict --cues` then reads:

  .venv-cues/bin/python -m clef.cues --images photo.jpg --box 120,40,310,480 --cue pose --out photo_cues
"""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from clef import datasets
from clef.console import ProgressBars, err, out
from clef.cues import files, own_images
from clef.cues.extractor import EXTRACTORS, Extractor, ExtractorSettings, find_extractor
from clef.cues.run import ExtractionSummary, extract_cue
from clef.datasets import cards, splits
from clef.datasets.person import Person
from clef.datasets.policies import Policies, parse_policies
from clef.errors import ConfigError, argument_parser, run_command


@dataclass(frozen=True)
class Root:
    """One root of a dataset, whose splits share their cue files; or a folder of images that are in no dataset."""

    label: str
    source: Path
    out: Path
    people: tuple[Person, ...]
    policies: Policies


def main() -> int:
    """Extract a cue, or list the extractors. Returns the exit code."""
    args = _arguments()
    if args.list:
        _print_extractors()
        return 0
    extractor = find_extractor(args.cue, args.extractor)(ExtractorSettings(args.weights, args.device))
    summaries = {}
    for root in [_images_root(args, extractor)] if args.images else _roots(args):
        with ProgressBars("images" if extractor.scope == "image" else "people") as progress:
            advance = partial(progress, root.label)
            summaries[root.label] = extract_cue(
                extractor, root.people, root.source, root.out, args.limit, advance, root.policies
            )
        out.print(f"written: {files.cue_path(root.out, extractor.cue)}", markup=False, soft_wrap=True)
    _print_summary(extractor, summaries)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argument_parser("python -m clef.cues", __doc__)
    parser.add_argument(
        "--dataset", type="path", help="a card in shards/ (emotic, caer_s, ...), or a card's path (.yaml)"
    )
    parser.add_argument("--images", type=Path, help="an image of yours or a folder of them, instead of a dataset")
    own_images.add_arguments(parser)
    parser.add_argument("--protocol", default=cards.LEAK_FREE, help="how the set is cut into splits, as for clef.shard")
    parser.add_argument(
        "--policy",
        action="append",
        default=[],
        metavar="RULE=WORD",
        help="what is done about a fault, as for clef.shard",
    )
    parser.add_argument("--cue", help=", ".join(files.ALL_CUES))
    parser.add_argument("--extractor", help="one of those in --list, or your own as module:Class (default: the first)")
    parser.add_argument("--weights", type=Path, help="the extractor's weights file, if it takes one")
    parser.add_argument("--source", type="path", help="the dataset's folder (default: the card's, below data/)")
    parser.add_argument(
        "--out", type=Path, help="write below this folder, not into the source (then: clef.shard --cues)"
    )
    parser.add_argument("--limit", type=int, help="stop after about this many in each root; run again to continue")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu"), help="auto: a GPU where there is one")
    parser.add_argument("--list", action="store_true", help="show the extractors, and what each still needs")
    args = parser.parse_args()
    if not args.list and not (args.cue and bool(args.dataset) != bool(args.images)):
        raise ConfigError("--cue and either --dataset or --images are needed, or --list")
    if args.dataset and (args.box or args.face or args.boxes):
        raise ConfigError("--box, --face and --boxes: are options of --images")
    if args.limit is not None and args.limit < 1:
        raise ConfigError(f"--limit {args.limit}: at least 1 is expected")
    return args


def _roots(args: argparse.Namespace) -> list[Root]:
    """Read all splits of the dataset, and return their people by root."""
    card = cards.load(args.dataset, args.protocol, parse_policies(args.policy))
    source = Path(args.source or card.source)
    target = args.out or source
    datasets.generate_demo(card, source)
    people: dict[str, list[Person]] = {}
    for name, reading in splits.read(card, source).items():
        people.setdefault(card.splits[name].root, []).extend(reading.people)
    return [
        Root(
            card.name if name == "." else f"{card.name}/{name}",
            source / name,
            target / name,
            tuple(listed),
            card.policies,
        )
        for name, listed in people.items()
    ]


def _images_root(args: argparse.Namespace, extractor: Extractor) -> Root:
    """Return the people whose boxes are given in images of the user's own; for a cue of images, one in each."""
    people_of = own_images.list_people(args.images, args)
    if extractor.scope == "image":
        people = [given[0] if given else Person(str(image), image, None, ()) for image, given in people_of.items()]
    else:
        people = [person for given in people_of.values() for person in given]
    if not people:
        raise ConfigError(
            f"--images {args.images}: say who is in it with --box x1,y1,x2,y2, or --boxes CSV of a folder"
        )
    source = own_images.source_folder(args.images)
    return Root("images", source, args.out or source, tuple(people), Policies(image_rotated="turned"))


def _print_summary(extractor: Extractor, summaries: dict[str, ExtractionSummary]) -> None:
    title = f"{extractor.cue} by {extractor.name} {extractor.version}"
    table = Table(title=escape(title.strip()), title_justify="left")
    unit = "images" if extractor.scope == "image" else "people"
    for column in ("source", unit, "found", "not found", "not looked at", "images unreadable"):
        table.add_column(column, justify="left" if column == "source" else "right")
    for name, summary in summaries.items():
        numbers = (summary.keys, summary.found, summary.not_found, summary.not_tried, len(summary.unreadable))
        table.add_row(escape(name), *(f"{n:,}" for n in numbers))
    out.print(table)
    for name, summary in summaries.items():
        for note, count in summary.notes.items():
            out.print(f"  {name}: {count:,}  {note}", markup=False)
        for image, reason in list(summary.unreadable.items())[:10]:
            err.print(f"  {image}: {reason}", markup=False, soft_wrap=True)
        if (more := len(summary.unreadable) - 10) > 0:
            err.print(f"  {name}: and {more:,} more", markup=False)


def _print_extractors() -> None:
    table = Table(title="extractors; the first of a cue is its default", title_justify="left")
    for column in ("cue", "extractor", "a value for each", "state"):
        table.add_column(column, overflow="fold")
    for cue, names in EXTRACTORS.items():
        for name in names:
            extractor = find_extractor(cue, name)
            scope = "person" if cue in files.PERSON_CUES else "image"
            table.add_row(cue, name, scope, escape(extractor.missing() or "ready"))
    out.print(table)


if __name__ == "__main__":
    run_command(main)
