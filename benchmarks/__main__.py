"""`python -m benchmarks COMMAND`: how fast this machine loads, shards, trains and plans, and what limits it.

docs/benchmarks.md says what each command measures and how. Measure on a machine that does nothing else.
"""

import importlib
import sys

from clef.errors import argument_parser, run_command

COMMANDS = {
    "loading": "each stage of loading, the whole loader, and other loaders on the same images",
    "sharding": "the sharder next to its own decoding, resizing and encoding",
    "training": "the training loop next to a hand-written one in plain PyTorch",
    "cells": "cells of seconds on features of frozen encoders, next to a hand-written training",
    "grid": "planning a grid of 10,000 cells and looking at its status",
}
"""Modules of this folder with `main(arguments)`, imported only when asked for: some bring torch with them."""


def main() -> int:
    """Run one of the commands and return its exit code."""
    commands = "\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items())
    parser = argument_parser("python -m benchmarks", f"{__doc__}\ncommands (each has its own --help):\n{commands}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=" | ".join(COMMANDS))
    command = parser.parse_args(sys.argv[1:2]).command
    code: int = importlib.import_module(f"benchmarks.{command}").main(sys.argv[2:])
    return code


if __name__ == "__main__":
    run_command(main)
