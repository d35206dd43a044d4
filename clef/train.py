"""`accelerate launch -m clef.train [key=value ...]`: train and test one cell.

With no argument it trains the demo cell of configs/train.yaml. Name a cell with `dataset=`, `backbone=` and
`method=`, or in a file with --config; every other key has its default from the backbone's recipe. For example

  accelerate launch -m clef.train dataset=emotic backbone=emot_net method=clef optimizer.lr=0.005
  torchrun --standalone --nproc_per_node 2 -m clef.train          (two CPU ranks)
"""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NoReturn

from clef import yaml_config
from clef.cells import records
from clef.config import CellConfig, resolve
from clef.console import ProgressBars, out
from clef.datasets import cards
from clef.errors import CellError, argument_parser, run_command
from clef.yaml_config import expand, merge, parse


def main() -> int:
    """Run the command: resolve the config, find the cell's folder, train and test the cell, print its scores."""
    args = _parse_arguments()
    config = _resolve_config(args)
    if args.print_config:
        print(resolve.to_yaml(config), end="")
        return 0

    from clef.engine.run import run_cell  # not before: --help and --print-config need not wait for torch

    folder = _cell_folder(config)
    if args.restart and (folder / records.CONFIG).exists() and os.environ.get("RANK", "0") == "0":
        shutil.rmtree(folder)
    result = records.read_json(folder / records.RESULT)
    if result and "splits" not in result:
        raise CellError(f"{folder / records.RESULT}: not the result of a cell; train it anew with --restart")
    if not result:
        _refuse_unfinished(folder, args.resume or args.restart)
        from clef.cells.identity import write_config

        write_config(folder, config)
        result = run_cell(folder)
    if os.environ.get("RANK", "0") == "0":
        _print_scores(result, folder)
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argument_parser("accelerate launch -m clef.train", __doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the cell; see --print-config")
    parser.add_argument("--config", type=Path, help="a YAML file with settings of the cell; key=value goes on top")
    parser.add_argument("--print-config", action="store_true", help="print the resolved config and leave")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the newest checkpoint of this cell, if any")
    again.add_argument("--restart", action="store_true", help="remove what this cell left and train it anew")
    return parser.parse_intermixed_args()


def _resolve_config(args: argparse.Namespace) -> CellConfig:
    layer: dict[str, Any] = parse(args.overrides)
    if args.config:
        layer = merge(expand(yaml_config.read_yaml(args.config)), layer)
    elif "dataset" not in layer:
        layer = merge(yaml_config.read_yaml(yaml_config.resource("configs/train.yaml")), layer)
    return resolve.resolve(layer, str(args.config or "command line"))


def _cell_folder(config: CellConfig) -> Path:
    """Return the cell's folder, whose name ends with its signature. Demo shards are made on first use."""
    from clef.cells.identity import check_shards, folder_of, identify
    from clef.data import manifest as manifests
    from clef.sharding.build import prepare

    card = cards.load(config.dataset, config.protocol)
    shards = config.shards
    if card.generator and not manifests.path_of(shards).exists():
        with ProgressBars("people") as progress:
            prepare(card, Path(card.source), shards, os.cpu_count() or 1, progress)
    manifest = manifests.load(shards)
    check_shards(config, manifest)
    return folder_of(config, "single", identify(config, manifest))


def _refuse_unfinished(folder: Path, allowed: bool) -> None:
    """Refuse to train over a run that was broken off, unless the user said what to do with it."""
    if not allowed and any((folder / "checkpoints").glob("*-*")):
        raise CellError(
            f"{folder}: holds an unfinished run of this very cell; go on with --resume, or anew with --restart"
        )


def _print_scores(result: dict[str, Any], folder: Path) -> None:
    if not result:
        out.print(f"stopped as asked; go on with --resume ({folder})")
        return
    for split, values in result["splits"].items():
        chance = "" if values["chance"] is None else f"chance {values['chance']:.1f}, "
        out.print(f"{split}: {result['metric']} {values['value']:.2f} ({chance}{values['samples']} people)")
    out.print(f"in {folder}")


def _exit(code: int) -> NoReturn:
    """End this process; one of several ranks without taking the interpreter down.

    That aborted in a thread of torch's now and then, after all was done and written.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run_command(main, _exit)
