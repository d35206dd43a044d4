"""`accelerate launch -m clef.train [key=value ...]`: train and test one cell.

With no argument it trains the demo cell of configs/train.yaml. Name a cell with `dataset=`, `backbone=` and
`method=`, or in a file with --config; every other key has its default from the backbone's recipe. For example

  accelerate launch -m clef.train dataset=emotic backbone=emot_net method=clef optimizer.lr=0.005
  torchrun --standalone --nproc_per_node 2 -m clef.train          (two CPU ranks)
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

from clef import process, yaml_config
from clef.cells import records
from clef.config import CellConfig, resolve
from clef.console import ProgressBars, is_first_rank, out
from clef.errors import CellError, argument_parser, run_command
from clef.metrics import format_score
from clef.yaml_config import expand, merge, parse


def main() -> int:
    """Run the command: resolve the config, find the cell's folder, train and test the cell, print its scores."""
    args = _parse_arguments()
    config = _resolve_config(args)
    if args.print_config:
        print(resolve.to_yaml(config, with_card=False), end="")
        return 0

    from clef.engine.run import run_cell  # not before: --help and --print-config need not wait for torch

    folder = _cell_folder(config)
    if args.restart and (folder / records.CONFIG).exists() and is_first_rank():
        shutil.rmtree(folder)
    result = records.read_json(folder / records.RESULT)
    if result and "splits" not in result:
        raise CellError(f"{folder / records.RESULT}: not the result of a cell; train it again with --restart")
    if not result:
        _refuse_unfinished(folder, args.resume or args.restart)
        from clef.cells.identity import write_config

        write_config(folder, config)
        result = run_cell(folder)
    if is_first_rank():
        _print_scores(result, folder)
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argument_parser("accelerate launch -m clef.train", __doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the cell; see --print-config")
    parser.add_argument("--config", type=Path, help="a YAML file with settings of the cell; key=value overrides it")
    parser.add_argument("--print-config", action="store_true", help="print the resolved config and exit")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="continue from the newest checkpoint of this cell, if any")
    again.add_argument("--restart", action="store_true", help="remove what this cell has written and train it again")
    return parser.parse_intermixed_args()


def _resolve_config(args: argparse.Namespace) -> CellConfig:
    settings: dict[str, Any] = parse(args.overrides)
    if args.config:
        settings = merge(expand(yaml_config.read_yaml(args.config)), settings)
    elif "dataset" not in settings:
        settings = merge(yaml_config.read_yaml(yaml_config.resource("configs/train.yaml")), settings)
    sources = [str(args.config)] if args.config else []
    sources += ["command line"] if args.overrides or not args.config else []
    return resolve.resolve(settings, " and ".join(sources))


def _cell_folder(config: CellConfig) -> Path:
    """Return the cell's folder, whose name ends with its signature. Demo shards are made on first use."""
    from clef.cells.identity import check_shards, folder_of, signature_of
    from clef.data import manifest as manifests
    from clef.sharding.build import prepare

    card = config.card
    shards = config.shards
    if card.generator and not manifests.path_of(shards).exists():
        with ProgressBars("people") as progress:
            prepare(card, Path(card.source), shards, process.cores(), progress)
    manifest = manifests.load(shards)
    check_shards(config, manifest)
    return folder_of(config, "single", signature_of(config, manifest))


def _refuse_unfinished(folder: Path, allowed: bool) -> None:
    """Refuse to train over a run that was interrupted, unless the user said what to do with it."""
    if not allowed and any((folder / "checkpoints").glob("*-*")):
        raise CellError(
            f"{folder}: holds an unfinished run of this cell; continue it with --resume, or train it again with "
            "--restart"
        )


def _print_scores(result: dict[str, Any], folder: Path) -> None:
    if not result:
        out.print(f"stopped at runtime.stop_after; continue with --resume ({folder})")
        return
    for split, values in result["splits"].items():
        chance = "" if values["chance"] is None else f"chance {values['chance']:.1f}, "
        out.print(f"{split}: {result['metric']} {format_score(values['value'])} ({chance}{values['samples']} people)")
    out.print(f"in {folder}")


if __name__ == "__main__":
    run_command(main)
