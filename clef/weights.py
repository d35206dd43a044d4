"""Pre-trained weights: which file each name stands for, and where it is looked for. Imports no torch.

Nothing is fetched at run time: compute nodes often have no internet. A missing file is an error that says what to
put where; random initialisation happens only where the config says `none`.
"""

from functools import cache
from pathlib import Path

from clef import files
from clef.config import CellConfig, ClefConfig
from clef.errors import ConfigError, SetupError
from clef.overrides import unknown

RANDOM = "none"


URLS = {
    "imagenet-resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    "imagenet-resnet50": "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
    "imagenet-resnet152": "https://download.pytorch.org/models/resnet152-f82ba261.pth",
    "places365-resnet18": "http://places2.csail.mit.edu/models_places365/resnet18_places365.pth.tar",
    "places365-resnet50": "http://places2.csail.mit.edu/models_places365/resnet50_places365.pth.tar",
}
"""The published files by the names that configs use. There is no official PyTorch ResNet-152 of Places365."""


def path_of(name: str, folder: Path) -> Path:
    """The file that a name (`places365-resnet18`), or a path, stands for. SetupError when it isn't there."""
    if "/" in name:
        path = Path(name).expanduser()
        if not path.is_file():
            raise SetupError(f"{path}: no such weights file")
        return path
    if name not in URLS:
        raise ConfigError(unknown(f"weights {name!r}", name, [*URLS, RANDOM]) + ", or a file's path with a / in it")
    path = folder.expanduser() / URLS[name].rpartition("/")[2]
    if not path.is_file():
        raise SetupError(
            f"{path}: the weights {name} are not there. On a machine with internet, fetch\n  {URLS[name]}\n"
            f"into {folder} (runtime.weights), or choose {RANDOM} for random initialisation"
        )
    return path


def stated(config: CellConfig) -> dict[str, str]:
    """What every encoder of a cell starts from, by encoder: a name, a path, or none."""
    wanted = dict(config.backbone.weights)
    if isinstance(config.method, ClefConfig):
        branch = config.method.context_branch
        plain = branch.weights == RANDOM or "/" in branch.weights
        wanted["context_branch"] = branch.weights if plain else f"{branch.weights}-{branch.network}"
    return wanted


def needed(config: CellConfig) -> dict[str, str]:
    """The pre-trained weights that a cell names, by encoder."""
    return {encoder: name for encoder, name in stated(config).items() if name != RANDOM}


def hashes(config: CellConfig) -> dict[str, str]:
    """The sha256 of each pre-trained file that a cell starts from, by encoder; part of its signature."""
    folder = Path(config.runtime.weights)
    return {encoder: _sha256(path_of(name, folder)) for encoder, name in needed(config).items()}


@cache  # many cells of a grid start from the same file
def _sha256(path: Path) -> str:
    return files.sha256(path)
