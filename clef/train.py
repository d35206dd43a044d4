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

from clef.cells import records
from clef.config import CellConfig, base, resolve
from clef.config.base import expand, merge, parse
from clef.console import Steps, out
from clef.datasets import cards
from clef.errors import CellError, argument_parser, run_command


def main() -> int:
    """The command."""
    args = _arguments()
    config = _config(args)
    if args.print_config:
        print(resolve.to_yaml(config), end="")
        return 0

    from clef.engine.run import run_cell  # not before: --help and --print-config need not wait for torch

    folder = _folder(config, args)
    if args.restart and (folder / records.CONFIG).exists() and os.environ.get("RANK", "0") == "0":
        shutil.rmtree(folder)
    result = records.read_json(folder / records.RESULT)
    if result and "splits" not in result:
        raise CellError(f"{folder / records.RESULT}: not the result of a cell; train it anew with --restart")
    if not result:
        _check_fresh(folder, args.resume or args.restart)
        from clef.cells.identity import write_config

        write_config(folder, config)
        result = run_cell(folder)
    if os.environ.get("RANK", "0") == "0":
        _report(result, folder)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argument_parser("accelerate launch -m clef.train", __doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the cell; see --print-config")
    parser.add_argument("--config", type=Path, help="a YAML file with settings of the cell; key=value goes on top")
    parser.add_argument("--print-config", action="store_true", help="print the resolved config and leave")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the newest checkpoint of this cell, if any")
    again.add_argument("--restart", action="store_true", help="remove what this cell left and train it anew")
    return parser.parse_intermixed_args()


def _config(args: argparse.Namespace) -> CellConfig:
    layer: dict[str, Any] = parse(args.overrides)
    if args.config:
        layer = merge(expand(base.read_yaml(args.config)), layer)
    elif "dataset" not in layer:
        layer = merge(base.read_yaml(base.resource("configs/train.yaml")), layer)
    return resolve.resolve(layer, str(args.config or "command line"))


def _folder(config: CellConfig, args: argparse.Namespace) -> Path:
    """The cell's folder, with demo shards made on first use."""
    from clef.cells.identity import check_shards, folder_of, identify
    from clef.data import manifest as manifests
    from clef.sharding.build import prepare

    card = cards.load(config.dataset, config.protocol)
    shards = config.shards
    if card.generator and not manifests.path_of(shards).exists():
        with Steps("people") as progress:
            prepare(card, Path(card.source), shards, os.cpu_count() or 1, progress)
    manifest = manifests.load(shards)
    check_shards(config, manifest)
    return folder_of(config, "single", identify(config, manifest))


def _check_fresh(folder: Path, allowed: bool) -> None:
    if not allowed and any((folder / "checkpoints").glob("*-*")):
        raise CellError(
            f"{folder}: holds an unfinished run of this very cell; go on with --resume, or anew with --restart"
        )


def _report(result: dict[str, Any], folder: Path) -> None:
    if not result:
        out.print(f"stopped as asked; go on with --resume ({folder})")
        return
    for split, values in result["splits"].items():
        chance, people = values["chance"], values["samples"]
        out.print(f"{split}: {result['metric']} {values['value']:.2f} (chance {chance:.1f}, {people} people)")
    out.print(f"in {folder}")


def _leave(code: int) -> NoReturn:
    """End this process; one of several ranks at once.

    Taking the interpreter down then aborted in a thread of torch's now and then, after all was done and written.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run_command(main, _leave)
