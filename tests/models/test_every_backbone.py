"""What holds for every backbone and variant: all inputs and parameters count, absent cues don't, 16 bits do."""

import pytest
import torch

from clef import yaml_config
from clef.config.backbones import BACKBONES
from tests.models.factories import CASES, batch, make, on_meta, without

EVERY = pytest.mark.parametrize("case", CASES)
PUBLISHED_DIMS = {"emot_net": 256, "caer_net": 128, "gnn_cnn": 1024, "cd_net": 768, "emoticon": 78}


def thin(case: str, **more: object):  # noqa: ANN201
    return make(**{"width": 0.0625, "classes": 7} | CASES[case] | more)


def settled(net: torch.nn.Module, whole: dict) -> torch.nn.Module:
    """In evaluation mode, with the statistics of a batch: those of initialisation let hardly anything through."""
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    net.train()(whole)
    return net.eval()


@pytest.mark.parametrize("case", [case for case in CASES if case.split()[0] in PUBLISHED_DIMS])
def test_the_feature_has_the_published_size(case: str) -> None:
    net = on_meta(vad=True, **CASES[case])
    assert net.feature_dim == PUBLISHED_DIMS[net.config.name]


@EVERY
def test_feature_logits_and_vad_have_their_shapes(case: str) -> None:
    thin_net = thin(case, classes=26, vad=True).eval()
    output = thin_net(batch())
    assert output.feature.shape == (2, thin_net.feature_dim)
    assert (output.logits.shape, output.vad.shape) == ((2, 26), (2, 3))


@EVERY
def test_width_changes_sizes_and_no_structure(case: str) -> None:
    full, narrow = on_meta(**CASES[case]), thin(case, classes=26)
    assert list(full.state_dict()) == list(narrow.state_dict())
    factor = 80 if full.config.name in PUBLISHED_DIMS else 1
    assert factor * sum(p.numel() for p in narrow.parameters()) < sum(p.numel() for p in full.parameters())


@EVERY
def test_every_input_changes_the_logits(case: str) -> None:
    whole = batch(8, classes=7)
    net = settled(thin(case), whole)
    before = net(whole).logits
    for name in net.reads:
        for change in (torch.zeros_like(whole[name]), whole[name].flip(0)):
            after = net(whole | {name: change}).logits
            assert ((after - before).abs().amax(1) > 1e-5).all(), name


@EVERY
def test_what_isnt_read_changes_nothing(case: str) -> None:
    net, whole = thin(case).eval(), batch(classes=7)
    read = {name: whole[name] for name in (*net.reads, "valid", "target")}
    torch.testing.assert_close(net(read).logits, net(whole).logits, rtol=0, atol=0)


@EVERY
def test_a_sample_is_scored_by_itself(case: str) -> None:
    whole = batch(3, classes=7)
    net = settled(thin(case), whole)
    together = net(whole).logits
    for i in range(3):
        one = {name: value[i : i + 1] for name, value in whole.items() if name != "valid"}
        one["valid"] = {name: value[i : i + 1] for name, value in whole["valid"].items()}
        torch.testing.assert_close(net(one).logits, together[i : i + 1], rtol=1e-4, atol=1e-5)


@EVERY
def test_a_gradient_reaches_every_parameter(case: str) -> None:
    # In evaluation mode: a bias ahead of a batch norm that takes the batch's mean has no gradient by design.
    net = make(**CASES[case], width=0.125, vad=True).eval()
    output = net(batch(8))
    (output.logits.square().sum() + output.vad.square().sum() + sum(output.aux.values())).backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@EVERY
@pytest.mark.parametrize("single", [False, True])
def test_a_missing_cue_is_no_fault(case: str, single: bool) -> None:
    net, whole = thin(case), batch(3, classes=7, single=single)
    nothing = whole
    for name in net.reads:
        nothing = without(nothing, name)
    lacking = [without(whole, name, sample) for name in net.reads for sample in (0, None)]
    for found in [whole, *lacking, nothing]:
        for mode in (True, False):
            output = net.train(mode)(found)
            assert output.logits.isfinite().all()
            (output.logits.sum() + sum(output.aux.values())).backward()
            assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("caer_net", "face"),
        ("cd_net", "face"),
        ("emoticon", "landmarks"),
        ("emoticon", "pose"),
        ("emoticon", "depth"),
        ("emoticon agents", "agents"),
    ],
)
def test_an_absent_cue_says_nothing_whatever_stands_in_its_place(case: str, name: str) -> None:
    whole = batch(8, classes=7)
    net = settled(thin(case), whole)
    zeros = without(whole, name)
    noise = zeros | {name: torch.rand_like(whole[name])}
    torch.testing.assert_close(net(zeros).logits, net(noise).logits)
    assert not torch.allclose(net(zeros).logits, net(whole).logits, atol=1e-6)


@EVERY
def test_bfloat16_is_close_to_float32_and_trains(case: str) -> None:
    whole = batch(8, classes=7)
    net = settled(thin(case), whole)
    exact = net(whole).logits
    with torch.autocast("cpu", torch.bfloat16):
        output = net(whole)
    assert (output.logits.float() - exact).norm() < 0.15 * exact.norm()
    with torch.autocast("cpu", torch.bfloat16):
        output = net.train()(whole)
    (output.logits.float().sum() + sum(output.aux.values())).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert all(value.dtype == torch.float32 for value in output.aux.values())


@EVERY
@pytest.mark.parametrize("size", [24, 31, 48])
def test_small_inputs_of_any_size_train(case: str, size: int) -> None:
    output = thin(case).train()(batch(classes=7, size=size))
    assert output.logits.isfinite().all()


@EVERY
def test_without_a_classifier_the_logits_are_the_feature(case: str) -> None:
    net = thin(case, classifier=False).eval()
    output = net(batch(classes=7))
    assert output.logits is output.feature
    assert not [name for name in net.state_dict() if name.startswith("classifier")]
    assert thin(case).vad_head is None, "a head that no loss trains must not be built"


@pytest.mark.parametrize("name", BACKBONES)
def test_the_recipe_gives_what_the_backbone_reads(name: str) -> None:
    recipe = yaml_config.read_yaml(yaml_config.resource(f"configs/backbones/{name}.yaml"))
    nets = [on_meta(**settings) for settings in CASES.values() if settings["name"] == name]
    assert set(recipe["inputs"]) == {read for net in nets for read in net.reads}
    assert not any(net.inputs for net in nets), "the recipe alone lists them"
    assert {"title", "paper", "stated", "chosen"} == set(recipe["about"]) - {"variants"}
    assert all(isinstance(line, str) for key in ("stated", "chosen") for line in recipe["about"][key])


@EVERY
def test_weights_are_asked_for_by_the_names_that_the_recipe_states(case: str) -> None:
    from clef.models import build_backbone
    from tests.models.factories import config

    name = CASES[case]["name"]
    asked: dict[str, torch.nn.Module] = {}
    with torch.device("meta"):
        build_backbone(config(**CASES[case]), 26, False, asked.__setitem__)
    recipe = yaml_config.read_yaml(yaml_config.resource(f"configs/backbones/{name}.yaml"))
    stated = recipe["backbone"].get("weights", {}) if config(**CASES[case]).takes_weights else {}
    stated |= {name: stream.network for name, stream in config(**CASES[case]).streams.items()}
    assert set(asked) == set(stated)
    for encoder, network in asked.items():
        assert type(network).__name__ == ("Vgg16Encoder" if stated[encoder].endswith("vgg16") else "ResNetEncoder")


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("emot_net", ("scene", "body")), ("gnn_cnn", ("body", "scene")), ("cd_net", ("face", "body", "context"))],
)
def test_images_go_into_their_own_encoders(name: str, inputs: tuple[str, ...]) -> None:
    # The fault to fear: the body fed to the scene's encoder, and the other way round.
    net, whole = thin(name).eval(), batch(classes=7)
    for key in inputs:
        first = next(m for m in net.get_submodule(key).modules() if isinstance(m, torch.nn.Conv2d))
        seen: list[torch.Tensor] = []
        handle = first.register_forward_hook(lambda m, args, out, seen=seen: seen.append(args[0]))
        net(whole)
        handle.remove()
        assert len(seen) == 1
        assert torch.equal(seen[0], whole[key])
