"""What the context says of the label by itself: a linear probe of the masked frames, fitted on train, without chance.

It knows no network of the cell, so that all cells of a dataset are split alike: a person's context is *typical* of
their label where the probe gives that label much. The frame is squashed to 16 x 16 pixels, standardised, reduced to
its 64 main components, and read by logistic regression: one over all classes, or one a class for several labels.
"""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clef.config import InputConfig
from clef.data.dataset import CellDataset
from clef.data.loader import loader
from clef.data.order import EveryOnce
from clef.data.shards import SplitShards

SIDE, COMPONENTS, ITERATIONS = 16, 64, 300
STRENGTH = 0.01
"""scikit-learn's C, the inverse of the penalty: of 1, 0.1, 0.01 and 0.001 about the best on val of both demo sets."""
_BATCH = 256


class ContextPrior:
    """Fitted on a split: p(label | context)."""

    def __init__(self, train: SplitShards, workers: int = 0) -> None:
        self.workers, self.classes = workers, len(train.manifest.classes)
        pixels, target = self._read(train)
        components = min(COMPONENTS, *pixels.shape)
        self._features = make_pipeline(StandardScaler(), PCA(components, svd_solver="full"))
        features = self._features.fit_transform(pixels)
        self._several = target.ndim == 2
        self._probes = [_fitted(features, one) for one in (target.T if self._several else [target])]

    def probabilities(self, split: SplitShards) -> np.ndarray:
        """Of each class for each sample of a split, N,K; a class that train lacks has 0."""
        features = self._features.transform(self._read(split)[0])
        found = [probe.predict_proba(features) for probe in self._probes]
        if self._several:
            ones = [each[:, probe.classes_ == 1] for each, probe in zip(found, self._probes, strict=True)]
            return np.stack([each.sum(axis=1) for each in ones], axis=1)  # a class that never varied has one column
        result = np.zeros((len(features), self.classes))
        result[:, self._probes[0].classes_] = found[0]
        return result

    def _read(self, split: SplitShards) -> tuple[np.ndarray, np.ndarray]:
        """The masked frames as rows of pixels, 0-1, and the targets."""
        dataset = CellDataset(split, {"context": InputConfig(size=(SIDE, SIDE))}, seed=0, augment=False)
        batches = list(loader(dataset, EveryOnce(len(split), _BATCH, 0, 1), self.workers))
        pixels = np.concatenate([batch["context"].flatten(1).numpy() for batch in batches])
        return pixels / 255, np.concatenate([batch["target"].numpy() for batch in batches])


def _fitted(features: np.ndarray, target: np.ndarray) -> LogisticRegression | DummyClassifier:
    """The probe of one target; logistic regression refuses one that never varies."""
    if len(np.unique(target)) < 2:
        return DummyClassifier().fit(features, target)
    return LogisticRegression(C=STRENGTH, max_iter=ITERATIONS).fit(features, target)
