"""Which samples of a split hang together: those that a bootstrap must draw together, or leave out together.

People of one image share their scene, and frames that follow each other come from one shot. Numbers that are resampled
as if they were independent look more certain than they are.
"""

import json

import numpy as np

from clef.data.shards import SplitShards


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
