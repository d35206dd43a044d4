"""The backbones: each reads the inputs that its recipe lists, and gives a joint feature, logits and, if asked, VAD.

`clef.config.backbones.BACKBONES` lists them. docs/extending.md says how to add one.
"""

from clef import registry
from clef.config import BackboneConfig
from clef.config.backbones import BACKBONES
from clef.models.backbone import Backbone, BackboneOutput, WeightLoader

__all__ = ["Backbone", "BackboneOutput", "WeightLoader", "build_backbone"]


def build_backbone(
    config: BackboneConfig, classes: int, vad: bool, load: WeightLoader, classifier: bool = True
) -> Backbone:
    """Build the backbone that `config` names.

    Args:
        config: its options.
        classes: K, the number of logits.
        vad: whether it gets a head for valence, arousal and dominance.
        load: puts pre-trained weights into each encoder.
        classifier: False leaves the head of K logits out.
    """
    networks = {name: entry.network for name, entry in BACKBONES.items()}
    backbone: Backbone = registry.find("backbone", config.name, networks)(config, classes, vad, load, classifier)
    return backbone
