"""`python -m clef.evaluate CELL`: score a trained cell again, and see whether the recorded number comes out.

CELL is the cell's folder, its NAME-SIGNATURE below runs/, or a part of that which only one cell has. Nothing is
trained, and nothing written into the cell. For example

  python -m clef.evaluate emotic-emot_net-clef-s0                    what its result was scored with, on test
  python -m clef.evaluate runs/paper/emotic-emot_net-clef-s0-... --split val --json score.json
  torchrun --standalone --nproc_per_node 2 -m clef.evaluate emotic-emot_net-clef-s0

On as many ranks and threads, and the same build, the metrics and predictions come out equal to the last bit. What
differs is named. If they don't come out although nothing differs, that is an error (exit code 6).
"""

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clef.cells import lookup, records
from clef.config import resolve
from clef.console import ProgressBars, add_force_option, check_outputs, is_first_rank, out
from clef.errors import CellError, ConfigError, argument_parser, run_command
from clef.metrics import format_score

if TYPE_CHECKING:
    from clef.engine.rescore import Score


def main() -> int:
    """Run the command: score the cell's weights, and compare with what is recorded."""
    args = _parse_arguments()
    folder = lookup.find_cell(args.cell)
    is_main = is_first_rank()
    if is_main:
        shards = args.shards or resolve.from_yaml(folder / records.CONFIG).shards
        inputs = [folder, Path(shards), Path(args.checkpoint or folder)]
        check_outputs({"--json": args.json, "--predictions": args.predictions}, inputs, args.force)
    from clef.engine.rescore import rescore  # not before: --help need not wait for torch

    with ProgressBars("people") if is_main else nullcontext() as progress:
        score = rescore(folder, args.split, args.checkpoint, _runtime_overrides(args), args.predictions, progress)
    if not is_main:
        return 0
    if args.json:
        records.write_json(args.json, score.as_json())
    _print_score(score)
    if score.reproduced is False and not score.changed:
        raise CellError(
            f"{folder}: the recorded number was not reproduced, though nothing that may change it differs: "
            f"{records.RESULT}, the predictions or the weights were changed"
        )
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argument_parser("python -m clef.evaluate", __doc__)
    parser.add_argument("cell", metavar="CELL", help="a cell's folder, its name below runs/, or a part of its name")
    parser.add_argument("--split", default="test", help="a split of its shards (default: test)")
    parser.add_argument(
        "--checkpoint",
        metavar="best|last|PATH",
        help="which weights (default: best, which the result was scored with; last while there is no result)",
    )
    parser.add_argument(
        "--shards", type="path", metavar="FOLDER", help="where its shards are now (default: as in training)"
    )
    parser.add_argument("--workers", type=int, help="loader processes for each rank (default: as in training)")
    parser.add_argument("--device", choices=["auto", "cpu"], help="default: as in training")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the score, record and differences to PATH")
    parser.add_argument("--predictions", type=Path, metavar="PATH", help="write the predictions to PATH (.npz)")
    add_force_option(parser)
    args = parser.parse_args()
    if args.workers is not None and args.workers < 0:
        raise ConfigError(f"--workers {args.workers}: 0 or more are expected")
    return args


def _runtime_overrides(args: argparse.Namespace) -> dict[str, Any]:
    stated = {"shards": args.shards, "num_workers": args.workers, "device": args.device}
    return {name: value for name, value in stated.items() if value is not None}


def _print_score(score: "Score") -> None:
    values = score.summary
    weights = score.weights.parent.name if score.weights.name == "model.safetensors" else score.weights.stem
    chance = "" if values["chance"] is None else f"chance {values['chance']:.1f}, "
    out.print(
        f"{score.cell}, {weights}, {score.split}: {score.metric} {format_score(values['value'])} "
        f"({chance}{values['samples']} people)",
        soft_wrap=True,
    )
    out.print(_verdict(score), soft_wrap=True, markup=False)


def _verdict(score: "Score") -> str:
    if score.recorded is None:
        return "no score is recorded for these weights on this split"
    if score.reproduced:
        kept = "" if score.difference is None else ", and every prediction"
        return f"as recorded, to the last bit: the metric{kept}"
    moved = f"; predictions differ by up to {score.difference:.2g}" if score.difference else ""
    changes = [f"{key}: {before} then, {now} now" for key, (before, now) in score.changed.items()]
    what = "\n  ".join(["; what differs:", *changes]) if changes else ""
    return (
        f"not as recorded: {score.metric} {score.recorded['value']!r} then, {score.summary['value']!r} now{moved}{what}"
    )


if __name__ == "__main__":
    run_command(main)
