"""Backbones with random weights, and batches for them."""

from typing import Any

import torch
from pydantic import TypeAdapter

from clef.config.backbones import BACKBONES, AnyBackboneConfig, BackboneConfig
from clef.models import Backbone, build_backbone

STREAM = {"network": "resnet18", "width": 0.0625, "weights": "none", "trainable": True}
STREAMS = (
    "context", "scene", "scene_without_face", "scene_without_extended_face", "scene_without_person", "body", "face"
)  # fmt: skip
CASES: dict[str, dict[str, Any]] = (
    {name: {"name": name} for name in BACKBONES}
    | {
        "emot_net decomposed": {"name": "emot_net", "variant": "decomposed"},
        "caer_net feature_norm": {"name": "caer_net", "feature_norm": True},
        "gnn_cnn": {"name": "gnn_cnn", "layers": 2},
        "emoticon agents": {"name": "emoticon", "third": "agents"},
        "encoders": {"name": "encoders", "encoders": dict.fromkeys(STREAMS, STREAM)},
    }
    | {
        f"encoders {fusion}": {
            "name": "encoders",
            "encoders": dict.fromkeys(("scene", "body", "face"), STREAM),
            "fusion": {"name": fusion, "dim": 256},
        }
        for fusion in ("linear", "gated", "attention")
    }
)
"""Every backbone as its recipe has it, and some of their variants."""
IMAGES = ("scene", "body", "face", "context", "scene_without_face")


def config(**settings: Any) -> BackboneConfig:
    """A typed config from its fields."""
    return TypeAdapter(AnyBackboneConfig).validate_python(settings)


def make(classes: int = 26, vad: bool = False, classifier: bool = True, **settings: Any) -> Backbone:
    """A backbone with random weights, always the same."""
    torch.manual_seed(0)
    return build_backbone(config(**settings), classes, vad, lambda encoder, network: None, classifier)


def on_meta(classes: int = 26, vad: bool = False, **settings: Any) -> Backbone:
    """A backbone of full size that takes no memory: it has shapes, but no values."""
    with torch.device("meta"):
        return make(classes, vad, **settings)


def batch(samples: int = 2, classes: int = 26, size: int = 40, single: bool = False, seed: int = 1) -> dict[str, Any]:
    """A batch with every input there is, all valid; the last of five boxes is padding."""
    random = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=random)

    inputs: dict[str, Any] = {name: rand(samples, 3, size, size) * 4 - 2 for name in IMAGES}
    inputs |= {"depth": rand(samples, 1, size, size) * 2 - 1, "landmarks": rand(samples, 68, 2)}
    inputs |= {
        "pose": rand(samples, 17, 3),
        "regions": boxes(rand(samples, 5, 4)),
        "agents": boxes(rand(samples, 5, 4)),
    }
    inputs |= {name: rand(samples, 3, size, size) * 4 - 2 for name in STREAMS if name not in inputs}
    inputs["valid"] = {name: torch.ones(samples, dtype=torch.bool) for name in inputs}
    several = (rand(samples, classes) < 0.3).float()
    several[:, 0] = 1
    inputs["target"] = torch.arange(samples) % classes if single else several
    return inputs


def boxes(numbers: torch.Tensor) -> torch.Tensor:
    """Boxes with corners in order, from numbers in 0-1; the last one is padding."""
    corners = numbers.unflatten(-1, (2, 2)).sort(dim=-2).values.flatten(-2)
    corners[:, -1] = 0
    return corners


def without(batch: dict[str, Any], name: str, sample: int | None = None) -> dict[str, Any]:
    """The batch as a loader gives it where a sample (None: every one) lacks an input: zeros, and not valid."""
    which = slice(None) if sample is None else sample
    changed, valid = batch[name].clone(), batch["valid"][name].clone()
    changed[which], valid[which] = 0, False
    return batch | {name: changed, "valid": batch["valid"] | {name: valid}}


def parameters(module: torch.nn.Module) -> int:
    """The number of parameters of a module."""
    return sum(p.numel() for p in module.parameters())
