"""The files of pre-trained weights by the names that configs use, and where each is looked for."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from clef.config import RuntimeConfig
from clef.config.base import unknown
from clef.errors import ConfigError, SetupError

RANDOM = "none"
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
"""What the cue extractors need."""
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
    )
}
"""The published files by name: torchvision's, and those of github.com/CSAILVision/places365."""


def locate(name: str, folder: Path) -> Path:
    """Where the file of a name (`places365-resnet18`), or at a path, ought to lie. ConfigError for an unknown name."""
    if "/" in name:
        return Path(name).expanduser()
    if name not in FILES:
        raise ConfigError(unknown(f"weights {name!r}", name, [*FILES, RANDOM]) + ", or a file's path with a / in it")
    return folder.expanduser() / FILES[name].file


def path_of(name: str, folder: Path) -> Path:
    """The file that a name, or a path, stands for. SetupError, with what to do, when it isn't there."""
    path = locate(name, folder)
    if not path.is_file():
        raise SetupError(missing(name, folder))
    return path


def missing(name: str, folder: Path) -> str:
    """What to tell a user whose file isn't there."""
    path = locate(name, folder)
    if name not in FILES:
        return f"{path}: no such weights file"
    way_out = f"or choose {RANDOM} for random initialisation"
    if FILES[name].url is None:
        return (
            f"{path}: the weights {name} are not there, and there is no official PyTorch file of them. Convert the "
            f"official Caffe model\n  {FILES[name].caffe}\nto that file, or name a file of your own by its path; "
            f"{way_out}"
        )
    return (
        f"{path}: the weights {name} are not there. On a machine with internet, run\n  {command(name, folder)}\n"
        f"which fetches {FILES[name].url}; {way_out}"
    )


def command(name: str, folder: Path) -> str:
    """The command that fetches a file."""
    default = folder.expanduser() == Path(FOLDER).expanduser()
    where = "" if default else f" --folder {shlex.quote(str(folder))}"
    return f"python -m clef.weights --fetch {name}{where}"
