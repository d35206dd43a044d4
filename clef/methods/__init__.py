"""The methods, and the whole model of a cell."""

from clef.config import CellConfig, ClefConfig
from clef.errors import ConfigError
from clef.methods.clef import Clef
from clef.methods.method import Method, Prediction
from clef.methods.vanilla import Vanilla
from clef.models import backbone
from clef.models.pretrained import Pretrained

__all__ = ["Method", "Prediction", "build"]


def build(config: CellConfig, classes: int) -> Method:
    """The cell's method around its backbone, with the weights that the config names."""
    load = Pretrained(config)
    made = backbone(config.backbone, classes, config.loss.vad_weight > 0, load)
    missing = set(made.reads) - set(config.inputs.present)
    if missing:
        raise ConfigError(f"inputs: {config.backbone.name} needs {', '.join(sorted(missing))} too")
    method: Method
    if isinstance(config.method, ClefConfig):
        method = Clef(config.method, made, config.loss, classes, load)
    else:
        method = Vanilla(made, config.loss)
    load.check_used()
    return method
