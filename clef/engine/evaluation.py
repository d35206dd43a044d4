"""Scores every sample of a split exactly once, over all ranks, keyed by its place in the manifest.

Which samples of a split hang together: those that a bootstrap must draw together, or leave out together.

People of one image share their scene, and frames that follow each other come from one shot. Numbers that are resampled
as if they were independent look more certain than they are.
"""

import json
from collections.abc import Callable, Iterator

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from clef import signals
from clef.config import CellConfig
from clef.data.dataset import CellDataset
from clef.data.decoded_cache import node_cache
from clef.data.loader import loader, to_device
from clef.data.order import EveryOnce
from clef.data.shards import SplitShards
from clef.engine.feature_cache import FrozenFeatures
from clef.errors import Preempted
from clef.methods import Method
from clef.metrics import check_coverage

Arrays = dict[str, np.ndarray]
"""index N, target N or N,K, scores N,K, the effects Y_e, Y_c, Y_e*, each N,K float32.

Where the backbone predicts valence, arousal and dominance: vad and vad_target, N,3, NaN where unknown. A file of
predictions has group, N, too (`clef.engine.evaluation`).
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


def groups(split: SplitShards, block: int) -> np.ndarray:
    """The group of each sample, N int32, numbered from 0 in the order of the manifest.

    Samples are in one group when they are of the same image (by its bytes), or stand in the same block of the source's
    list: so many places of one class, as the dataset's card states it.
    """
    facts = [json.loads(split.read(place, "meta.json") or b"{}") for place in range(len(split))]
    images = _numbered([fact.get("image_sha256") for fact in facts])
    if block == 1:
        return images
    labels = [tuple(fact["labels"]) for fact in facts]
    return _joined(images, _blocks(labels, np.asarray(split.index["key"]), block))


def _blocks(labels: list[tuple[str, ...]], places: np.ndarray, block: int) -> np.ndarray:
    """The blocks of a list in which classes follow each other: a new one where the class changes, or `block` is full.

    Those whom the source lists and the shards lack keep their places, so what stands in a block depends on no policy.
    """
    made: list[tuple[tuple[str, ...], int]] = []
    start = 0
    for place, label in enumerate(labels):
        if place and label != labels[place - 1]:
            start = place
        made.append((label, int(places[place] - places[start]) // block))
    return _numbered(made)


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Groups that keep together whatever either way of grouping keeps together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count, shift = len(first), int(first.max()) + 1
    size = shift + int(second.max()) + 1
    edges = coo_array((np.ones(count), (first, second + shift)), shape=(size, size))
    return _numbered(connected_components(edges, directed=False)[1][first].tolist())


def _numbered(values: list) -> np.ndarray:
    """Equal values as one number, in the order in which they first come."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.array([numbers[value] for value in values], np.int32)
