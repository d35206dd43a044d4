"""Encoders by name, one for each input, and a small fusion of their features.

A frozen encoder's features are the same in every epoch; with them computed once (`clef.engine.feature_cache`), a cell
trains the fusion and the heads alone. What a sample lacks is left out: its stream says nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clef.config import EncodersConfig, FusionConfig, InputName
from clef.data.batch_memory import Batch
from clef.models.backbone import Backbone, WeightLoader
from clef.models.encoders import build_encoder, encoder_dim, scaled
from clef.models.frozen import FrozenEncoder, read_images
from clef.models.zero_shot import TextClassifier, UnitFeatures


class EncoderFusion(Backbone):
    """The streams' features, each normalized to mean 0 and deviation 1, and a fusion to one of `fusion.dim`."""

    def build(self, config: EncodersConfig, load: WeightLoader) -> None:
        """Make the trainable encoders, note the frozen ones, and make the fusion."""
        self.streams = {name: config.streams[name] for name in config.reads}
        self.encoders = nn.ModuleDict()
        self.fusion: nn.Module
        self._frozen: dict[InputName, FrozenEncoder] = {}
        for name, stream in self.streams.items():
            if stream.trainable:
                self.encoders[name] = build_encoder(stream)
                load(name, self.encoders[name])
            else:
                self._frozen[name] = FrozenEncoder(name, name, stream, load)
        dims = [encoder_dim(stream) for stream in self.streams.values()]
        self.is_zero_shot = config.fusion.name == "zero_shot"
        if self.is_zero_shot:
            self.feature_dim = sum(dims) + len(dims)
            self.fusion = UnitFeatures()
            return
        self.feature_dim = scaled(config.fusion.dim, config.width)
        self.fusion = _FUSIONS[config.fusion.name](dims, self.feature_dim, config.fusion)
        self.dropout = nn.Dropout(config.dropout)

    def make_classifier(self, classes: int) -> nn.Module:
        """Return the head: a layer that is trained, or one that is made of texts."""
        return TextClassifier(classes, self.feature_dim) if self.is_zero_shot else super().make_classifier(classes)

    def frozen_encoders(self) -> list[FrozenEncoder]:
        """Return those that are not trained."""
        return list(self._frozen.values())

    def encoder_rates(self) -> dict[nn.Parameter, float]:
        """Return the rate of each trainable encoder's parameters, relative to the base rate."""
        trainable = [(stream, self.encoders[name]) for name, stream in self.streams.items() if stream.trainable]
        return {p: stream.lr_multiplier for stream, encoder in trainable for p in encoder.parameters()}

    def features(self, batch: Batch) -> Tensor:
        """Return the joint feature, B,feature_dim, of the images B,3,H,W (or of features that came with the batch)."""
        valid = torch.stack([batch["valid"][name] for name in self.streams], dim=1)
        features = [self._encode(name, batch) for name in self.streams]
        if self.is_zero_shot:
            units: Tensor = self.fusion(features, valid)
            return units
        joint: Tensor = self.dropout(self.fusion([F.layer_norm(f, f.shape[1:]) for f in features], valid))
        return joint

    def _encode(self, name: InputName, batch: Batch) -> Tensor:
        if name in self._frozen:
            return self._frozen[name](batch)
        return read_images(self.encoders[name], batch[name], self.streams[name]).float()


class Concatenation(nn.Module):
    """linear and mlp: all features side by side, zeros for a missing one; one layer, or two with a ReLU after each."""

    def __init__(self, dims: list[int], out: int, config: FusionConfig) -> None:
        super().__init__()
        first = nn.Linear(sum(dims), out)
        is_mlp = config.name == "mlp"
        self.layers = nn.Sequential(first, nn.ReLU(), nn.Linear(out, out), nn.ReLU()) if is_mlp else first

    def forward(self, features: list[Tensor], valid: Tensor) -> Tensor:
        """Return B,out of features B,d_i and `valid` B,streams bool."""
        there = [torch.where(valid[:, i, None], feature, 0) for i, feature in enumerate(features)]
        joint: Tensor = self.layers(torch.cat(there, dim=1))
        return joint


class Projections(nn.Module):
    """A linear layer and a ReLU for each stream, to one dimension: B,streams,out."""

    def __init__(self, dims: list[int], out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, out) for dim in dims)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return B,streams,out of features B,d_i."""
        return torch.stack([layer(f).relu() for layer, f in zip(self.layers, features, strict=True)], dim=1)


class Gated(nn.Module):
    """The projections' sum, weighted by a softmax over a score that each gives itself, among those that are there."""

    def __init__(self, dims: list[int], out: int, _config: FusionConfig) -> None:
        super().__init__()
        self.projections = Projections(dims, out)
        self.score = nn.Linear(out, 1, bias=False)

    def forward(self, features: list[Tensor], valid: Tensor) -> Tensor:
        """Return B,out of features B,d_i and `valid` B,streams bool; zeros where nothing is there."""
        tokens = self.projections(features)
        return (masked_softmax(self.score(tokens).squeeze(-1), valid)[:, None] @ tokens).squeeze(1)


class Attention(nn.Module):
    """Multi-head attention between the projections (Vaswani et al., 2017), added to them, and their mean."""

    def __init__(self, dims: list[int], out: int, config: FusionConfig) -> None:
        super().__init__()
        self.heads = config.heads if out % config.heads == 0 else 1
        self.projections = Projections(dims, out)
        self.queries, self.values, self.out = (nn.Linear(out, out) for _ in range(3))
        self.keys = nn.Linear(out, out, bias=False)  # a softmax over keys doesn't see what they have in common

    def forward(self, features: list[Tensor], valid: Tensor) -> Tensor:
        """Return B,out of features B,d_i and `valid` B,streams bool; zeros where nothing is there."""
        tokens = self.projections(features)
        layers = (self.queries, self.keys, self.values)
        q, k, v = (layer(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in layers)  # B,heads,S,d
        weights = masked_softmax(q @ k.mT / q.shape[-1] ** 0.5, valid[:, None, None])
        tokens = tokens + self.out((weights @ v).transpose(1, 2).flatten(2))
        share = valid / valid.sum(1, keepdim=True).clamp(min=1)
        return (share[:, None].to(tokens.dtype) @ tokens).squeeze(1)


def masked_softmax(scores: Tensor, valid: Tensor) -> Tensor:
    """Return the softmax over the last dimension of those that are valid; 0 for the others, also where none is."""
    weights = scores.masked_fill(~valid, torch.finfo(scores.dtype).min).softmax(-1)
    return weights * valid


_FUSIONS: dict[str, Callable[[list[int], int, FusionConfig], nn.Module]] = {
    "linear": Concatenation,
    "mlp": Concatenation,
    "gated": Gated,
    "attention": Attention,
}
