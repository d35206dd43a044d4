"""Seeded damage to a file: the bytes of what a bad disk, a bad copy, or an editor in a hurry leaves."""

import random
import re
from collections.abc import Callable

STRANGE = (
    b"nan", b"inf", b"-1", b"0", b"1e309", b"99999999999999999999", b"", b"null", b"[]", b"{}", b"\xff\xfe", b'"',
    b"true", b"-0.0", b"'; --", b"../../x", b"\xf0\x9f\x98\x80", b"\x00", b"[[[[[[", b"None", b"x" * 5000,
)  # fmt: skip
"""What takes the place of a word or a number."""


def flip(data: bytearray, rng: random.Random) -> bytearray:
    """One to eight bytes changed."""
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= rng.randint(1, 255)
    return data


def cut(data: bytearray, rng: random.Random) -> bytearray:
    """The end is missing."""
    return data[: rng.randrange(len(data))]


def lose(data: bytearray, rng: random.Random) -> bytearray:
    """A piece is missing."""
    first = rng.randrange(len(data))
    return data[:first] + data[first + rng.randint(1, max(1, len(data) // 4)) :]


def repeat(data: bytearray, rng: random.Random) -> bytearray:
    """A piece is there twice."""
    first = rng.randrange(len(data))
    piece = data[first : first + rng.randint(1, max(1, len(data) // 4))]
    return data[:first] + piece + data[first:]


def litter(data: bytearray, rng: random.Random) -> bytearray:
    """Random bytes in between."""
    first = rng.randrange(len(data))
    return data[:first] + rng.randbytes(rng.randint(1, 64)) + data[first:]


def zero(data: bytearray, rng: random.Random) -> bytearray:
    """A block that was never written."""
    first = rng.randrange(len(data))
    last = min(len(data), first + rng.randint(1, 4096))
    data[first:last] = bytes(last - first)
    return data


def replace_words(data: bytearray, rng: random.Random) -> bytearray:
    """One to three words or numbers are others."""
    for _ in range(rng.randint(1, 3)):
        words = list(re.finditer(rb"[\w.+-]+", bytes(data)))
        if words:
            chosen = rng.choice(words)
            data[chosen.start() : chosen.end()] = rng.choice(STRANGE)
    return data


def shuffle_lines(data: bytearray, rng: random.Random) -> bytearray:
    """Two lines change places, one is doubled, or one is gone."""
    lines = bytes(data).splitlines(keepends=True)
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    choice = rng.randrange(3)
    if choice == 0:
        lines[first], lines[second] = lines[second], lines[first]
    elif choice == 1:
        lines.insert(first, lines[second])
    else:
        del lines[first]
    return bytearray(b"".join(lines))


BINARY: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (flip, cut, lose, repeat, litter, zero)
TEXT = (*BINARY, replace_words, replace_words, replace_words, shuffle_lines)


def mutated(data: bytes, rng: random.Random, text: bool) -> bytes:
    """The bytes after one kind of damage; they do differ."""
    for _ in range(100):
        changed = bytes(rng.choice(TEXT if text else BINARY)(bytearray(data), rng))
        if changed != data:
            return changed
    raise AssertionError("damage that changes nothing")
