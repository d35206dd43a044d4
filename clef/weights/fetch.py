"""Fetches the official files: each is whole and of the right hash, or not there."""

import hashlib
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from clef import io
from clef.console import Progress, err
from clef.errors import ConfigError, SetupError
from clef.weights import integrity
from clef.weights.names import FILES, locate, missing

LOCK = ".fetch.lock"
BLOCK, MEGABYTE = 1 << 20, 1_000_000
TIMEOUT = 30.0
"""Seconds of silence after which a server counts as gone."""


def fetch(name: str, folder: Path, mirror: str | None, progress: Progress) -> Path:
    """Bring the file of a name into `folder`, unless it is there. SetupError, with URL and reason, where it can't be.

    `mirror` replaces the scheme and host of the official URL. One fetch at a time fills a folder; others wait for it.
    """
    path, url = locate(name, folder), FILES[name].url
    if url is None:
        raise SetupError(missing(name, folder))
    lock = path.with_name(LOCK)
    if io.is_locked(lock):
        err.print(f"waiting for another fetch into {path.parent}", markup=False, soft_wrap=True)
    with io.lock(lock):
        for stale in path.parent.glob(f".{path.name}.*.tmp"):  # of a fetch that was killed
            stale.unlink()
        if not path.is_file():
            _fetch(name, path, mirrored(url, mirror), progress)
    return path


def mirrored(url: str, mirror: str | None) -> str:
    """The URL at a mirror: its base instead of the scheme and host, then the same path."""
    if mirror is None:
        return url
    base = urlsplit(mirror)
    if base.scheme not in ("http", "https") or not base.netloc:
        raise ConfigError(f"--mirror {mirror}: a base URL such as https://mirror.example.org/torch is expected")
    return mirror.rstrip("/") + urlsplit(url).path


def _fetch(name: str, path: Path, url: str, progress: Progress) -> None:
    should = integrity.expected(name, path)
    sha256 = hashlib.sha256()
    with io.atomic(path) as file:
        for block, done, total in _blocks(url):
            if not file.tell() and block.lstrip().startswith(b"<"):
                raise _failed(url, "a web page came, not the file; is there a proxy that asks for a login?")
            sha256.update(block)
            file.write(block)
            if total:
                progress(name, -(-done // MEGABYTE), -(-total // MEGABYTE))
        digest = sha256.hexdigest()
        if should and not digest.startswith(should):
            raise _failed(url, f"the sha256 of what came is {digest[: len(should)]}, {should} is expected")
    if not should:
        integrity.record(path, digest)
        note = f"{name}: no hash is published; from now on the file must be the one that came ({digest[:8]}...)"
        err.print(note, markup=False, soft_wrap=True)


def _blocks(url: str) -> Iterator[tuple[bytes, int, int]]:
    """The bytes behind a URL as they come, how many came so far, and how many there are (0: it isn't said)."""
    try:
        # Some hosts turn Python's own name away.
        with urlopen(Request(url, headers={"User-Agent": "clef"}), timeout=TIMEOUT) as response:
            done, total = 0, int(response.headers["Content-Length"] or 0)
            while block := response.read(BLOCK):
                done += len(block)
                yield block, done, total
    except (OSError, HTTPException, ValueError) as error:
        raise _failed(url, _reason(error)) from None
    if not done or done < total:
        raise _failed(url, f"it broke off after {done:,} of {total:,} bytes")


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"HTTP {error.code} {error.reason}"
    return str(error.reason if isinstance(error, URLError) else error) or type(error).__name__


def _failed(url: str, reason: str) -> SetupError:
    return SetupError(
        f"{url}: can't be fetched: {reason}. Nothing of it was kept. Try again, name a mirror (--mirror URL), or fetch "
        f"it elsewhere and copy it into the folder"
    )
