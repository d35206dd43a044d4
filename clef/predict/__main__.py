"""`python -m clef.predict IMAGE --cell CELL`: a trained cell's prediction for each person of an image, and its parts.

CELL is a cell's folder, its NAME-SIGNATURE below runs/, or a part of that which only one cell has. For example

  python -m clef.predict photo.jpg --box 120,40,310,480 --cell emotic-emot_net-clef
  python -m clef.predict photo.jpg --cell emotic-emot_net-clef --panel photo.png
  python -m clef.predict photos/ --boxes people.csv --cell emotic-emot_net-clef --out predictions.csv

A box is a subject's, in pixels (left, top, right, bottom) of the image as viewers show it: turned as its EXIF data
says. Without one, everyone whom the detector finds is a subject (python -m clef.weights --fetch coco-fasterrcnn). The
extractors of docs/cues.md look for everything else that the cell reads of a person, unless --cues names a folder with
cue files; what is not found is named after the box. If the cell reads the other people of the image (EmotiCon with
third: agents), the detector looks for them even if a box is given. If a face was the subject in the cell's shards
(CAER-S without person boxes), give the face as --box too: the detector finds whole people. The image is cut, masked
and stored as the shards of the cell's dataset are.

Of a folder, an image that can't be used doesn't stop the others: --out says what was wrong with it, and the command
ends with that error's exit code (3, or 5) after all are done.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from clef import fonts
from clef.cells import lookup
from clef.console import ProgressBars, add_force_option, check_outputs, out
from clef.errors import ClefError, ConfigError, DataError, argument_parser, run_command

if TYPE_CHECKING:  # --help must not wait for torch
    from clef.cues.files import CueName
    from clef.cues.own_images import PeopleByImage
    from clef.datasets.person import Person
    from clef.engine.model_io import TrainedModel
    from clef.geometry import Box
    from clef.predict.panel import PersonPrediction
    from clef.predict.people import CueSources, PersonFinder


SHOWN = 10
"""How many images that failed are named at the end."""


def main() -> int:
    """Print or write the prediction for each person, and draw the panel. Returns the exit code."""
    args = _arguments()
    from clef.cues import own_images

    people_of = own_images.list_people(args.image, args)
    folder = lookup.find_cell(args.cell)
    inputs = [*people_of, folder, *filter(None, (args.boxes, args.cues))]
    check_outputs({"--panel": args.panel, "--out": args.out}, inputs, args.force)
    import clef  # not at the top: --help must not wait for torch
    from clef.predict.people import PersonFinder

    model = clef.load(folder, args.checkpoint, args.device)
    given = [person for people in people_of.values() for person in people]
    root = own_images.source_folder(args.image)
    finder = PersonFinder(model.config, given, _cue_sources(args), root, args.device)
    out.print(f"{folder.name}: {args.image}", markup=False, soft_wrap=True)
    if args.image.is_dir():
        return _predict_folder(args, people_of, model, finder)
    return _predict_one(args, people_of[args.image], model, finder)


def _predict_one(args: argparse.Namespace, given: list["Person"], model: "TrainedModel", finder: "PersonFinder") -> int:
    """Print the predictions for one image; write and draw them where that is asked for."""
    from clef.predict import panel, records
    from clef.predict.images import predict_image

    predicted = predict_image(args.image, given, model, finder)
    for number, one in enumerate(predicted, 1):
        without = f", without {', '.join(one.without)}" if one.without else ""
        out.print(_table(f"person {number}, box {_format_box(one.person.box)}{without}", one.prediction))
    if args.panel:
        boxes = [one.person.box for one in predicted if one.person.box]
        panel.save_panel(args.panel, args.image, boxes, [one.prediction for one in predicted])
        for line in (f"panel: {args.panel}", *fonts.remarks(" ".join(model.classes))):
            out.print(line, markup=False, soft_wrap=True)
    if args.out:
        records.write(args.out, records.make_records(args.image.name, predicted))
        out.print(f"written: {args.out}", markup=False, soft_wrap=True)
    return 0


def _predict_folder(
    args: argparse.Namespace, people_of: "PeopleByImage", model: "TrainedModel", finder: "PersonFinder"
) -> int:
    """Write the predictions for all images of a folder; if interrupted, for those that are done.

    Raises one error that names the images that failed.
    """
    from clef.cues.files import image_key
    from clef.predict import records
    from clef.predict.images import predict_images

    rows: list[records.Record] = []
    failed: dict[str, ClefError] = {}
    done = 0
    try:
        with ProgressBars("images") as progress:
            for done, (image, outcome) in enumerate(predict_images(people_of, model, finder), 1):
                name = image_key(args.image, image)
                if isinstance(outcome, ClefError):
                    failed[name] = outcome
                    rows += records.make_error_records(name, people_of[image], str(outcome))
                else:
                    rows += records.make_records(name, outcome)
                progress("predicted", done, len(people_of))
    finally:
        records.write(args.out, rows)
        out.print(f"written: {args.out}: {done:,} of {len(people_of):,} images", markup=False, soft_wrap=True)
    if failed:
        raise _failure(failed, len(people_of), args.out)
    return 0


def _failure(failed: dict[str, ClefError], of: int, path: Path) -> ClefError:
    """Return one error for all images that failed, with the highest exit code; it names the first ones."""
    worst = max(failed.values(), key=lambda error: error.exit_code)
    lines = [f"{len(failed):,} of {of:,} images could not be predicted; {path} has the reasons, and the others:"]
    lines += [str(error) for error in list(failed.values())[:SHOWN]]
    lines += [f"and {more:,} more"] if (more := len(failed) - SHOWN) > 0 else []
    return type(worst)("\n  ".join(lines))


def _arguments() -> argparse.Namespace:
    from clef.cues import own_images

    parser = argument_parser("python -m clef.predict", __doc__)
    parser.add_argument("image", metavar="IMAGE", type=Path, help="a JPEG, PNG, WebP, TIFF or BMP, or a folder of them")
    parser.add_argument("--cell", metavar="CELL", required=True, help="a cell's folder, or its name or a part of it")
    own_images.add_arguments(parser)
    parser.add_argument(
        "--cues", metavar="FOLDER", type=Path, help="where python -m clef.cues --out wrote cue files, such as poses"
    )
    parser.add_argument(
        "--extractor", action="append", default=[], metavar="CUE=NAME", help="such as landmarks=dlib (docs/cues.md)"
    )
    parser.add_argument(
        "--weights", action="append", default=[], metavar="CUE=PATH", help="the weights file of a cue's extractor"
    )
    parser.add_argument("--panel", type=Path, metavar="PATH", help="draw the prediction for one image to PATH (.png)")
    parser.add_argument("--out", type=Path, metavar="PATH", help="write the predictions to PATH (.csv or .json)")
    add_force_option(parser)
    parser.add_argument("--checkpoint", metavar="best|last|PATH", help="which weights (default: as clef.evaluate)")
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto", help="default: a GPU if there is one")
    args = parser.parse_args()
    if args.panel and args.panel.suffix.lower() != ".png":
        raise ConfigError(f"--panel {args.panel}: the panel is a PNG; end the name in .png")
    if args.out and args.out.suffix.lower() not in (".csv", ".json"):
        raise ConfigError(f"--out {args.out}: end the name in .csv or .json")
    if args.image.is_dir() and (args.panel or not args.out):
        wrong = "--panel: is for one image" if args.panel else "a folder of images needs --out predictions.csv"
        raise ConfigError(f"{wrong} ({args.image} is a folder)")
    return args


def _cue_sources(args: argparse.Namespace) -> "CueSources":
    """Return the cue files and extractors that the options name. Raises ConfigError, DataError."""
    from clef.cues.files import find_cue_files
    from clef.predict.people import CueSources

    files = find_cue_files(args.cues) if args.cues else []
    if args.cues and not files:
        raise DataError(f"{args.cues / 'cues'}: no cue files, such as pose.jsonl; docs/cues.md says how to make them")
    extractors = _by_cue("--extractor", args.extractor)
    weights = {cue: Path(path) for cue, path in _by_cue("--weights", args.weights).items()}
    return CueSources(tuple(files), extractors, weights)


def _by_cue(option: str, stated: list[str]) -> dict["CueName", str]:
    """Return what an option states for each cue, as `CUE=VALUE`. Raises ConfigError."""
    from clef.cues.files import ALL_CUES
    from clef.yaml_config import state_once, unknown

    values: dict[CueName, str] = {}
    for text in stated:
        cue, equals, value = text.partition("=")
        if not (equals and value):
            raise ConfigError(f"{option} {text}: CUE=... is expected, such as landmarks=...")
        if cue not in ALL_CUES:
            raise ConfigError(f"{option} {text}: {unknown(repr(cue), cue, ALL_CUES)}")
        state_once(values, cue, value, f"{option} {text}")
    return values


def _table(title: str, prediction: "PersonPrediction") -> Table:
    """Return a table of the classes, the highest score first."""
    scores, probabilities = prediction.scores, prediction.probabilities
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("emotion")
    for name in (*scores, *probabilities):
        table.add_column("TIE (score)" if name == "score" and "TE" in scores else name, justify="right")
    for k in prediction.order:
        numbers = [f"{values[k]:.3f}" for values in scores.values()]
        percents = [f"{100 * values[k]:.1f} %" for values in probabilities.values()]
        table.add_row(escape(prediction.classes[k]), *numbers, *percents)
    return table


def _format_box(box: "Box | None") -> str:
    return ", ".join(f"{value:g}" for value in box or ())


if __name__ == "__main__":
    run_command(main)
