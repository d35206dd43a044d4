"""The page on the backbones is what its generator writes, and its operations are those that torchvision publishes."""

import sys
from pathlib import Path

import pytest
from torchvision.models import ResNet18_Weights, VGG16_Weights

from clef import yaml_config
from clef.config.backbones import BACKBONES
from clef.errors import run_command
from docs import describe_backbones
from docs.describe_backbones import VARIANTS, Variant


@pytest.mark.slow
def test_docs_are_what_the_generator_writes() -> None:
    page = yaml_config.PACKAGE.parent / "docs/backbones.md"
    assert page.read_text() == describe_backbones.document(), f"run python -m docs.describe_backbones --write {page}"


def test_every_backbone_and_both_variants_are_there() -> None:
    assert [v.name for v in VARIANTS if not v.label] == list(BACKBONES)
    labeled = {variant.name: variant for variant in VARIANTS if variant.label}
    assert labeled["emot_net"].cell("emotic").backbone.variant == "decomposed"
    assert labeled["caer_net"].cell("emotic").inputs.scene_without_face.shape == (224, 224)
    assert labeled["emoticon"].cell("caer_s").backbone.reads[-1] == "agents"


def test_a_kind_of_remark_of_which_there_is_none_has_no_heading(monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"title": "Mine", "paper": "an example", "stated": [], "chosen": ["all of it"]}
    monkeypatch.setattr(describe_backbones, "about_backbone", lambda name: about)
    assert describe_backbones._section("mine") == (
        '## Mine <a id="mine"></a>\n\nan example. `backbone=mine`.\n\nChosen here:\n\n- all of it'
    )


def test_operations_are_torchvisions() -> None:
    # torchvision counts a multiply-add as one, in units of 1e9, at 224 pixels.
    resnet, vgg = (weights.IMAGENET1K_V1.meta["_ops"] * 2e9 for weights in (ResNet18_Weights, VGG16_Weights))
    emot_net, gnn_cnn = (
        describe_backbones.flops(v.network("emotic"), v.cell("emotic"))
        for v in (Variant("emot_net"), Variant("gnn_cnn"))
    )
    assert emot_net == pytest.approx(resnet * (1 + (128 / 224) ** 2), rel=0.005)
    assert vgg + 0.6 * resnet < gnn_cnn < vgg + 0.9 * resnet, "the scene's encoder ends before its last stage"


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(describe_backbones, "document", lambda: "# A page\n")

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["describe", *arguments])
        with pytest.raises(SystemExit) as exit_:
            run_command(describe_backbones.main)
        return int(exit_.value.code)

    assert run() == 0
    assert capsys.readouterr().out == "# A page\n"
    assert run("--write", str(tmp_path / "new" / "page.md")) == 0
    assert (tmp_path / "new" / "page.md").read_text() == "# A page\n"
    assert run("--write", str(tmp_path)) == 5
    assert "Is a directory" in capsys.readouterr().err
