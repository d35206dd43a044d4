"""Puts pre-trained weights into an encoder, from the file formats in use, or says why it can't.

A file may hold a state dict as it is, or below a key such as `model`; in it, the encoder may be a part of a larger
model (`backbone.conv1.weight`). Nothing in a file is run: what is no plain weights is refused, with how to convert it.
"""

import argparse
import json
import shlex
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from clef import weights
from clef.config import CellConfig
from clef.config.encoders import PACKAGED
from clef.errors import ConfigError, SetupError, raise_if_system_error
from clef.models.named import build_open_clip, load_open_clip, load_timm
from clef.weights.files import is_published
from clef.yaml_config import unknown

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params")
"""Keys below which training code keeps the weights of a model, the surest first."""
_FOREIGN = {
    b"version https://git-lfs": "a pointer of git-lfs, not the file itself; run `git lfs pull` where it was cloned",
    b"<": "a web page, not the file itself; look at it with a browser, and fetch the file again",
    b"{": "a JSON file, perhaps the index of weights that are split; name the file with the weights themselves",
    b"\x89HDF": "an HDF5 file, as of Keras; convert it to a PyTorch state dict",
    b"\x1f\x8b": "compressed; unpack it with gunzip",
}
"""What a file is that begins with these bytes (after blanks), and what to do."""
_NOT_WEIGHTS = "no weights that torch.save or safetensors wrote, or cut short; a file of model.state_dict() is expected"


class Pretrained:
    """Gives encoders, as they are built, the weights that a cell names. `read=False` leaves all of them random."""

    def __init__(self, config: CellConfig, read: bool = True) -> None:
        self.folder = Path(config.runtime.weights)
        self.names = weights.needed(config)
        if not read:  # of a trained cell, only what no checkpoint holds
            self.names = {role: name for role, name in self.names.items() if role in weights.frozen(config)}
        self.stated, self.backbone = set(weights.stated(config)), set(config.backbone.weights)
        self.asked: set[str] = set()

    def __call__(self, encoder: str, network: nn.Module) -> None:
        """Put the weights of the encoder of that name into `network`; leave it random only where the config says so."""
        if encoder not in self.stated:
            raise ConfigError(
                f"backbone.weights.{encoder}: missing; name weights such as imagenet-resnet18, or {weights.RANDOM}"
            )
        self.asked.add(encoder)
        if encoder in self.names:
            name = self.names[encoder]
            path = weights.path_of(name, self.folder)
            if is_published(name) or name in PACKAGED:
                load_published(network, name, path)
            else:
                load_weights(network, path)

    def check_used(self) -> None:
        """Refuse weights for encoders that the model doesn't have: a misspelt name would leave one random."""
        # All other names are those of encoders that the config has; some are built only when they are needed.
        if unused := sorted(self.stated & self.backbone - self.asked):
            raise ConfigError(unknown(f"backbone.weights.{unused[0]}", unused[0], self.asked))


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a file into a network. A head of linear layers that the network lacks, its classifier, is left out.

    Raises SetupError where a weight of the network is missing from the file or has another shape, where the file has
    other layers, and where its format can't be read.
    """
    state = _unwrap(_read(path), path)
    expected = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    prefix = _find_prefix(state, expected, path)
    state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    further = {key: value for key, value in state.items() if key not in network.state_dict()}
    if further and not _is_head(further, expected):
        layers = sorted({prefix + key.rpartition(".")[0] for key in further})
        raise SetupError(f"{path}: not weights of this network, which has no layers {', '.join(layers):.200}")
    network.load_state_dict({key: value for key, value in state.items() if key not in further}, strict=False)


def load_published(network: nn.Module, name: str, path: Path) -> None:
    """Load what a library publishes for a network, or what a package brings, as the library itself does.

    `network`: what `clef.models.named` builds of that name; of open_clip also the whole model. Raises SetupError where
    the file can't be read, or leaves a weight of the network random.
    """
    library, _, model = PACKAGED.get(name, name).partition(":")
    if library == "torchvision":
        load_weights(network, path)
        return
    try:
        if library == "open_clip":
            full = build_open_clip(model)
            incompatible = load_open_clip(full, path)
            source = full if hasattr(network, "encode_text") else full.visual
        else:
            state = _unwrap(_read(path), path)
            source, incompatible = load_timm(model, state, in_order=name in PACKAGED)
        if incompatible:
            raise RuntimeError(f"{', '.join(incompatible):.200} missing in it")
        network.load_state_dict(source.state_dict())
    except SetupError:
        raise
    except Exception as error:  # libraries raise many kinds
        raise_if_system_error(error, path)
        _unwrap(_read(path), path)  # says what the file is, where it is no weights
        reason = " ".join(str(error).split())
        raise SetupError(f"{path}: not the weights of {name}, for its library: {reason:.300}") from None


def _find_prefix(state: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> str:
    """Return what stands before all names of the network in `state`: nothing, or the way to it in a larger model."""
    first = next(iter(expected))
    ends = [key for key in state if key == first or key.endswith(f".{first}")]
    prefixes = sorted((key.removesuffix(first) for key in ends), key=len)
    faults = {prefix: _misfit(state, expected, prefix) for prefix in prefixes}
    fitting = [prefix for prefix, fault in faults.items() if fault is None]
    if "" in fitting or len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise SetupError(f"{path}: holds several such networks: {', '.join(fitting)}; save the one that you want")
    fault = faults[prefixes[0]] if faults else f"{first} is not in it; it has {', '.join(list(state)[:3])}, ..."
    raise SetupError(f"{path}: not weights of this network, or not at this width: {fault}")


def _misfit(state: dict[str, Tensor], expected: dict[str, Tensor], prefix: str) -> str | None:
    """Return which weight of the network is missing below a prefix, or has another shape; None where all fit."""
    for key, value in expected.items():
        found = state.get(prefix + key)
        if found is None:
            return f"{prefix}{key} is not in it"
        if found.shape != value.shape:
            shapes = (" x ".join(map(str, each.shape)) or "one number" for each in (found, value))
            return "{} does not fit: {} in the file, {} in the network".format(prefix + key, *shapes)
    return None


def _is_head(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    """Return whether these are one linear layer, or several in a part by a name that the network doesn't have."""
    layers, parts = {key.rpartition(".")[0] for key in weights}, {key.partition(".")[0] for key in weights}
    is_new = len(parts) == 1 and parts.isdisjoint(key.partition(".")[0] for key in expected)
    return max(value.ndim for value in weights.values()) == 2 and (len(layers) == 1 or is_new)


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the weights by name: the tensors of a dict, or of the one below a key of `_WRAPPERS`."""
    while isinstance(content, dict):
        if weights := {str(key): value for key, value in content.items() if isinstance(value, Tensor)}:
            return weights
        wrapped = [content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)]
        if not wrapped:
            break
        content = wrapped[0]
    found = ", ".join(map(str, content)) if isinstance(content, dict) else f"a {type(content).__name__}"
    raise SetupError(f"{path}: no weights by name in it, only {found:.200}; a file of model.state_dict() is expected")


# ---- File formats ----


def _read(path: Path) -> Any:
    """Return what torch.save or safetensors wrote. Raises SetupError that says what the file is instead."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
        if foreign := _foreign_format(path, start):
            raise _unreadable(path, foreign)
        if _is_safetensors(start):
            return load_safetensors(path.read_bytes())
        # A Namespace holds settings alone: the arguments that training code keeps beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except SetupError:
        raise
    except Exception as error:  # torch raises many kinds for a file that is none
        raise_if_system_error(error, path)
        raise _unreadable(path, _pickled_objects(path) or _NOT_WEIGHTS) from None


def _unreadable(path: Path, what: str) -> SetupError:
    return SetupError(f"{path}: can't be read as PyTorch weights: it is {what}")


def _is_safetensors(start: bytes) -> bool:
    """Return whether a file begins as safetensors do: the length of a JSON text, and that text."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000


def _foreign_format(path: Path, start: bytes) -> str | None:
    """Return what a file is that is no weights, with how to turn it into some; None where it may be weights."""
    if not start:
        return "empty; fetch or copy it again"
    for magic, text in _FOREIGN.items():
        if start.lstrip().startswith(magic):
            return text
    if not start.startswith(b"PK"):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except zipfile.BadZipFile:
        return "cut short or damaged; fetch or copy it again"
    if any(name.startswith("code/") for name in names):
        return "a TorchScript program; " + _conversion(path, 'torch.jit.load({}, map_location="cpu").state_dict()')
    if names & {"models/model.json", "serialized_exported_program.json"}:
        return "a program of torch.export; " + _conversion(path, "torch.export.load({}).state_dict")
    return None


def _pickled_objects(path: Path) -> str | None:
    """Return which classes a file names that are not loaded, and how to turn it into weights; None for other files."""
    try:
        classes = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # as torch.load
        return None
    shown = ", ".join([name for name in classes if not name.startswith("torch.")] or classes)
    load = 'torch.load({}, map_location="cpu", weights_only=False)'
    by_name = 'm.get("state_dict", m.get("model", m)) if isinstance(m, dict) else m.state_dict()'
    return f"a pickle of Python objects ({shown:.100}), not of weights alone; {_conversion(path, by_name, load)}"


def _conversion(path: Path, weights: str, model: str = "") -> str:
    """Return how to save the weights that are in a file: an expression, of the path or of `model`, which is `m`."""
    source, target = (json.dumps(str(each)) for each in (path, path.with_name(f"{path.stem}-weights.pth")))
    first = f"m = {model.format(source)}; " if model else ""
    code = f"import torch; {first}torch.save({weights if model else weights.format(source)}, {target})"
    return f"if you trust its source, run: python -c {shlex.quote(code)} and name that file"
