"""The typed config of each backbone, and the table of those that ship with the package.

To add one: its line in BACKBONES, with a config class above it if it has options of its own; docs/extending.md says
what else it takes. A class is named by a string, since planning a grid must not import torch.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from clef.config.encoders import FusionConfig, StreamConfig
from clef.config.inputs import ImageName, InputName
from clef.config.recipes import recipe_inputs
from clef.yaml_config import Strict, tagged_union


class BackboneConfig(Strict):
    """The options that all backbones share."""

    name: str
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    """Scales every layer's channels; 1 is the published size, less is for demos and tests."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    weights: dict[str, str] = {}
    """What each encoder starts from: places365-resnet18, imagenet-resnet18, ..., a file's path, or none (random)."""

    @property
    def reads(self) -> tuple[InputName, ...] | None:
        """Return the inputs that it reads: its recipe's, less `unread`. None: only its class knows (a custom one)."""
        return tuple(name for name in recipe_inputs(self.name) if name not in self.unread)

    @property
    def unread(self) -> tuple[InputName, ...]:
        """Return the inputs of its recipe that it does not read with these options."""
        return ()

    @property
    def takes_weights(self) -> bool:
        """Return whether its encoders can start from pre-trained weights, with these options."""
        return True

    @property
    def streams(self) -> Mapping[InputName, StreamConfig]:
        """Return the encoders that have settings of their own, by the input that each reads."""
        return {}


class EmotNetConfig(BackboneConfig):
    """EMOT-Net's options."""

    name: Literal["emot_net"] = "emot_net"
    variant: Literal["resnet", "decomposed"] = "resnet"
    """The common port's ResNet-18 encoders, or the official network of 1-D kernels (which takes no weights)."""

    @property
    def takes_weights(self) -> bool:
        """Return whether it has ResNet encoders."""
        return self.variant != "decomposed"


class CaerNetConfig(BackboneConfig):
    """CAER-Net-S's options."""

    name: Literal["caer_net"] = "caer_net"
    context_pooling: Literal["average", "sum"] = "average"
    """Of the attended context map over the frame: the published average, or a sum (an attention-weighted mean)."""
    feature_norm: bool = False
    """A common port's BatchNorm1d on each stream's feature."""


class GnnCnnConfig(BackboneConfig):
    """GNN-CNN's options."""

    name: Literal["gnn_cnn"] = "gnn_cnn"
    layers: Annotated[int, Field(ge=1, le=16)] = 6
    """Graph convolutions."""


class CdNetConfig(BackboneConfig):
    """CD-Net's options."""

    name: Literal["cd_net"] = "cd_net"
    grid: Annotated[int, Field(ge=1, le=16)] = 4
    """Each map is pooled to grid x grid tubes."""


class EmotiConConfig(BackboneConfig):
    """EmotiCon's options."""

    name: Literal["emoticon"] = "emoticon"
    third: Literal["depth", "agents"] = "depth"
    """Context 3: the depth map, or the graph of the agents in the scene."""
    multiplicative_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the multiplicative loss of face and pose."""
    beta: Annotated[float, Field(gt=0)] = 1.0
    """Exponent of the multiplicative loss."""

    @property
    def unread(self) -> tuple[InputName, ...]:
        """Return the input of the context 3 that was not chosen."""
        return ("agents",) if self.third == "depth" else ("depth",)


class EncodersConfig(BackboneConfig):
    """The options of encoders by name."""

    name: Literal["encoders"] = "encoders"
    encoders: dict[ImageName, StreamConfig]
    """What reads each input: a name such as timm:NAME, or a name with settings. null leaves out one of the recipe's."""
    fusion: FusionConfig = FusionConfig()

    @field_validator("encoders", mode="before")
    @classmethod
    def _without_those_left_out(cls, value: Any) -> Any:
        return {name: each for name, each in value.items() if each is not None} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _has_streams_with_weights_of_their_own(self) -> "EncodersConfig":
        if not self.encoders:
            raise ValueError("encoders: empty; name one for an input, such as body: timm:NAME")
        if self.weights:
            raise ValueError("weights: each encoder states its own, as encoders.INPUT.weights")
        return self

    @model_validator(mode="after")
    def _zero_shot_has_what_compares_with_text(self) -> "EncodersConfig":
        for name, encoder in self.encoders.items() if self.fusion.name == "zero_shot" else ():
            if encoder.library != "open_clip":
                raise ValueError(
                    f"encoders.{name}: {encoder.network} can't be compared with text, as zero_shot does; name a model "
                    "of open_clip, such as open_clip:ViT-B-16/openai, or take another fusion"
                )
            if encoder.trainable:
                raise ValueError(f"encoders.{name}.trainable: zero_shot trains nothing; set it to false")
        return self

    @property
    def reads(self) -> tuple[InputName, ...]:
        """Return the inputs that have an encoder."""
        return tuple(name for name in recipe_inputs(self.name) if name in self.encoders)

    @property
    def streams(self) -> Mapping[InputName, StreamConfig]:
        """Return the encoders."""
        return self.encoders  # type: ignore[return-value]  # the names of images are names of inputs


class CustomBackboneConfig(BackboneConfig):
    """A backbone of your own, `module:Class`."""

    options: dict[str, Any] = {}
    """Whatever it takes."""

    @property
    def reads(self) -> None:
        """Return None: its class attribute `inputs` says what it reads, and the cell's `inputs` how."""
        return None


class BackboneEntry(NamedTuple):
    """A backbone that ships with the package: its network as `module:Class`, and its config."""

    network: str
    config: type[BackboneConfig] = BackboneConfig


BACKBONES = {
    "emot_net": BackboneEntry("clef.models.emot_net:EmotNet", EmotNetConfig),
    "caer_net": BackboneEntry("clef.models.caer_net:CaerNet", CaerNetConfig),
    "gnn_cnn": BackboneEntry("clef.models.gnn_cnn:GnnCnn", GnnCnnConfig),
    "cd_net": BackboneEntry("clef.models.cd_net:CdNet", CdNetConfig),
    "emoticon": BackboneEntry("clef.models.emoticon:EmotiCon", EmotiConConfig),
    "encoders": BackboneEntry("clef.models.encoder_fusion:EncoderFusion", EncodersConfig),
}
"""The shipped backbones by name, in the order in which documents list them."""

if TYPE_CHECKING:
    AnyBackboneConfig = BackboneConfig
else:
    AnyBackboneConfig = tagged_union({name: entry.config for name, entry in BACKBONES.items()}, CustomBackboneConfig)
