"""The backbones. To add one: a file here, a line in BACKBONES, a recipe in `configs/backbones/`."""

from clef import registry
from clef.config import BackboneConfig
from clef.models.backbone import Backbone, BackboneOutput, WeightLoader

__all__ = ["BACKBONES", "Backbone", "BackboneOutput", "WeightLoader", "backbone"]

BACKBONES = {
    "emot_net": "clef.models.emot_net:EmotNet",
    "caer_net": "clef.models.caer_net:CaerNet",
    "gnn_cnn": "clef.models.gnn_cnn:GnnCnn",
    "cd_net": "clef.models.cd_net:CdNet",
    "emoticon": "clef.models.emoticon:EmotiCon",
}


def backbone(config: BackboneConfig, classes: int, vad: bool, load: WeightLoader, classifier: bool = True) -> Backbone:
    """The backbone that `config` names, with a head of `classes` logits (or none) and, if asked, one for VAD."""
    made: Backbone = registry.find("backbone", config.name, BACKBONES)(config, classes, vad, load, classifier)
    return made
