"""Performance by how typical the context is for the label."""

from collections.abc import Iterator, Sequence

import numpy as np

from clef.engine.metrics import average_precision

THIRDS = ("typical", "middle", "atypical")


def thirds(prior: np.ndarray) -> list[np.ndarray]:
    """The places of numbers N in three parts, the largest numbers first; of equal ones, the earlier come first."""
    return np.array_split(np.argsort(-prior, kind="stable"), len(THIRDS))


def by_third(
    scores: np.ndarray, prior: np.ndarray, have: Sequence[np.ndarray], several: bool
) -> Iterator[tuple[str, float, int]]:
    """Each third's name, its metric in percent, and the labels in it. All but `have`, N bool a class, is N,K.

    Those who have a class are split by what the context gives that class, class by class: so the thirds hold the
    same classes. One label: their accuracy. Several: the mean of each class's AP of a third against all who lack the
    class, so that chance is the same in all thirds; classes that fewer than three have are left out.
    """
    parts = {k: [np.flatnonzero(own)[part] for part in thirds(prior[own, k])] for k, own in enumerate(have)}
    counted = {k: part for k, part in parts.items() if splits_up(have[k])}
    for number, name in enumerate(THIRDS):
        mine = {k: part[number] for k, part in counted.items()}
        people = sum(map(len, mine.values()))
        if several:
            values = [_against_others(scores[:, k], places, have[k]) for k, places in mine.items()]
        else:
            values = np.concatenate([100.0 * (scores[p].argmax(1) == k) for k, p in mine.items()] or [[]]).tolist()
        if values:
            yield name, float(np.mean(values)), people


def splits_up(own: np.ndarray) -> bool:
    """Whether enough have a class, by N bool, for each third to hold one of them."""
    return int(own.sum()) >= len(THIRDS)


def chance(have: Sequence[np.ndarray]) -> float | None:
    """What scores that know nothing reach in a third with several labels: its mean prevalence, in percent."""
    thirds_of = [(own.sum() / len(THIRDS), (~own).sum()) for own in have if splits_up(own)]
    return float(np.mean([100 * few / (few + others) for few, others in thirds_of])) if thirds_of else None


def _against_others(scores: np.ndarray, places: np.ndarray, own: np.ndarray) -> float:
    chosen = ~own
    chosen[places] = True
    target = np.zeros(len(own))
    target[places] = 1
    return float(average_precision(scores[chosen, None], target[chosen, None])[0])
