"""What a backbone is: a vanilla CAER model that reads declared inputs and gives features, logits and, if asked, VAD."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from clef.config import BackboneConfig, InputName

Batch = dict[str, Any]


@dataclass(frozen=True)
class Encoded:
    """`feature` B,feature_dim: the joint feature before the classifier. `aux`: further losses, weighted, by name."""

    feature: Tensor
    aux: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class BackboneOutput:
    """`logits` B,K: never probabilities. `vad` B,3 on the 1-10 scale, or None. `aux`: further losses by name."""

    logits: Tensor
    vad: Tensor | None = None
    aux: dict[str, Tensor] = field(default_factory=dict)
    feature: Tensor | None = None
    """B,feature_dim: what the heads read."""


class WeightLoader(Protocol):
    """Puts the pre-trained weights that the config names for an encoder into `network`, or leaves it random."""

    def __call__(self, encoder: str, network: nn.Module) -> None: ...


class Backbone(nn.Module):
    """Base of all backbones: the joint feature is theirs, the heads are common.

    A subclass sets `inputs` (unless its config's `reads` does) and `feature_dim`, and defines `features(batch)`, or
    `encode(batch)` where it has losses of its own. `classifier=False` builds no classifier: a method brings its own.
    """

    inputs: ClassVar[tuple[InputName, ...]] = ()
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
        """The inputs that it needs of a batch."""
        return self.config.reads or self.inputs

    def _recording(self, load: WeightLoader) -> WeightLoader:
        def recorded(encoder: str, network: nn.Module) -> None:
            load(encoder, network)
            self._encoders.append(network)

        return recorded

    def encoder_parameters(self) -> set[nn.Parameter]:
        """Those of the networks that pre-trained weights exist for."""
        return {parameter for network in self._encoders for parameter in network.parameters()}

    def build(self, config: Any, load: WeightLoader) -> None:
        """Make the layers up to the joint feature, and set `feature_dim`."""
        raise NotImplementedError

    def make_classifier(self, classes: int) -> nn.Module:
        """From the joint feature to logits."""
        return nn.Linear(self.feature_dim, classes)

    def features(self, batch: Batch) -> Tensor:
        """The joint feature, B,feature_dim."""
        return self.encode(batch).feature

    def encode(self, batch: Batch) -> Encoded:
        """The joint feature, and losses of the backbone's own."""
        return Encoded(self.features(batch))

    def forward(self, batch: Batch) -> BackboneOutput:
        """Logits (the joint feature itself where no classifier was built), and VAD where it is trained."""
        encoded = self.encode(batch)
        vad = self.vad_head(encoded.feature) if self.vad_head is not None else None
        return BackboneOutput(self.classifier(encoded.feature), vad, encoded.aux, encoded.feature)
