"""CCIM against a loop over confounders in float64, written from the equations; its dictionary against a brute force."""

import math

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from clef.config import DictionaryConfig
from clef.engine.feature_cache import cluster_features
from clef.errors import ConfigError
from clef.methods.ccim import Ccim
from tests.methods.fakes import FixedBackbone, parts

FEATURE = 6


def ccim(attention: str, seed: int = 0) -> tuple[Ccim, torch.Tensor]:
    torch.manual_seed(seed)
    feature = torch.randn(4, FEATURE)
    backbone = FixedBackbone(feature, feature=feature)
    settings = {"method.attention": attention, "method.key_dim": 5, "method.hidden_dim": 7}
    method = Ccim(parts(backbone, {"name": "ccim"}, True, [2, 2, 2, 2], **settings))
    method.centers.copy_(torch.randn(3, 3))
    return method, feature


@pytest.mark.parametrize("attention", ["dot_product", "additive"])
@pytest.mark.parametrize("seed", range(3))
def test_the_scores_equal_the_equations(attention: str, seed: int) -> None:
    method, feature = ccim(attention, seed)
    weight = {name: p.detach().double().numpy() for name, p in method.named_parameters()}
    centers, prior = method.centers.double().numpy(), method.prior.double().numpy()
    expected = []
    for h in feature.double().numpy():
        query = weight["query.weight"] @ h
        similarities = []
        for z in centers:
            key = weight["key.weight"] @ z
            if attention == "dot_product":
                similarities.append(sum(q * k for q, k in zip(query, key, strict=True)) / math.sqrt(len(key)))
            else:
                similarities.append(float(weight["similarity.weight"][0] @ np.tanh(query + key)))
        total = sum(math.exp(s) for s in similarities)
        context = sum(math.exp(s) / total * p * z for s, p, z in zip(similarities, prior, centers, strict=True))
        joint = (
            weight["from_feature.weight"] @ h + weight["from_feature.bias"] + weight["from_context.weight"] @ context
        )
        expected.append(weight["classifier.weight"] @ joint + weight["classifier.bias"])
    scores = method({"target": torch.tensor([0, 1, 2, 3])}).scores
    np.testing.assert_allclose(scores.numpy(), np.array(expected), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("attention", ["dot_product", "additive"])
def test_everything_learns_but_the_dictionary(attention: str) -> None:
    method, _ = ccim(attention)
    method({"target": torch.tensor([0, 1, 2, 3])}).losses["categories"].backward()
    still = {name for name, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum()}
    assert still == {"backbone.logits"}, "only the stand-in's own logits, which CCIM doesn't read"
    assert {"centers", "prior"} <= set(dict(method.named_buffers()))


def groups(samples: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Points around three far corners, one half, one third and one sixth of them, in ten dimensions."""
    rng = np.random.default_rng(0)
    corners = rng.normal(size=(3, 10)) * 20
    of = np.repeat([0, 1, 2], [samples // 2, samples // 3, samples // 6])
    return corners[of] + rng.normal(size=(samples, 10)), of


def test_the_dictionary_holds_the_groups_and_their_shares() -> None:
    points, of = groups()
    centers, clusters = cluster_features(points, DictionaryConfig(size=3, components=None))
    shares = np.bincount(clusters) / len(of)
    order = np.argsort(-shares)
    np.testing.assert_allclose(shares[order], [1 / 2, 1 / 3, 1 / 6])
    assert (order[of] == clusters).all()
    np.testing.assert_allclose(centers[order], [points[of == k].mean(0) for k in range(3)], atol=1e-4)


def test_pca_keeps_the_distances_between_the_groups() -> None:
    points, of = groups()
    centers, clusters = cluster_features(points, DictionaryConfig(size=3, components=2))
    means = np.array([points[of == k].mean(0) for k in range(3)])
    centred = centers[np.argsort(-np.bincount(clusters))]
    assert centers.shape == (3, 2)
    for i, j in ((0, 1), (0, 2), (1, 2)):  # three points span a plane: two components lose nothing of it
        assert np.linalg.norm(centred[i] - centred[j]) == pytest.approx(np.linalg.norm(means[i] - means[j]), rel=0.01)


def test_the_same_seed_gives_the_same_dictionary() -> None:
    points, _ = groups()
    first, second = (cluster_features(points, DictionaryConfig(size=8, components=4, seed=2)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_environments_threads_do_not_change_the_dictionary() -> None:
    points = np.random.default_rng(0).normal(size=(1500, 24)).astype(np.float32)
    dictionaries = []
    for threads in (1, 2):  # of OpenMP and BLAS, as OMP_NUM_THREADS or the number of cores would set them
        with threadpool_limits(threads):
            torch.set_num_threads(1)
            dictionaries.append(cluster_features(points, DictionaryConfig(size=16, components=8)))
    assert all(np.array_equal(a, b) for a, b in zip(*dictionaries, strict=True))


@pytest.mark.parametrize(("size", "components", "said"), [(91, None, "91 clusters of 90"), (3, 11, "at most 10")])
def test_more_than_the_samples_give_is_refused(size: int, components: int | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        cluster_features(groups()[0], DictionaryConfig(size=size, components=components))
