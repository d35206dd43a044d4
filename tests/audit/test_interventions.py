"""Swapped and blanked inputs of trained cells: what a pass sees, and that it sees nothing else."""

import numpy as np
import pytest
import torch

from clef.audit import interventions
from clef.audit.interventions import AuditSplit
from clef.config import CONTEXT, INPUTS, SUBJECT
from clef.data.interventions import blank, swap_context
from clef.data.manifest import MEMBER_OF_INPUT
from clef.data.shards import SplitShards
from clef.engine import model_io
from clef.engine.model_io import TrainedModel
from clef.errors import CellError
from tests.conftest import Cells

pytestmark = pytest.mark.xdist_group("audited")
WHICH = [
    ("caer_s_demo", "emot_net", "clef"),
    ("emotic_demo", "emoticon", "vanilla"),
    ("caer_s_demo", "caer_net", "ccim"),
    ("caer_s_demo", "cd_net", "clef"),
    ("emotic_demo", "gnn_cnn", "vanilla"),
    ("emotic_demo", "agents", "vanilla"),
]


def opened(cells: Cells, *names: str) -> tuple[TrainedModel, AuditSplit]:
    model = model_io.load_trained(cells(*names), device="cpu")
    return model, AuditSplit(model.config, SplitShards(model.config.shards, "test"))


def test_every_input_shows_the_subject_or_the_context() -> None:
    assert sorted(SUBJECT + CONTEXT) == sorted(INPUTS) == sorted(MEMBER_OF_INPUT)


def test_everyone_is_given_anothers_context_and_none_comes_twice() -> None:
    for samples in (2, 3, 50):
        donors = [interventions.draw_donors(samples, seed=4, draw=draw) for draw in range(3)]
        for one in donors:
            assert sorted(one.tolist()) == list(range(samples))
            assert not (one == np.arange(samples)).any()
    assert donors[0].tolist() != donors[1].tolist()
    assert interventions.draw_donors(50, 4, 1).tolist() == donors[1].tolist()
    assert interventions.draw_donors(50, 5, 1).tolist() != donors[1].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("names", WHICH)
def test_ones_own_context_changes_nothing(cells: Cells, names: tuple[str, str, str]) -> None:
    model, split = opened(cells, *names)
    plain = interventions.predict_all(model, split.batches(), len(split))
    own = interventions.predict_all(model, interventions.swapped_batches(split, np.arange(len(split))), len(split))
    assert plain.keys() == own.keys()
    assert all(np.array_equal(plain[name], own[name]) for name in plain)


@pytest.mark.parametrize("names", WHICH)
def test_a_swap_is_that_subject_in_that_context(cells: Cells, names: tuple[str, str, str]) -> None:
    model, split = opened(cells, *names)
    donors = interventions.draw_donors(len(split), 0, 0)
    found = interventions.predict_all(model, interventions.swapped_batches(split, donors), len(split))
    inputs = model.config.inputs.present
    for index in (0, 7):
        own, other = next(split.batches([index])), next(split.batches([int(donors[index])]))
        mixed = {name: (own if name in SUBJECT else other)[name] for name in inputs}
        mixed["valid"] = {name: (own if name in SUBJECT else other)["valid"][name] for name in inputs}
        np.testing.assert_allclose(model.predict(mixed).scores.numpy()[0], found["scores"][index], atol=1e-4)
    assert not np.allclose(
        found["scores"], interventions.predict_all(model, split.batches(), len(split))["scores"], atol=1e-4
    )


@pytest.mark.parametrize("names", WHICH)
@pytest.mark.parametrize(("gone", "kept"), [(CONTEXT, SUBJECT), (SUBJECT, CONTEXT)])
def test_what_is_blanked_is_not_seen_and_the_rest_is(
    cells: Cells, names: tuple[str, str, str], gone: tuple, kept: tuple
) -> None:
    model, split = opened(cells, *names)
    batch = next(split.batches(range(8)))
    blanked = model.predict(blank(batch, gone)).scores
    torch.testing.assert_close(model.predict(blank(noisy(batch, gone), gone)).scores, blanked, atol=0, rtol=0)
    assert not torch.equal(model.predict(blank(noisy(batch, kept), gone)).scores, blanked)
    assert all(batch["valid"][name].any() for name in model.config.inputs.present), "the batch itself is untouched"


def noisy(batch: dict, names: tuple) -> dict:
    """Other pixels and points in these inputs."""
    random = torch.Generator().manual_seed(0)
    found = dict(batch)
    for name in names:
        if name in batch:
            noise = torch.rand(batch[name].shape, generator=random)
            found[name] = (255 * noise).byte() if batch[name].dtype == torch.uint8 else noise
    return found


def test_the_context_alone_has_no_pixel_of_the_subject(cells: Cells) -> None:
    _, split = opened(cells, "caer_s_demo", "emot_net", "clef")
    for batch, plain in zip(split.without_subject(), split.batches(), strict=True):
        # The branch's frame is masked, and here of the scene's size: so the scene must have become that.
        assert torch.equal(batch["scene"], plain["context"])
        assert torch.equal(batch["context"], plain["context"])
        assert not batch["body"].any()
        assert not batch["valid"]["body"].any()
        assert plain["body"].any()
        assert not torch.equal(plain["scene"], plain["context"])


def test_depth_within_the_box_is_gone_and_the_rest_is_left(cells: Cells) -> None:
    model, split = opened(cells, "emotic_demo", "emoticon", "vanilla")
    batch, plain = next(split.without_subject()), next(split.batches())
    height, width = model.config.inputs.present["depth"].size  # type: ignore[union-attr]
    for row in range(len(batch["index"])):
        facts = split._dataset.metadata(row)
        x1, y1, x2, y2 = facts["box"]
        xs, ys = np.arange(width) * facts["size"][0] / width, np.arange(height) * facts["size"][1] / height
        step = facts["size"][0] / width, facts["size"][1] / height
        touched = np.outer((ys < y2) & (ys + step[1] > y1), (xs < x2) & (xs + step[0] > x1))
        expected = np.where(touched, 0, plain["depth"][row, 0].numpy())
        np.testing.assert_array_equal(batch["depth"][row, 0].numpy(), expected)


@pytest.mark.parametrize(("backbone", "name"), [("gnn_cnn", "regions"), ("agents", "agents")])
def test_boxes_stay_with_the_context_when_the_subject_is_gone(cells: Cells, backbone: str, name: str) -> None:
    _, split = opened(cells, "emotic_demo", backbone, "vanilla")
    batch, plain = next(split.without_subject()), next(split.batches())
    assert torch.equal(batch[name], plain[name])
    assert torch.equal(batch["valid"][name], plain["valid"][name])
    assert plain[name].any()


def test_nothing_is_the_same_for_everyone(cells: Cells) -> None:
    model, split = opened(cells, "caer_s_demo", "caer_net", "ccim")
    found = interventions.run_passes(model, split, draws=1, seed=0)
    assert found.neither["scores"].shape == found.plain["scores"].shape
    assert (found.neither["scores"] == found.neither["scores"][0]).all()
    assert interventions.count_predictions(split, 1) == 4 * len(split)


def test_predictions_that_lack_a_sample_are_refused(cells: Cells) -> None:
    model, split = opened(cells, "caer_s_demo", "caer_net", "ccim")
    with pytest.raises(CellError, match="no metric is computed without full coverage"):
        interventions.predict_all(model, split.batches(range(1, len(split))), len(split))
    with pytest.raises(CellError, match="1 more than once"):
        interventions.predict_all(model, split.batches([*range(len(split)), 3]), len(split))


def test_a_cue_that_the_donor_lacks_is_missing_after_the_swap() -> None:
    own = {"depth": torch.ones(2, 1), "pose": torch.ones(2, 1), "valid": {"depth": torch.ones(2, dtype=torch.bool),
           "pose": torch.ones(2, dtype=torch.bool)}}  # fmt: skip
    other = {"depth": torch.zeros(2, 1), "pose": torch.zeros(2, 1),
             "valid": {"depth": torch.tensor([False, True]), "pose": torch.zeros(2, dtype=torch.bool)}}  # fmt: skip
    found = swap_context(own, other)
    assert found["valid"]["depth"].tolist() == [False, True]
    assert found["valid"]["pose"].tolist() == [True, True]
    assert own["valid"]["depth"].all()
