"""The context prior: how likely each label is given the context alone, by a linear probe of the masked frames.

It knows no network of the cell, so the people of all cells of a dataset are split alike: a person's context is
*typical* of their label where the probe gives that label a high probability. The frame is squashed to 16 x 16 pixels,
standardized, reduced to its 64 principal components, and read by logistic regression: one over all classes with one
label a person, one for each class with several. Fitting is deterministic.
"""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clef.config import InputConfig
from clef.data.dataset import CellDataset
from clef.data.loader import BatchLoader
from clef.data.order import EvaluationBatches
from clef.data.shards import SplitShards

SIDE, COMPONENTS, ITERATIONS = 16, 64, 300
STRENGTH = 0.01
"""scikit-learn's C, the inverse of the penalty: of 1, 0.1, 0.01 and 0.001 about the best on val of both demo sets."""
_BATCH = 256


class ContextPrior:
    """p(label | context), fitted on a split when it is constructed."""

    def __init__(self, train: SplitShards, workers: int = 0) -> None:
        self.workers, self.classes = workers, len(train.manifest.classes)
        pixels, target = self._read(train)
        components = min(COMPONENTS, *pixels.shape)
        self._features = make_pipeline(StandardScaler(), PCA(components, svd_solver="full"))
        features = self._features.fit_transform(pixels)
        self._several = target.ndim == 2
        self._probes = [_fit_probe(features, labels) for labels in (target.T if self._several else [target])]

    def probabilities(self, split: SplitShards) -> np.ndarray:
        """Return the probability of each class for each sample of a split, N,K; 0 for a class that train lacks."""
        features = self._features.transform(self._read(split)[0])
        predicted = [probe.predict_proba(features) for probe in self._probes]
        if self._several:
            # Of each probe, the column of "has the class"; a probe whose class nobody in train has lacks it: 0.
            positive = [each[:, probe.classes_ == 1] for each, probe in zip(predicted, self._probes, strict=True)]
            return np.stack([column.sum(axis=1) for column in positive], axis=1)
        result = np.zeros((len(features), self.classes))
        result[:, self._probes[0].classes_] = predicted[0]
        return result

    def _read(self, split: SplitShards) -> tuple[np.ndarray, np.ndarray]:
        """Return the masked frames as rows of pixels in 0-1, N,3*16*16, and the targets, N or N,K."""
        dataset = CellDataset(split, {"context": InputConfig(size=(SIDE, SIDE))}, seed=0, augment=False)
        batches = list(BatchLoader(dataset, EvaluationBatches(len(split), _BATCH, 0, 1), self.workers))
        pixels = np.concatenate([batch["context"].flatten(1).numpy() for batch in batches])
        return pixels / 255, np.concatenate([batch["target"].numpy() for batch in batches])


def _fit_probe(features: np.ndarray, target: np.ndarray) -> LogisticRegression | DummyClassifier:
    """Fit the probe of one target; logistic regression refuses a target that never varies."""
    if len(np.unique(target)) < 2:
        return DummyClassifier().fit(features, target)
    return LogisticRegression(C=STRENGTH, max_iter=ITERATIONS).fit(features, target)
