"""The context prior: deterministic, a distribution, and as good as the context is informative, no better."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from clef.audit.context_prior import STRENGTH, ContextPrior
from clef.data.dataset import load_targets
from clef.data.shards import SplitShards
from clef.metrics import headline_score

pytestmark = pytest.mark.xdist_group("audited")


@pytest.mark.slow
def test_it_reads_the_masked_frames_the_same_way_every_time(shards: Path) -> None:
    splits = {name: SplitShards(shards / "caer_s_demo", name) for name in ("train", "test")}
    prior = ContextPrior(splits["train"])
    found = {name: prior.probabilities(split) for name, split in splits.items()}
    np.testing.assert_allclose(found["test"].sum(1), 1)
    assert headline_score(found["train"], load_targets(splits["train"])) > 40, (
        "chance is 14, and the scene goes with the label"
    )
    np.testing.assert_array_equal(ContextPrior(splits["train"]).probabilities(splits["test"]), found["test"])
    pixels, target = prior._read(splits["test"])
    assert target.tolist() == load_targets(splits["test"]).tolist()
    stored = Image.open(io.BytesIO(splits["test"].read(3, "context.jpg") or b"")).resize((16, 16), Image.Resampling.BOX)
    ours = pixels[3].reshape(3, 16, 16).transpose(1, 2, 0)
    assert np.abs(ours - np.asarray(stored) / 255).mean() < 0.03


def test_a_context_that_says_nothing_tells_it_nothing(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, split = np.random.default_rng(0), SplitShards(shards / "caer_s_demo", "test")
    label = rng.integers(0, 7, 700)
    biased = np.eye(7)[np.where(rng.random(700) < 0.6, label, rng.integers(0, 7, 700))] + rng.normal(0, 0.1, (700, 7))
    monkeypatch.setattr(ContextPrior, "_read", lambda self, _: (biased, label))
    prior = ContextPrior(split)
    assert headline_score(prior.probabilities(split), label) == pytest.approx(100 * (0.6 + 0.4 / 7), abs=5)
    assert headline_score(prior.probabilities(split), rng.permutation(label)) == pytest.approx(100 / 7, abs=5)


def test_it_is_fitted_on_what_it_is_given_and_each_of_several_labels_by_itself(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = SplitShards(shards / "emotic_demo", "test")
    rng = np.random.default_rng(0)
    pixels, target = rng.random((60, 4)), np.zeros((60, 26), np.float32)
    target[:, 0] = pixels[:, 0] > 0.5
    target[:, 2] = 1
    monkeypatch.setattr(ContextPrior, "_read", lambda self, _: (pixels, target))
    found = ContextPrior(split).probabilities(split)
    assert found.shape == (60, 26)
    assert not found[:, 1].any(), "nobody had it"
    assert (found[:, 2] == 1).all(), "everyone had it"
    scaled = (pixels - pixels.mean(0)) / pixels.std(0)  # all components are kept: a rotation, which changes nothing
    other = LogisticRegression(C=STRENGTH, max_iter=300).fit(scaled, target[:, 0]).predict_proba(scaled)[:, 1]
    np.testing.assert_allclose(found[:, 0], other, atol=1e-3)
