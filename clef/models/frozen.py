"""Encoders that are never trained: built when they are first needed, and no part of the model's parameters."""

import torch
from torch import Tensor, nn

from clef.config import EncoderConfig, InputName
from clef.data.batch_memory import FEATURES, Batch
from clef.errors import ConfigError
from clef.models.backbone import WeightLoader
from clef.models.encoders import build_encoder, encoder_dim


class FrozenEncoder:
    """A network whose features of an input are the same in every epoch, so that they may come with the batch.

    It is no module: no checkpoint holds its weights (the cell's signature knows them by their sha256), and it isn't
    built where all its features were computed beforehand. It is always in evaluation mode and float32.
    """

    def __init__(
        self, role: str, input_name: InputName, config: EncoderConfig, load: WeightLoader, seed: int = 0
    ) -> None:
        """Note what to build.

        `role`: its name in `clef.weights`, which is that of its input, `context_branch` or `dictionary`. Random weights
        depend on `seed` alone, so that features can be computed once and shared.
        """
        self.role, self.input, self.config, self.seed = role, input_name, config, seed
        self.dim = encoder_dim(config)
        self._load = load
        self._network: nn.Module | None = None

    def network(self) -> nn.Module:
        """Return the network, in evaluation mode and without gradients; build it, and load its weights, at first."""
        if self._network is None:
            with torch.random.fork_rng(devices=[]):  # training draws the same numbers whether it is built or not
                torch.manual_seed(self.seed)
                network = build_encoder(self.config)
            self._load(self.role, network)
            self._network = network.requires_grad_(False).eval()
        return self._network

    def __call__(self, batch: Batch) -> Tensor:
        """Return features B,dim float32 of the batch's images B,3,H,W, or those that came with it."""
        known: dict[str, Tensor] = batch.get(FEATURES, {})
        return known[self.role] if self.role in known else self.encode(batch[self.input])

    def encode(self, images: Tensor) -> Tensor:
        """Return features B,dim float32 of normalized images B,3,H,W, rounded to the precision that is kept."""
        network = self.network().to(images.device)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            features = read_images(network, images.float(), self.config).float()
        return features.half().float() if self.config.features == "fp16" else features


def read_images(network: nn.Module, images: Tensor, config: EncoderConfig) -> Tensor:
    """Return an encoder's features B,dim of images B,3,H,W.

    Raises ConfigError where it takes no images of that size, or gives something else than its config says.
    """
    height, width = images.shape[-2:]
    own = getattr(network, "image_size", None)  # of open_clip's towers
    try:
        if own is not None and tuple(own) != (height, width):
            raise AssertionError(f"{own[0]}x{own[1]} are expected")
        features: Tensor = network(images)
    except AssertionError as error:  # by which timm refuses a size, too
        raise ConfigError(f"{config.network} takes no images of {height}x{width}: {error}") from None
    expected = (len(images), encoder_dim(config))
    if tuple(features.shape) != expected:
        found = ",".join(map(str, features.shape))
        raise ConfigError(f"{config.network}: gives features of shape {found}, not {expected[0]},{expected[1]} (dim)")
    return features
