"""Scores every sample of a split exactly once, over all ranks, keyed by its place in the manifest."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from clef import signals
from clef.config import CellConfig
from clef.data.cache import node_cache
from clef.data.dataset import CellDataset
from clef.data.loader import loader, to_device
from clef.data.order import EveryOnce
from clef.data.shards import SplitShards
from clef.engine.frozen import FrozenFeatures
from clef.errors import Preempted
from clef.methods import Method
from clef.metrics import check_coverage

Arrays = dict[str, np.ndarray]
"""index N, target N or N,K, scores N,K, the effects Y_e, Y_c, Y_e*, each N,K float32.

Where the backbone predicts valence, arousal and dominance: vad and vad_target, N,3, NaN where unknown. A file of
predictions has group, N, too (`clef.engine.groups`).
"""

ADDED = ("group", "vad", "vad_target")
"""What the predictions of older versions lack."""


def evaluate(
    method: Method,
    config: CellConfig,
    split: SplitShards,
    accelerator: Accelerator,
    frozen: FrozenFeatures,
    scored: Callable[[], None] = lambda: None,
) -> Arrays:
    """Predictions for all of a split, on every rank, in the manifest's order. `method` is the bare module.

    The bare module is run, not its DDP wrapper: ranks may have different numbers of batches, and DDP's forward would
    wait for the others. Raises CellError unless each sample came exactly once, and Preempted on all ranks when one was
    asked to stop meanwhile. `scored` is called after each batch.
    """
    method.eval()
    mine: list[Arrays] = []
    for batch in _batches(method, config, split, accelerator, frozen):
        mine.append(batch)
        scored()
        if signals.asked():
            break
    ranks = gather_object([(mine, signals.asked())])
    if any(asked for _, asked in ranks):
        raise Preempted(f"preempted while {split.name} was scored; it will be scored anew")
    batches = [batch for part, _ in ranks for batch in part]
    arrays = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    check_coverage(arrays["index"], len(split))
    order = np.argsort(arrays["index"])
    return {key: value[order] for key, value in arrays.items()}


def _batches(
    method: Method, config: CellConfig, split: SplitShards, accelerator: Accelerator, frozen: FrozenFeatures
) -> Iterator[Arrays]:
    dataset = CellDataset(split, frozen.reads, config.seed, augment=False, cache=node_cache(config.runtime))
    places = EveryOnce(
        len(split), _batch_size(config, accelerator), accelerator.process_index, accelerator.num_processes
    )
    for batch in loader(dataset, places, config.runtime.workers):
        moved = to_device(frozen.attach(batch, split), frozen.reads, accelerator.device)
        with torch.inference_mode(), accelerator.autocast():
            prediction = method(moved)
        arrays = {"index": batch["index"], "target": batch["target"], "scores": prediction.scores}
        if prediction.vad is not None and "vad" in batch:
            arrays |= {"vad": prediction.vad, "vad_target": batch["vad"]}
        yield {key: value.cpu().numpy() for key, value in (arrays | prediction.effects).items()}


def _batch_size(config: CellConfig, accelerator: Accelerator) -> int:
    return max(1, 2 * config.batch_size // accelerator.num_processes)
