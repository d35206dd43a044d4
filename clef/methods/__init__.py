"""The methods, and the whole model of a cell. To add one: a file here, a line in METHODS, a config, its defaults."""

from collections.abc import Callable, Sequence

import torch

from clef import registry
from clef.config import CellConfig
from clef.errors import ConfigError
from clef.methods.method import Dictionary, Method, Parts, Prediction
from clef.models import Backbone, WeightLoader, backbone
from clef.models.pretrained import Pretrained

__all__ = ["METHODS", "Dictionary", "Method", "Parts", "Prediction", "build"]

METHODS = {
    "vanilla": "clef.methods.baselines:Vanilla",
    "clef": "clef.methods.clef:Clef",
    "ccim": "clef.methods.ccim:Ccim",
    "context_only": "clef.methods.baselines:ContextOnly",
}


def build(
    config: CellConfig,
    counts: Sequence[int],
    samples: int,
    dictionary: Callable[[WeightLoader], Dictionary],
    trained: bool = False,
) -> Method:
    """The cell's method around its backbone, with the weights that the config names.

    `counts`: how many of train's `samples` each class has. `dictionary` is called by a method that needs confounders.
    `trained`: all weights will be put in afterwards, so no pre-trained file is read.
    """
    load = Pretrained(config, read=not trained)

    def make_backbone(classifier: bool) -> Backbone:
        made = backbone(config.backbone, len(counts), config.loss.vad_weight > 0, load, classifier)
        if missing := set(made.reads) - set(config.inputs.present):
            raise ConfigError(f"inputs: {config.backbone.name} needs {', '.join(sorted(missing))} too")
        return made

    parts = Parts(config, torch.tensor(counts), samples, make_backbone, load, dictionary)
    method: Method = registry.find("method", config.method.name, METHODS)(parts)
    load.check_used()
    return method
