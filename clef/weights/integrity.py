"""Whether a file of weights is the one it should be.

PyTorch's names carry the start of their sha256. Places365 publishes none: the first fetch is trusted, its sha256 is
written beside it (`<file>.sha256`, as sha256sum writes it), and from then on the file must stay the same.
"""

import re
from pathlib import Path

from clef import io
from clef.errors import SetupError
from clef.weights.names import FILES


def sidecar(path: Path) -> Path:
    """Where the sha256 of a file is written down."""
    return path.with_name(f"{path.name}.sha256")


def record(path: Path, digest: str) -> None:
    """Write down the sha256 of a file."""
    io.write(sidecar(path), f"{digest}  {path.name}\n")


def expected(name: str, path: Path) -> str | None:
    """How the file's sha256 must begin, or all of it where it was recorded; None where no one has said."""
    if name in FILES and FILES[name].sha256:
        return FILES[name].sha256
    if not sidecar(path).is_file():
        return None
    digest = sidecar(path).read_text(errors="replace")[:64]
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise SetupError(f"{sidecar(path)}: does not begin with a sha256; remove it, or run sha256sum on the file")
    return digest


def checked(name: str, path: Path) -> str:
    """The file's sha256, in hexadecimal. SetupError where it should be another."""
    digest, should = io.sha256(path), expected(name, path)
    if should and not digest.startswith(should):
        source = "its name says" if name in FILES and FILES[name].sha256 else f"{sidecar(path).name} says"
        raise SetupError(
            f"{path}: damaged, or another file: its sha256 is {digest[: len(should)]}, {source} {should}. Remove it "
            f"and fetch it again; weights of your own are named by their path"
        )
    return digest
