"""`clef COMMAND ...`: every command of the toolkit under one name.

`clef train` is `python -m clef.train`, `clef grid` is `python launch/grid.py`, and so on: the same options, the same
exit codes. `clef demo` runs the shipped demo grid on this machine.
"""

import importlib
import sys

from clef import __version__
from clef.errors import EXIT_CODES, ConfigError, run_command
from clef.yaml_config import unknown

COMMANDS = {
    "demo": ("launch.grid", "draw two small datasets, train thirty small cells here, print the tables"),
    "shard": ("clef.shard", "check a dataset, and write it as shards"),
    "cues": ("clef.cues.__main__", "find faces, poses, regions and depth before sharding"),
    "weights": ("clef.weights.__main__", "list, fetch and verify pre-trained files"),
    "features": ("clef.features", "compute the features of frozen encoders ahead of the cells"),
    "grid": ("launch.grid", "plan a grid, train what is missing (on Slurm or here), show and cancel it"),
    "train": ("clef.train", "train and test one cell"),
    "evaluate": ("clef.evaluate", "score a trained cell again"),
    "report": ("clef.report", "tables, figures and one HTML page of a grid"),
    "audit": ("clef.audit.__main__", "measure how far a cell's predictions depend on the context"),
    "predict": ("clef.predict.__main__", "read one image with a trained cell"),
}
"""The module whose `main` runs each command, and what it does."""
_DEMO = ("--local", "--grid", "demo")


def main() -> None:
    """Run the command that the command line names."""
    run_command(_dispatch)


def _dispatch() -> int | None:
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(_usage())
        return 0
    if name == "--version":
        print(f"clef {__version__}")
        return 0
    if name not in COMMANDS:
        raise ConfigError(unknown(f"command {name!r}", name, COMMANDS))
    module, _ = COMMANDS[name]
    sys.argv = [f"clef {name}", *(_DEMO if name == "demo" else ()), *rest]
    command = importlib.import_module(module)  # only now: most commands need not wait for torch
    code: int | None = command.main()
    return code


def _usage() -> str:
    lines = [f"  {name:10}{what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        ["usage: clef COMMAND ...   (clef COMMAND --help lists its options)", "", *lines, "", EXIT_CODES.rstrip()]
    )
