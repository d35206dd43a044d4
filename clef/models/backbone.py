"""What a backbone is: a CAER model that reads certain inputs and gives a joint feature, logits and, if asked, VAD."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, get_args

from torch import Tensor, nn

from clef.config import BackboneConfig, InputName
from clef.data.batch_memory import Batch
from clef.errors import ConfigError

if TYPE_CHECKING:
    from clef.models.frozen import FrozenEncoder


@dataclass(frozen=True)
class Encoded:
    """What a backbone makes of a batch ahead of its heads."""

    feature: Tensor
    """B,feature_dim: the joint feature."""
    aux: dict[str, Tensor] = field(default_factory=dict)
    """Losses of the backbone's own, weighted, by name."""


@dataclass(frozen=True)
class BackboneOutput:
    """What a backbone says of a batch."""

    logits: Tensor
    """B,K: never probabilities."""
    vad: Tensor | None = None
    """B,3: valence, arousal and dominance on the 1-10 scale, where they are trained."""
    aux: dict[str, Tensor] = field(default_factory=dict)
    """Losses of the backbone's own, weighted, by name."""
    feature: Tensor | None = None
    """B,feature_dim: the joint feature, which the heads read."""
    without_subject: "BackboneOutput | None" = None
    """What it says of the same people with the subject blanked, for a method that asks for it."""


class WeightLoader(Protocol):
    """Puts the pre-trained weights that the config names for an encoder into `network`, or leaves it random."""

    def __call__(self, encoder: str, network: nn.Module) -> None:
        """Load the weights of the encoder of that name in place."""


class Backbone(nn.Module):
    """Base of all backbones. A subclass makes the joint feature; the heads are the same for all.

    A subclass defines `build`, which sets `feature_dim`, and `features(batch)`, or `encode(batch)` where it has losses
    of its own. `classifier=False` builds no classifier: the method brings its own.
    """

    inputs: ClassVar[tuple[InputName, ...]] = ()
    """What a backbone of your own reads. One that ships with the package lists its inputs in its recipe alone."""
    feature_dim: int

    def __init__(
        self, config: BackboneConfig, classes: int, vad: bool, load: WeightLoader, classifier: bool = True
    ) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        self._encoders: list[nn.Module] = []
        self.build(config, self._recording(load))
        self.classifier: nn.Module = self.make_classifier(classes) if classifier else nn.Identity()
        self.vad_head = nn.Linear(self.feature_dim, 3) if vad else None
        if self.vad_head is not None:  # from the middle of the scale, not from 0
            nn.init.constant_(self.vad_head.bias, 5.5)

    @property
    def reads(self) -> tuple[InputName, ...]:
        """Return the inputs that it needs of a batch."""
        return self.config.reads or self.inputs

    def encoder_rates(self) -> dict[nn.Parameter, float]:
        """Return the parameters of the networks that pre-trained weights exist for, each with its relative rate."""
        return {parameter: 1.0 for network in self._encoders for parameter in network.parameters()}

    def frozen_encoders(self) -> "list[FrozenEncoder]":
        """Return the encoders that are never trained, whose features may come with a batch."""
        return []

    def build(self, config: Any, load: WeightLoader) -> None:
        """Make the layers up to the joint feature, and set `feature_dim`.

        `load("scene", network)` puts the weights of `backbone.weights.scene` into an encoder.
        """
        raise NotImplementedError

    def make_classifier(self, classes: int) -> nn.Module:
        """Return the head from the joint feature, B,feature_dim, to logits, B,K."""
        return nn.Linear(self.feature_dim, classes)

    def features(self, batch: Batch) -> Tensor:
        """Return the joint feature, B,feature_dim."""
        return self.encode(batch).feature

    def encode(self, batch: Batch) -> Encoded:
        """Return the joint feature, B,feature_dim, and the backbone's own losses."""
        return Encoded(self.features(batch))

    def forward(self, batch: Batch) -> BackboneOutput:
        """Return logits B,K (the joint feature itself where no classifier was built), and VAD B,3 where trained."""
        encoded = self._encode_inputs(batch)
        vad = self.vad_head(encoded.feature) if self.vad_head is not None else None
        return BackboneOutput(self.classifier(encoded.feature), vad, encoded.aux, encoded.feature)

    def _encode_inputs(self, batch: Batch) -> Encoded:
        """Return `encode(batch)`. Raises ConfigError where it reads an input that nothing lists for the backbone."""
        try:
            return self.encode(batch)
        except KeyError as error:
            name = error.args[0] if error.args else None
            if name not in get_args(InputName) or name in batch:
                raise
            shipped = f"inputs of configs/backbones/{self.config.name}.yaml do not list"
            where = "class attribute `inputs` does not list" if self.config.reads is None else shipped
            raise ConfigError(
                f"backbone {self.config.name} reads the input {name}, which the {where}; add it there"
            ) from error

    def _recording(self, load: WeightLoader) -> WeightLoader:
        """Return `load`, which then also notes each encoder: the others' layers may learn at another rate."""

        def load_and_note(encoder: str, network: nn.Module) -> None:
            load(encoder, network)
            self._encoders.append(network)

        return load_and_note
