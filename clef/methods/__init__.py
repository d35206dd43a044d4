"""The methods: each wraps a backbone, and owns the loss and the score. `build` makes the whole model of a cell.

`clef.config.methods.METHODS` lists them. docs/extending.md says how to add one.
"""

from collections.abc import Callable, Sequence

import torch

from clef import registry
from clef.config import CellConfig
from clef.config.methods import METHODS
from clef.errors import ConfigError
from clef.methods.method import ConfounderDictionary, Method, Parts, Prediction
from clef.models import Backbone, WeightLoader, build_backbone
from clef.models.pretrained import Pretrained

__all__ = ["ConfounderDictionary", "Method", "Parts", "Prediction", "build"]


def build(
    config: CellConfig,
    counts: Sequence[int],
    samples: int,
    dictionary: Callable[[WeightLoader], ConfounderDictionary],
    trained: bool = False,
) -> Method:
    """Build the cell's method around its backbone, with the weights that the config names.

    Args:
        config: the cell's.
        counts: K, how many of train's samples each class has.
        samples: how many samples train has.
        dictionary: called by a method that needs confounders.
        trained: whether all weights will be put in afterwards, so that no pre-trained file need be read.

    Raises ConfigError where the config and the networks don't agree on inputs or on the names of weights.
    """
    load = Pretrained(config, read=not trained)

    def make_backbone(classifier: bool) -> Backbone:
        backbone = build_backbone(config.backbone, len(counts), config.loss.vad_weight > 0, load, classifier)
        if missing := set(backbone.reads) - set(config.inputs.present):
            raise ConfigError(f"inputs: {config.backbone.name} needs {', '.join(sorted(missing))} too")
        return backbone

    parts = Parts(config, torch.tensor(counts), samples, make_backbone, load, dictionary)
    classes = {name: entry.method for name, entry in METHODS.items()}
    method: Method = registry.find("method", config.method.name, classes)(parts)
    load.check_used()
    return method
