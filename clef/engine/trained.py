"""What `clef.load` gives: a trained model, ready to predict."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from clef import cards
from clef.cells import lookup, records
from clef.cells.identity import check_cell
from clef.config import CellConfig, resolve
from clef.data import manifest as manifests
from clef.data.dataset import CellDataset
from clef.data.loader import Batch, loader, to_device
from clef.data.order import EveryOnce
from clef.data.shards import SplitShards
from clef.engine.restore import restore, weights_of
from clef.errors import ConfigError
from clef.methods import Method, Prediction

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Trained:
    """A trained cell: its config, the names of its K classes, and the network itself, in evaluation mode."""

    folder: Path
    config: CellConfig
    classes: list[str]
    method: Method
    device: torch.device

    def predict(self, batch: Batch) -> Prediction:
        """Scores B,K and effects for a batch as `batches` gives them, or one of your own.

        Of that, only the inputs in `config.inputs` are needed: images uint8, B,3,H,W, of the size (or crop) stated
        there, the subject black in `context`. Computed in the cell's precision (fp16 on a CPU: in fp32). There are no
        losses.
        """
        inputs = self.config.inputs.present
        if missing := sorted(set(inputs) - set(batch)):
            raise ConfigError(f"the batch lacks {', '.join(missing)}; {self.config.name} reads {', '.join(inputs)}")
        count = len(batch[next(iter(inputs))])
        known = {"valid": {name: torch.ones(count, dtype=torch.bool) for name in inputs}} | self._no_labels(count)
        whole = known | {key: value for key, value in batch.items() if key in {*known, *inputs}}
        with torch.inference_mode(), self._precision():
            prediction: Prediction = self.method(to_device(whole, inputs, self.device))
        return replace(prediction, losses={})

    def batches(self, split: str, workers: int = 0) -> Iterator[Batch]:
        """All of a split of the cell's shards in batches, each sample once, in the manifest's order."""
        manifest = manifests.load(self.config.shards)
        check_cell(self.folder, self.config, manifest)
        shards = SplitShards(self.config.shards, split, manifest)
        dataset = CellDataset(shards, self.config.inputs.present, self.config.seed, augment=False)
        yield from loader(dataset, EveryOnce(len(shards), self.config.batch_size, 0, 1), workers)

    def _no_labels(self, count: int) -> dict[str, Any]:
        """Labels that stand for none: a forward pass wants some, and no score depends on them."""
        single = torch.zeros(count, dtype=torch.long)
        target = single if self.method.single_label else torch.zeros(count, len(self.classes))
        return {"target": target, "vad": torch.full((count, 3), torch.nan)}

    def _precision(self) -> Any:
        dtype = _DTYPES.get(self.config.mixed_precision)
        if dtype is None or (dtype == torch.float16 and self.device.type == "cpu"):
            return nullcontext()
        return torch.autocast(self.device.type, dtype)


def load(wanted: str | Path, checkpoint: str | None = None, device: str = "auto") -> Trained:
    """`clef.load`."""
    folder = lookup.find_cell(wanted)
    config = resolve.from_yaml(folder / records.CONFIG)
    on_gpu = device == "auto" and torch.cuda.is_available()
    chosen = torch.device("cuda" if on_gpu else "cpu" if device == "auto" else device)
    method = restore(config, weights_of(folder, checkpoint), chosen)
    return Trained(folder, config, list(cards.load(config.dataset, config.protocol).classes), method, chosen)
