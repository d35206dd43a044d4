"""Puts pre-trained weights into an encoder, from the published file formats, or says why it can't."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from clef import weights
from clef.config import CellConfig
from clef.errors import ConfigError, SetupError, raise_if_system_error
from clef.yaml_config import unknown

_CLASSIFIERS = ("fc.", "classifier.6.")
"""The last layers of ResNets and of VGG-16, which encoders don't have."""


class Pretrained:
    """Gives encoders, as they are built, the weights that a cell names. `read=False` leaves all of them random."""

    def __init__(self, config: CellConfig, read: bool = True) -> None:
        self.folder = Path(config.runtime.weights)
        self.names = weights.needed(config) if read else {}
        self.stated = set(weights.stated(config))
        self.asked: set[str] = set()

    def __call__(self, encoder: str, network: nn.Module) -> None:
        """Put the weights of the encoder of that name into `network`; leave it random only where the config says so."""
        if encoder not in self.stated:
            raise ConfigError(
                f"backbone.weights.{encoder}: missing; name weights such as imagenet-resnet18, or {weights.RANDOM}"
            )
        self.asked.add(encoder)
        if encoder in self.names:
            path = weights.path_of(self.names[encoder], self.folder)
            load_weights(network, path)

    def check_used(self) -> None:
        """Refuse weights for encoders that the model doesn't have: a misspelt name would leave one random."""
        # CCIM's dictionary is not part of the model, and its network is built only where there is none yet.
        if unused := sorted(self.stated - self.asked - {weights.DICTIONARY}):
            raise ConfigError(unknown(f"backbone.weights.{unused[0]}", unused[0], self.asked))


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a torchvision or Places365 file into a network without a classifier.

    Raises SetupError where a weight of the network is missing from the file or has another shape.
    """
    state = _read_state_dict(path)
    state = {key: value for key, value in state.items() if not key.startswith(_CLASSIFIERS)}
    expected = network.state_dict()
    wrong = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    wrong += [key for key in state if key not in expected]
    wrong += [key for key in expected if key in state and expected[key].shape != state[key].shape]
    if wrong:
        raise SetupError(f"{path}: not weights of this network: {wrong[0]} does not fit (width must be 1)")
    network.load_state_dict(state, strict=False)


def _read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights in a file: a state dict, or one below the key `state_dict`, as Places365 has it."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is none
        raise_if_system_error(error, path)
        raise SetupError(f"{path}: can't be read as PyTorch weights: {str(error).splitlines()[0]}") from None
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict):
        raise SetupError(f"{path}: no weights by name in it")
    return {str(key).removeprefix("module."): value for key, value in content.items()}
