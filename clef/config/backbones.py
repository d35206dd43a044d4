"""The typed config of each backbone. `width`, `dropout` and `weights` are common to all."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from clef.config.base import Strict, tag
from clef.config.inputs import InputName


class BackboneConfig(Strict):
    """What every backbone takes."""

    name: str
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    """Scales every layer's channels; 1 is the published size, less is for demos and tests."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    weights: dict[str, str] = {}
    """What each encoder starts from: places365-resnet18, imagenet-resnet18, ..., a file's path, or none (random)."""

    @property
    def reads(self) -> tuple[InputName, ...] | None:
        """The inputs that it reads; None where only the cell's `inputs` say so (a backbone of your own)."""
        return None


class EmotNetConfig(BackboneConfig):
    name: Literal["emot_net"] = "emot_net"
    variant: Literal["resnet", "decomposed"] = "resnet"
    """The common port's ResNet-18 encoders, or the official network of 1-D kernels (which takes no weights)."""

    @property
    def reads(self) -> tuple[InputName, ...]:
        """The inputs that it reads."""
        return "scene", "body"


class CaerNetConfig(BackboneConfig):
    name: Literal["caer_net"] = "caer_net"
    feature_norm: bool = False
    """A common port's BatchNorm1d on each stream's feature."""

    @property
    def reads(self) -> tuple[InputName, ...]:
        """The inputs that it reads."""
        return "face", "scene_without_face"


class GnnCnnConfig(BackboneConfig):
    name: Literal["gnn_cnn"] = "gnn_cnn"
    layers: Annotated[int, Field(ge=1, le=16)] = 6
    """Graph convolutions."""

    @property
    def reads(self) -> tuple[InputName, ...]:
        """The inputs that it reads."""
        return "body", "scene", "regions"


class CdNetConfig(BackboneConfig):
    name: Literal["cd_net"] = "cd_net"
    grid: Annotated[int, Field(ge=1, le=16)] = 4
    """Each map is pooled to grid x grid tubes."""

    @property
    def reads(self) -> tuple[InputName, ...]:
        """The inputs that it reads."""
        return "face", "body", "context"


class EmotiConConfig(BackboneConfig):
    name: Literal["emoticon"] = "emoticon"
    third: Literal["depth", "agents"] = "depth"
    """Context 3: the depth map, or the graph of the agents in the scene."""
    multiplicative_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the multiplicative loss of face and pose."""
    beta: Annotated[float, Field(gt=0)] = 1.0
    """Its exponent."""

    @property
    def reads(self) -> tuple[InputName, ...]:
        """The inputs that it reads."""
        return "landmarks", "pose", "context", self.third


class CustomBackboneConfig(BackboneConfig):
    """A backbone of your own, `module:Class`."""

    options: dict[str, Any] = {}
    """Whatever it takes."""


AnyBackboneConfig = Annotated[
    Annotated[EmotNetConfig, Tag("emot_net")]
    | Annotated[CaerNetConfig, Tag("caer_net")]
    | Annotated[GnnCnnConfig, Tag("gnn_cnn")]
    | Annotated[CdNetConfig, Tag("cd_net")]
    | Annotated[EmotiConConfig, Tag("emoticon")]
    | Annotated[CustomBackboneConfig, Tag("custom")],
    Discriminator(tag),
]
