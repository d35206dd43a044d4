"""What timm, open_clip and torchvision say of their networks: input, normalization, filter, feature, license, files.

Imports none of them, nor torch: importing takes seconds. What was asked once is kept; the rest is asked in one process
for all names (`python -m clef.models.named`), so that a grid of a thousand cells is planned at once.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from clef import io
from clef.errors import ConfigError, SetupError

DISTRIBUTIONS = {"timm": "timm", "open_clip": "open_clip_torch", "torchvision": "torchvision"}
"""What is installed for each prefix of a name."""
EXTRA = "pip install 'clef-caer[encoders]'"
PACKAGE = Path(__file__).parent
FOLDER = "~/.cache/clef/networks"
"""Where records are kept."""


@dataclass(frozen=True)
class NetworkRecord:
    """What a library says of one of its networks. Its own crop is not in it: a cell sees the whole crop of a box."""

    name: str
    """LIBRARY:NAME, as configs have it."""
    size: tuple[int, int]
    """Height and width in pixels."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    """bilinear, bicubic, lanczos or nearest, as Pillow defines them."""
    dim: int
    """The numbers in its pooled feature."""
    license: str | None = None
    """Of the weights, as the library or the hub names it; None: the library does not say."""
    hub: str | None = None
    """The repository of the weights on the Hugging Face hub."""
    file: str | None = None
    """Their file there; None: the library's usual one."""
    url: str | None = None
    """Where else the weights are."""

    @property
    def pretrained(self) -> bool:
        """Return whether weights are published under this name."""
        return bool(self.hub or self.url)

    @property
    def source(self) -> str | None:
        """Return the page or file of the published weights."""
        return f"https://huggingface.co/{self.hub}" if self.hub else self.url


def describe(names: Iterable[str]) -> dict[str, NetworkRecord]:
    """Return the records of networks by their names, LIBRARY:NAME.

    Raises ConfigError for a name that its library doesn't have, with the nearest ones, and SetupError where the library
    is not installed.
    """
    names = sorted(set(names))
    new = [name for name in names if name not in _known]
    for library in sorted({name.partition(":")[0] for name in new}):
        _known.update(_read_kept(library))
    if missing := [name for name in new if name not in _known]:
        _known.update(_ask(missing))
        for library in {name.partition(":")[0] for name in missing}:
            _keep(library)
    for name in names:
        if isinstance(answer := _known[name], str):
            raise ConfigError(answer)
    return {name: answer for name in names if isinstance(answer := _known[name], NetworkRecord)}


_known: dict[str, NetworkRecord | str] = {}
"""What this process knows, by name; a text says why there is no record."""


def version(library: str) -> str:
    """Return the version of timm, open_clip or torchvision. Raises SetupError where it is not installed."""
    try:
        return metadata.version(DISTRIBUTIONS[library])
    except metadata.PackageNotFoundError:
        raise SetupError(f"{library} is not installed, which builds the encoders {library}:NAME; run {EXTRA}") from None


def _from_json(content: dict[str, Any]) -> NetworkRecord:
    tuples = {key: tuple(content[key]) for key in ("size", "mean", "std")}
    return NetworkRecord(**content | tuples)


def _ask(names: list[str]) -> dict[str, NetworkRecord | str]:
    """Return what the libraries answer, in another process: a record, or why there is none."""
    path = os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "clef.models.named", *names]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    if ended.returncode:
        reason = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
        raise SetupError(f"{', '.join(names)}: can't be looked up: {reason:.300}; run {EXTRA}")
    return parse(ended.stdout.strip().splitlines()[-1])


def parse(text: str) -> dict[str, NetworkRecord | str]:
    """Return the answers of `clef.models.named` from their JSON."""
    answers: dict[str, dict[str, Any]] = json.loads(text)
    return {name: answer["error"] if "error" in answer else _from_json(answer) for name, answer in answers.items()}


# ---- What was asked before ----


def _path(library: str) -> Path:
    """Return the file of the records of a library's version: with another version, they are asked again."""
    return Path(FOLDER).expanduser() / f"{library}-{version(library)}.json"


def _read_kept(library: str) -> dict[str, NetworkRecord]:
    try:
        content = json.loads(_path(library).read_text("utf-8"))
        return {name: _from_json(record) for name, record in content.items() if set(record) == _FIELDS}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # none, or damaged: they are asked again
        return {}


def _keep(library: str) -> None:
    records = {name: record for name, record in sorted(_known.items()) if name.startswith(f"{library}:")}
    content = {name: asdict(record) for name, record in records.items() if isinstance(record, NetworkRecord)}
    with suppress(OSError):  # a home that can't be written: they are asked each time
        io.write(_path(library), io.to_json(content), durable=False)


_FIELDS = {field.name for field in fields(NetworkRecord)}
