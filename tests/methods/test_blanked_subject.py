"""Methods that ask the backbone twice, the second time with the subject blanked."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clef import load, methods
from clef.audit.interventions import AuditSplit, predict_all, run_passes
from clef.cells import predictions, records
from clef.config import CellConfig
from clef.data.dataset import CellDataset
from clef.data.loader import BatchLoader, to_device
from clef.data.shards import SplitShards
from clef.errors import ConfigError
from clef.methods.blanked_subject import ClefAtTest, MaskConfusion
from clef.metrics import headline_score
from clef.models import BackboneOutput
from tests.conftest import Cells
from tests.engine.factories import train_cell
from tests.methods.fakes import FixedBackbone, parts

Make = Callable[..., CellConfig]


class TwoAnswers(FixedBackbone):
    """A backbone that answers with its logits, and when the body is gone with others."""

    def __init__(self, logits: torch.Tensor, blanked: torch.Tensor) -> None:
        super().__init__(logits)
        self.blanked = nn.Parameter(blanked.clone())

    def forward(self, batch: dict[str, Any]) -> BackboneOutput:
        return BackboneOutput(self.logits if batch["valid"]["body"].any() else self.blanked)


def two_answers(name: str, single: bool, **settings: Any) -> tuple[TwoAnswers, Any, dict[str, Any]]:
    generator = torch.Generator().manual_seed(3)
    backbone = TwoAnswers(*(2 * torch.randn(5, 4, generator=generator) for _ in range(2)))
    cls = {"mask_confusion": MaskConfusion, "clef_at_test": ClefAtTest}[name]
    method = cls(parts(backbone, {"name": name}, single, [1] * 4, **settings))
    several = (torch.rand(5, 4, generator=generator) < 0.4).float()
    target = torch.tensor([0, 3, 1, 1, 2]) if single else several
    return backbone, method, {"target": target, "body": torch.ones(5, 1), "valid": {"body": torch.ones(5) > 0}}


@pytest.mark.parametrize("single", [True, False])
def test_mask_confusion_maximizes_the_entropy_without_the_subject(single: bool) -> None:
    backbone, method, batch = two_answers("mask_confusion", single, **{"method.weight": 0.5})
    prediction = method(batch)
    expected = 0.0
    for row in backbone.blanked.tolist():
        if single:
            total = sum(map(math.exp, row))
            pairs = [[math.exp(z) / total for z in row]]
        else:
            pairs = [[1 / (1 + math.exp(-z)), 1 / (1 + math.exp(z))] for z in row]
        expected -= 0.5 * sum(-p * math.log(p) for pair in pairs for p in pair) / 5
    assert prediction.losses["confusion"].item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(prediction.scores, backbone.logits)
    found = torch.autograd.grad(prediction.losses["confusion"], [backbone.logits, backbone.blanked], allow_unused=True)
    assert found[0] is None
    assert found[1].abs().sum() > 0  # type: ignore[union-attr]


@pytest.mark.parametrize("single", [True, False])
def test_lambda_is_the_best_on_val_and_the_first_of_equal_ones(single: bool) -> None:
    backbone, method, batch = two_answers("clef_at_test", single, **{"method.candidates": [0.0, 0.5, 1.0, 3.0]})
    assert not any(p.requires_grad for p in method.parameters())
    rng = np.random.default_rng(0)
    y_e, blanked = rng.normal(size=(60, 4)), rng.normal(size=(60, 4))
    target = (y_e - 0.9 * blanked).argmax(1) if single else (y_e - 0.9 * blanked > 0.5).astype(float)
    metric = "accuracy" if single else "mAP"
    scores = {each: headline_score(y_e - each * blanked, target, metric) for each in method.candidates}
    said = method.fit({"Y_e": y_e, "Y_blank": blanked, "target": target}, metric)
    assert method.subtracted.item() == max(scores, key=scores.__getitem__) == 1.0
    assert "lambda 1 of 4" in said
    assert torch.equal(method(batch).scores, backbone.logits - backbone.blanked)
    method.fit({"Y_e": y_e, "Y_blank": 0 * blanked, "target": target}, metric)
    assert method.subtracted.item() == 0


def trained_batch(config: CellConfig) -> dict[str, Any]:
    dataset = CellDataset(
        SplitShards(config.shards, "train"), config.inputs.present, 0, augment=True, without_subject=True
    )
    [batch] = BatchLoader(dataset, [[(1, index) for index in range(0, 80, 10)]], workers=0)
    return to_device(batch, config.inputs.present, torch.device("cpu"))


@pytest.mark.parametrize("backbone", ["emot_net", "caer_net", "emoticon", "encoders"])
def test_batch_norm_learns_nothing_from_blanked_pictures_and_weight_0_is_vanilla(tiny: Make, backbone: str) -> None:
    config = tiny(backbone=backbone, method="mask_confusion", **{"method.weight": 0.0})
    states, scores = [], []
    for name in ("mask_confusion", "vanilla"):
        torch.manual_seed(0)
        config = tiny(backbone=backbone, method=name)
        method = methods.build(config, [1] * 7, 7, lambda load: pytest.fail("a dictionary")).train()
        for module in method.modules():
            if isinstance(module, nn.Dropout):  # its second draw is another one
                module.p = 0.0
        scores.append(method(trained_batch(config)).scores)
        states.append({key: value for key, value in method.state_dict().items() if "running" in key})
    assert torch.equal(*scores)
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_the_frame_without_the_subject_is_augmented_as_the_frame(tiny: Make, jitter: float) -> None:
    inputs = {"scene": {"size": [48, 48], "crop": [40, 40], "flip": True, "jitter": jitter, "mean": [0] * 3}}
    config = tiny(backbone="emot_net", method="mask_confusion", inputs=inputs)
    batch = trained_batch(config)
    scene, blanked = batch["scene"], batch["without_subject"]["scene"]
    black = (blanked == 0).all(1)
    seen = 0
    for row in range(len(scene)):
        ys, xs = torch.nonzero(black[row], as_tuple=True)
        assert len(ys), "a box"
        filled = black[row, ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].float().mean()
        seen += int(filled > 0.9)
        # The same crop, mirrored alike. (Jitter's contrast is about the picture's own mean, which a black box lowers.)
        pixels = torch.stack([images[row][:, ~black[row]].flatten() for images in (scene, blanked)])
        assert torch.corrcoef(pixels)[0, 1] > 0.97
    assert seen > len(scene) / 2, "mostly one box, black after jitter, too"


@pytest.mark.slow
def test_clef_at_test_scores_a_vanilla_cell_again(cells: Cells, tiny: Make) -> None:
    parent = cells("caer_s_demo", "emot_net", "vanilla")
    config = tiny(
        "caer_s_demo", "emot_net", "clef_at_test", **{"method.start_from": str(parent), "method.candidates": [0.0, 0.7]}
    )
    folder = train_cell(config)
    result = records.read_json(folder / records.RESULT)
    assert result["steps"] == 0
    model = load(parent)
    found = {}
    for split in ("val", "test"):
        passes = AuditSplit(model.config, SplitShards(config.shards, split))
        whole = predict_all(model, passes.batches(), len(passes))
        found[split] = whole, predict_all(model, passes.without_subject(), len(passes))["scores"]
    values = {each: headline_score(w["scores"] - each * b, w["target"]) for w, b in [found["val"]] for each in (0, 0.7)}
    chosen = max(values, key=values.__getitem__)
    whole, blanked = found["test"]
    expected = whole["scores"] - chosen * blanked
    kept = predictions.read(predictions.path_of(folder, "test"), "test")
    np.testing.assert_allclose(kept["scores"], expected, atol=1e-4)
    assert result["splits"]["test"]["value"] == pytest.approx(headline_score(expected, whole["target"]))
    # The audit intervenes on both pictures.
    passes = run_passes(load(folder), AuditSplit(config, SplitShards(config.shards, "test")), draws=1, seed=0)
    np.testing.assert_allclose(passes.plain["scores"], expected, atol=1e-4)
    assert not np.allclose(passes.subject_only["scores"], expected, atol=1e-2)
    np.testing.assert_allclose(passes.context_only["scores"], (1 - chosen) * blanked, atol=1e-4)
    # A cell that is loaded needs the frames without the subject.
    again = load(folder)
    batch = next(iter(again.batches("test")))
    torch.testing.assert_close(again.predict(batch).scores.numpy(), kept["scores"][: len(batch["index"])])
    with pytest.raises(ConfigError, match="lacks without_subject: scene"):
        again.predict({name: batch[name] for name in config.inputs.present})
    assert records.state_of(folder) == "done"
