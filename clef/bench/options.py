"""What the command lines of the benchmarks of data have in common."""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = "1280x853"
"""The default size of a drawn image: that of many photographs in EMOTIC."""


def add_drawn(parser: argparse.ArgumentParser, people: int) -> None:
    """Options of the set that is drawn where no other is named."""
    parser.add_argument("--people", type=positive, default=people, help=f"people in it (default: {people})")
    parser.add_argument("--image-size", type=_size, default=SIZE, metavar="WxH", help=f"its images (default: {SIZE})")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="draw it here and keep it for the next time")


def add_measured(parser: argparse.ArgumentParser, command: str) -> None:
    """Options of measuring and of what is written."""
    parser.add_argument("--pairs", type=positive, default=5, help="rounds; medians are of so many (default: 5)")
    default = f"results/bench/{command}.json"
    parser.add_argument("--json", type=Path, default=Path(default), metavar="PATH", help=f"default: {default}")


def positive(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: at least 1 is expected")
    return value


def _size(text: str) -> tuple[int, int]:
    width, by, height = text.partition("x")
    if not (by and width.isdecimal() and height.isdecimal() and min(int(width), int(height)) >= 64):
        raise argparse.ArgumentTypeError(f"{text!r}: WIDTHxHEIGHT is expected, such as {SIZE}, 64 pixels at least")
    return int(width), int(height)


@contextmanager
def folder(keep: Path | None) -> Iterator[Path]:
    """Where the drawn set goes: a temporary folder, or one that stays."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="clef-bench-") as temporary:
            yield Path(temporary)
        return
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.resolve()
