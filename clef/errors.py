"""Errors that a user can cause, and the exit code each one ends a command with.

Every message names the file, key or option, what was expected, and what to do.
"""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

from rich.console import Console
from rich.markup import escape


class ClefError(Exception):
    """Something the user can fix. Commands print its text alone and exit with `exit_code`."""

    exit_code = 1


class ConfigError(ClefError):
    """A config file, an override or a command-line option is wrong."""

    exit_code = 2


class DataError(ClefError):
    """A dataset on disk is missing, or not what its layout promises."""

    exit_code = 3


class ShardError(ClefError):
    """Shards are missing, incomplete or damaged."""

    exit_code = 4


class SetupError(ClefError):
    """The machine lacks something: Slurm, weights, a GPU, ranks, precision, a writable path."""

    exit_code = 5


class CellError(ClefError):
    """A cell of the grid failed, or what a cell left on disk can't be used."""

    exit_code = 6


class Preempted(ClefError):
    """A run that was asked to stop has saved itself. This is no failure: the same command continues it."""

    exit_code = 75  # sysexits' EX_TEMPFAIL: try again later


INTERRUPTED = 130
HUNG = 7
_PATH_ERRNOS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOSPC, errno.EDQUOT
}  # fmt: skip
"""System errors that come from a path on the command line or from the disk, not from a bug."""
EXIT_CODES = """exit codes:
  0  done
  1  a fault in this program (with a traceback: please report it)
  2  a config file, an override or an option is wrong
  3  a dataset on disk is missing or not in its documented layout
  4  shards are missing, incomplete or damaged
  5  the machine lacks something: Slurm, weights, a GPU, ranks, a precision, a writable path
  6  a cell failed, or what it left on disk can't be used
  7  no training step ended within runtime.watchdog seconds; the cell's folder holds the stacks of all threads
 75  preempted: a run was asked to stop (SIGTERM, SIGUSR1, SIGUSR2, SIGINT), saved itself and can continue
130  interrupted
"""


def combine_errors(failed: Mapping[str, ClefError]) -> ClefError:
    """Return one error that names all that failed and why, with the highest exit code."""
    worst = max(failed.values(), key=lambda error: error.exit_code)
    return type(worst)("\n".join(f"{name}: {error}" for name, error in failed.items()))


def argument_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help keeps the lines of `description` and ends with the exit codes.

    `prog` is the command as the docs have it; a command that was called as `clef COMMAND` is shown as that.
    """
    prog = sys.argv[0] if sys.argv[0].startswith("clef ") else prog  # set by clef.cli
    keep_lines = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=prog, description=description, epilog=EXIT_CODES, formatter_class=keep_lines)


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's `main` and exit with 0, the code it returns, or that of its error, without a traceback."""
    try:
        code = main() or 0
    except Preempted as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    except ClefError as error:
        _print_error(str(error))
        code = error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:  # `... | head`
        sys.stderr.close()
        code = 0
    except OSError as error:
        if error.errno not in _PATH_ERRNOS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _print_error(f"{where}{error.strerror}; check the path, its permissions and the free disk space")
        code = SetupError.exit_code
    _exit(code)


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


def _print_error(text: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]error:[/] {escape(text)}")
