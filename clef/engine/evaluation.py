"""Predictions for every sample of a split, each exactly once, over all ranks; and which samples belong together.

People of one image share their scene, and frames that follow each other come from one shot. Numbers that are resampled
as if they were independent look more certain than they are, so predictions are kept with the group of each sample.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from clef import signals
from clef.config import CellConfig
from clef.data.loader import to_device
from clef.data.order import EvaluationBatches
from clef.data.shards import SplitShards
from clef.engine.feature_cache import FrozenFeatures
from clef.errors import Preempted
from clef.methods import Method
from clef.metrics import check_coverage

Arrays = dict[str, np.ndarray]
"""index N, target N or N,K, scores N,K, the effects Y_e, Y_c, Y_e*, factual, each N,K float32.

Where the backbone predicts valence, arousal and dominance: vad and vad_target, N,3, NaN where unknown. A file of
predictions has group, N, too (`sample_groups`).
"""


def evaluate(
    method: Method,
    config: CellConfig,
    split: SplitShards,
    accelerator: Accelerator,
    frozen: FrozenFeatures,
    after_batch: Callable[[], None] = lambda: None,
) -> Arrays:
    """Return the predictions for all of a split, on every rank, in the manifest's order.

    `method` is the bare module, not its DDP wrapper: ranks may have different numbers of batches, and DDP's forward
    would wait for the others. `after_batch` is called after each batch. Raises CellError unless each sample came
    exactly once, and Preempted on all ranks when one was asked to stop meanwhile.
    """
    method.eval()
    mine: list[Arrays] = []
    for batch in _predict_batches(method, config, split, accelerator, frozen):
        mine.append(batch)
        after_batch()
        if signals.stop_requested():
            break
    ranks = gather_object([(mine, signals.stop_requested())])
    if any(stopped for _, stopped in ranks):
        raise Preempted(f"preempted while {split.name} was scored; it will be scored again")
    batches = [batch for rank_batches, _ in ranks for batch in rank_batches]
    arrays = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    check_coverage(arrays["index"], len(split))
    order = np.argsort(arrays["index"])
    return {key: value[order] for key, value in arrays.items()}


def _predict_batches(
    method: Method, config: CellConfig, split: SplitShards, accelerator: Accelerator, frozen: FrozenFeatures
) -> Iterator[Arrays]:
    """Yield the predictions for this rank's batches of a split."""
    rank, ranks = accelerator.process_index, accelerator.num_processes
    batch_size = max(1, 2 * config.batch_size // ranks)  # no gradients are kept, so twice as many samples fit
    batches = EvaluationBatches(len(split), batch_size, rank, ranks)
    for batch in frozen.batches(split, batches, augment=False):
        on_device = to_device(frozen.add_features(batch, split), frozen.decoded_inputs, accelerator.device)
        with torch.inference_mode(), accelerator.autocast():
            prediction = method(on_device)
        arrays = {"index": batch["index"], "target": batch["target"], "scores": prediction.scores}
        if prediction.vad is not None and "vad" in batch:
            arrays |= {"vad": prediction.vad, "vad_target": batch["vad"]}
        yield {key: value.cpu().numpy() for key, value in (arrays | prediction.effects).items()}


# ---- Samples that belong together ----


def sample_groups(split: SplitShards, block: int) -> np.ndarray:
    """Return the group of each sample, N int32, numbered from 0 in the order of the manifest.

    A bootstrap draws the samples of a group together. Samples are in one group when they are of the same image (by its
    bytes), or stand in the same block of the source's list: `block` entries of one class, as the dataset's card states.
    """
    facts = [json.loads(split.read(index, "meta.json") or b"{}") for index in range(len(split))]
    images = _numbered([fact.get("image_sha256") for fact in facts])
    if block == 1:
        return images
    labels = [tuple(fact["labels"]) for fact in facts]
    return _joined(images, _list_blocks(labels, np.asarray(split.rows["key"]), block))


def _list_blocks(labels: list[tuple[str, ...]], positions: np.ndarray, block: int) -> np.ndarray:
    """Return the block of each sample, N: a new one begins where the class changes, or `block` entries are full.

    `positions`, N: where each sample stands in the source's list. Those whom the source lists and the shards lack keep
    their positions, so what is in a block depends on no policy.
    """
    blocks: list[tuple[tuple[str, ...], int]] = []
    start = 0
    for i, label in enumerate(labels):
        if i and label != labels[i - 1]:
            start = i
        blocks.append((label, int(positions[i] - positions[start]) // block))
    return _numbered(blocks)


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return groups that keep together whatever either of two groupings keeps together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count, shift = len(first), int(first.max()) + 1
    size = shift + int(second.max()) + 1
    edges = coo_array((np.ones(count), (first, second + shift)), shape=(size, size))
    return _numbered(connected_components(edges, directed=False)[1][first].tolist())


def _numbered(values: list[Any]) -> np.ndarray:
    """Return equal values as one number, in the order in which they first come."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.array([numbers[value] for value in values], np.int32)
