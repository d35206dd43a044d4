"""`python -m clef.predict IMAGE --cell CELL`: a trained cell's prediction for each person of an image, and its parts.

CELL is a cell's folder, its NAME-SIGNATURE below runs/, or a part of that which only one cell has. For example

  python -m clef.predict photo.jpg --box 120,40,310,480 --cell emotic-emot_net-clef
  python -m clef.predict photo.jpg --cell emotic-emot_net-clef --panel photo.png

The box is the subject's, in pixels (left, top, right, bottom) of the image as viewers show it: turned as its EXIF data
says. Without it, everyone whom the detector finds is a subject (python -m clef.weights --fetch coco-fasterrcnn). The
extractors of docs/cues.md look for everything else that the cell reads of a person; what is not found is named after
the box. If the cell reads the other people of the image (EmotiCon with third: agents), the detector looks for them even
if a box is given. If a face was the subject in the cell's shards (CAER-S without person boxes), give the face as --box
too: the detector finds whole people. The image is cut, masked and stored as the shards of the cell's dataset are.
"""

import argparse
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from clef.cells import lookup
from clef.console import out
from clef.errors import ConfigError, argument_parser, run_command

if TYPE_CHECKING:  # --help must not wait for NumPy
    from clef.geometry import Box
    from clef.predict.panel import PersonPrediction


def main() -> int:
    """Print the prediction for each person, and draw the panel. Returns the exit code."""
    args = _arguments()
    folder = lookup.find_cell(args.cell)
    import clef  # not at the top: --help must not wait for torch
    from clef.predict import panel
    from clef.predict.panel import person_predictions
    from clef.predict.people import GivenBoxes, PersonFinder, make_batch

    model = clef.load(folder, args.checkpoint, args.device)
    card = model.config.card
    with TemporaryDirectory() as scratch:
        finder = PersonFinder(model.config, GivenBoxes(args.box, args.face), args.device)
        people = finder.find_people(args.image, card.classes[0], Path(scratch))
        batch = make_batch(people, card, model.config)
    predictions = person_predictions(model.config, model.classes, model.predict(batch))
    out.print(f"{folder.name}: {args.image}", markup=False, soft_wrap=True)
    for index, (person, prediction) in enumerate(zip(people, predictions, strict=True)):
        missing = [name for name, valid in batch["valid"].items() if not valid[index]]
        without = f", without {', '.join(missing)}" if missing else ""
        out.print(_table(f"person {index + 1}, box {_format_box(person.box)}{without}", prediction))
    if args.panel:
        panel.save_panel(args.panel, args.image, [person.box for person in people if person.box], predictions)
        out.print(f"panel: {args.panel}", markup=False, soft_wrap=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argument_parser("python -m clef.predict", __doc__)
    parser.add_argument("image", metavar="IMAGE", type=Path, help="a JPEG or PNG")
    parser.add_argument("--cell", metavar="CELL", required=True, help="a cell's folder, or its name or a part of it")
    parser.add_argument("--box", type=_parse_box, metavar="X1,Y1,X2,Y2", help="the subject (default: everyone found)")
    parser.add_argument(
        "--face", type=_parse_box, metavar="X1,Y1,X2,Y2", help="the subject's face (default: found in the image)"
    )
    parser.add_argument("--panel", type=Path, metavar="PATH", help="draw the prediction to PATH (.png)")
    parser.add_argument("--checkpoint", metavar="best|last|PATH", help="which weights (default: as clef.evaluate)")
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto", help="default: a GPU if there is one")
    args = parser.parse_args()
    if args.face and not args.box:
        raise ConfigError("--face: needs --box, which says whose face it is")
    if args.panel and args.panel.suffix.lower() != ".png":
        raise ConfigError(f"--panel {args.panel}: the panel is a PNG; end the name in .png")
    return args


def _parse_box(text: str) -> "Box":
    try:
        x1, y1, x2, y2 = (float(value) for value in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"four numbers x1,y1,x2,y2 are expected, not {text!r}") from None
    if not (0 < x2 - x1 < math.inf and 0 < y2 - y1 < math.inf):
        raise argparse.ArgumentTypeError(f"left, top, right, bottom are expected, not {text!r}")
    return x1, y1, x2, y2


def _table(title: str, prediction: "PersonPrediction") -> Table:
    """Return a table of the classes, the highest score first."""
    scores = {"TIE (score)" if "TIE" in prediction.effects else "score": prediction.score}
    scores |= {name: prediction.effects[name] for name in ("TE", "NDE") if name in prediction.effects}
    stated = {"factual": prediction.factual, "counterfactual": prediction.counterfactual}
    probabilities = {name: values for name, values in stated.items() if values is not None}
    if len(probabilities) == 1:
        probabilities = {"probability": probabilities["factual"]}
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("emotion")
    for name in (*scores, *probabilities):
        table.add_column(name, justify="right")
    for k in prediction.order:
        numbers = [f"{values[k]:.3f}" for values in scores.values()]
        percents = [f"{100 * values[k]:.1f} %" for values in probabilities.values()]
        table.add_row(escape(prediction.classes[k]), *numbers, *percents)
    return table


def _format_box(box: "Box | None") -> str:
    return ", ".join(f"{value:g}" for value in box or ())


if __name__ == "__main__":
    run_command(main)
