"""What a backbone is: a vanilla CAER model that declares its inputs and gives features, logits and, if asked, VAD."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from clef.config import BackboneConfig, InputName

Batch = dict[str, Any]


@dataclass(frozen=True)
class BackboneOutput:
    """`logits` B,K: never probabilities. `vad` B,3 on the 1-10 scale, or None. `aux`: further losses by name."""

    logits: Tensor
    vad: Tensor | None = None
    aux: dict[str, Tensor] = field(default_factory=dict)


class WeightLoader(Protocol):
    """Puts the pre-trained weights that the config names for an encoder into `network`, or leaves it random."""

    def __call__(self, encoder: str, network: nn.Module) -> None: ...


class Backbone(nn.Module):
    """Base of all backbones: `features` is theirs, the heads are common.

    A subclass sets `inputs` and `feature_dim`, and defines `features(batch) -> B,feature_dim`: the joint feature
    before the classifier.
    """

    inputs: ClassVar[tuple[InputName, ...]]
    feature_dim: int

    def __init__(self, config: BackboneConfig, classes: int, vad: bool, load: WeightLoader) -> None:
        super().__init__()
        self.build(config, load)
        self.classifier = nn.Linear(self.feature_dim, classes)
        self.vad_head = nn.Linear(self.feature_dim, 3) if vad else None
        if self.vad_head is not None:  # from the middle of the scale, not from 0
            nn.init.constant_(self.vad_head.bias, 5.5)

    def build(self, config: BackboneConfig, load: WeightLoader) -> None:
        """Make the layers up to the joint feature, and set `feature_dim`."""
        raise NotImplementedError

    def features(self, batch: Batch) -> Tensor:
        """The joint feature, B,feature_dim."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> BackboneOutput:
        """Logits, and VAD where it is trained."""
        features = self.features(batch)
        vad = self.vad_head(features) if self.vad_head is not None else None
        return BackboneOutput(self.classifier(features), vad)
