"""Errors that a user can cause, and the exit code each one ends a command with.

Every message names the file, key or option, what was expected, and what to do.
"""

import argparse
import codecs
import errno
import io
import json
import os
import re
import select
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
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
READER_GONE = 141  # 128 + SIGPIPE: what a shell says of a program that this signal ended
HUNG = 7
_TOO_MANY = "let this shell open more (ulimit -n; at most ulimit -Hn), or use fewer workers"
_NO_RIGHT = "check the rights of the file and of the folders above it (ls -ld), or ask their owner"
_NO_SPACE = "free some disk space there (df, quota), or name a folder on another disk"
_SERVER = "the file server is gone or has restarted; try again once it answers"
_ADVICE = {
    errno.EMFILE: _TOO_MANY,
    errno.ENFILE: "this machine has too many open; try again later, or use fewer workers",
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: "it is mounted without the right to write; name a folder elsewhere",
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EIO: "the disk or its server failed; try again, and if it stays so, ask those who run this machine",
    errno.ENOMEM: "too little memory is free on this machine; use fewer workers",
    errno.ESTALE: _SERVER,
    errno.ENOTCONN: _SERVER,
    errno.ETIMEDOUT: _SERVER,
    errno.EHOSTDOWN: _SERVER,
    errno.ESHUTDOWN: _SERVER,
}
"""What to do about the errors of the system that say nothing of what a file holds."""
EXIT_CODES = """exit codes:
  0  done
  1  a fault in this program (with a traceback: please report it)
  2  a config file, an override or an option is wrong
  3  a dataset on disk is missing or not in its documented layout
  4  shards are missing, incomplete or damaged
  5  the machine lacks something: Slurm, weights, a GPU, ranks, a precision, a writable path
  6  a cell failed, or what it left on disk can't be used
  7  no training step ended within runtime.watchdog seconds; the cell's folder holds the stacks of all threads
 75  preempted: a run was asked to stop (SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGINT), saved itself and can continue
130  interrupted
141  whoever read the output went away before its end (... | head)
"""


def combine_errors(failed: Mapping[str, ClefError]) -> ClefError:
    """Return one error that names all that failed and why, with the highest exit code."""
    worst = max(failed.values(), key=lambda error: error.exit_code)
    return type(worst)("\n".join(f"{name}: {error}" for name, error in failed.items()))


def system_error(error: BaseException, path: Path | str | None = None) -> SetupError | None:
    """Return what to raise for an error of the machine: too many open files, no right, a full disk, a lost server.

    None for others: a file that is missing, or isn't what it should be. Whoever reads a file asks this first, because
    one that can't be read now must not be called damaged. `path` is named where the error itself names none.
    """
    if not isinstance(error, OSError) or error.errno not in _ADVICE:
        return None
    advice, where = _ADVICE[error.errno], error.filename or path
    if advice is _SERVER and not where:  # it is the error of a socket
        return None
    return SetupError(f"{f'{where}: ' if where else ''}{error.strerror}; {advice}")


def raise_if_system_error(error: BaseException, path: Path | str | None = None) -> None:
    """Raise the SetupError of `system_error`, if it returns one."""
    if found := system_error(error, path):
        raise found from None


def argument_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help keeps the lines of `description` and ends with the exit codes.

    `prog` is the command as the docs have it; a command that was called as `clef COMMAND` is shown as that. In options
    of `type=Path`, or `type="path"` for a text, `~` is the user's home, as in configs.
    """
    prog = sys.argv[0] if sys.argv[0].startswith("clef ") else prog  # set by clef.cli
    keep_lines = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=prog, description=description, epilog=EXIT_CODES, formatter_class=keep_lines)
    parser.register("type", Path, lambda text: Path(os.path.expanduser(text)))
    parser.register("type", "path", os.path.expanduser)
    # Else argparse before Python 3.14 takes a value such as `-5,0,40,60` for an option.
    parser._negative_number_matcher = re.compile(r"-\.?\d")
    return parser


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's `main` and exit with 0, the code it returns, or that of its error, without a traceback."""
    prepare_streams()
    os.environ.pop("MPLBACKEND", None)  # no command opens windows, and a notebook's backend may be none here
    try:
        code = _call(main)
    except Preempted as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    except ClefError as error:
        _print_error(str(error))
        code = error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except UnicodeEncodeError as error:
        if error.encoding == "utf-8" or error.encoding != sys.getfilesystemencoding():
            raise
        _print_error(f"{error.object}: a file can't have this name in {error.encoding}; set LC_ALL=C.UTF-8")
        code = SetupError.exit_code
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            _exit(READER_GONE)
        text = system_error(error)
        if text is None and error.errno not in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            raise
        _print_error(str(text or f"{error.filename}: {error.strerror}; check the path"))
        code = SetupError.exit_code
    _exit(code)


def prepare_streams() -> None:
    r"""Let stdin, stdout and stderr be usable, whatever this process was started with.

    One that was closed (`>&-`) becomes /dev/null: the next file to be opened would take its number, and get what
    another program prints. A letter that the encoding of the terminal lacks is printed as JSON would: `\u2013`.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDONLY if name == "stdin" else os.O_WRONLY)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="clef-escape")


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Return what takes the place of letters that can't be encoded, and where to go on (`codecs.register_error`)."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error("clef-escape", _escape)


def _call(main: Callable[[], int | None]) -> int:
    """Return the exit code of a command's `main`, also where argparse ends it, after all that it printed is out."""
    try:
        code = main() or 0
    except SystemExit as left:
        code = int(left.code or 0)
    sys.stdout.flush()
    return code


def _reader_is_gone() -> bool:
    """Return whether stdout or stderr is a pipe that nobody reads any more."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)  # POLLERR is reported unasked
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _exit(code: int) -> NoReturn:
    """End this process; one of several ranks without taking the interpreter down.

    That aborted in a thread of torch's now and then, after all was done and written.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # nobody reads it, or its disk is full: the interpreter would complain of it once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(code)
    os._exit(code)


def _print_error(text: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]error:[/] {escape(text)}")
