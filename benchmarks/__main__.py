"""`python -m benchmarks.__main__ data`: how fast this machine does what the toolkit does, and what bounds it.

docs/benchmarks.md says what is measured and how. Measure on a machine that does nothing else.

Measurements of the toolkit on this machine: `python -m benchmarks.__main__`.
"""

import argparse

from benchmarks import loading, sharding, training
from clef.errors import EXIT_CODES, argument_parser, run_command

COMMANDS = {"data": loading, "shard": sharding, "train": training}
"""Modules with `add_arguments(parser)` and `run(arguments)`. The first line of each is its help."""


def main() -> int:
    """The command."""
    parser = argument_parser("python -m benchmarks.__main__", __doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        text = module.__doc__ or ""
        command = commands.add_parser(
            name,
            help=text.splitlines()[0],
            description=text,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args()
    code: int = args.run(args)
    return code


if __name__ == "__main__":
    run_command(main)
