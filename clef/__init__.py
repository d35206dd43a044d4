"""Counterfactual emotion inference for context-aware emotion recognition, and the grid around it."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clef.engine.model_io import TrainedModel

__version__ = "0.1.0"


def load(cell: str | Path, checkpoint: str | None = None, device: str = "auto") -> "TrainedModel":
    """Return a trained cell, ready to predict: `.config`, `.classes`, `.predict(batch)`, `.batches(split)`, `.method`.

    `cell` is its folder, its name below `runs/`, or a part of that which only one cell has. `checkpoint` is `best`,
    `last` or a path; by default what its result was scored with, the newest while it has none. `device` is `auto` (a
    GPU if there is one) or one of torch's.

        model = clef.load("caer_s_demo-emot_net-clef")
        for batch in model.batches("test"):
            scores = model.predict(batch).scores            # B,K
            print([model.classes[k] for k in scores.argmax(1)])

    Needs neither shards (except for `batches`) nor pre-trained files. Raises ConfigError when no cell or more than
    one matches, and CellError when its weights are missing or damaged.
    """
    from clef.engine import model_io  # torch is slow to import

    return model_io.load_trained(cell, checkpoint, device)
