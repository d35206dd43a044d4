"""Other people's files of weights: what holds them by name is loaded, of the rest it is said what it is."""

import argparse
import shlex
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from clef.errors import SetupError
from clef.models.pretrained import load_weights

Weights = dict[str, Tensor]


def network(head: int = 0, width: int = 4) -> nn.Sequential:
    """An encoder, and with `head` a classifier of so many classes on it."""
    layers = OrderedDict(conv=nn.Conv2d(3, width, 3), norm=nn.BatchNorm2d(width), flat=nn.Flatten())
    return nn.Sequential(layers | ({"fc": nn.LazyLinear(head)} if head else {}))


@pytest.fixture(scope="module")
def trained() -> nn.Sequential:
    model = network(head=5)
    model(torch.randn(2, 3, 4, 4))
    return model.eval()


def below(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: value for name, value in weights.items()}


def assert_loaded(path: Path, trained: nn.Module) -> None:
    encoder = network()
    load_weights(encoder, path)
    theirs, mine = trained.state_dict(), encoder.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items() if not name.startswith("norm.num_"))


WRAPPED: dict[str, Callable[[Weights], Any]] = {
    "as it is": lambda weights: weights,
    "without counters": lambda weights: {name: value for name, value in weights.items() if "num_" not in name},
    "state_dict, of DataParallel": lambda weights: {"epoch": 3, "state_dict": below("module.", weights)},
    "model": lambda weights: {"model": weights, "optimizer": {"state": {0: torch.zeros(2)}}},
    "model_state_dict": lambda weights: {"model_state_dict": below("backbone.", weights), "loss": 0.1},
    "model in state_dict": lambda weights: {"state_dict": {"model": below("model.module.encoder.", weights)}},
    "with its arguments": lambda weights: {"args": argparse.Namespace(lr=0.1), "model": weights},
    "a part of a larger model": lambda weights: below("encoder.", weights) | {"decoder.conv.weight": torch.zeros(9)},
    "another name of the head": lambda weights: {name.replace("fc.", "head."): v for name, v in weights.items()},
    "a head of two layers": lambda weights: (
        {name.replace("fc.", "fc.0."): value for name, value in weights.items()} | {"fc.2.weight": torch.zeros(2, 5)}
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_weights_are_found_where_training_code_keeps_them(trained: nn.Sequential, tmp_path: Path, name: str) -> None:
    torch.save(WRAPPED[name](trained.state_dict()), tmp_path / "w.pth")
    assert_loaded(tmp_path / "w.pth", trained)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_safetensors_are_known_by_their_content(trained: nn.Sequential, tmp_path: Path, name: str) -> None:
    safetensors.torch.save_file(below("backbone.", trained.state_dict()), tmp_path / name)
    assert_loaded(tmp_path / name, trained)


def test_a_head_that_the_network_has_is_loaded_too(trained: nn.Sequential, tmp_path: Path) -> None:
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    mine = network(head=5)
    mine(torch.randn(2, 3, 4, 4))
    load_weights(mine, tmp_path / "w.pth")
    assert torch.equal(mine.state_dict()["fc.weight"], trained.state_dict()["fc.weight"])


def test_the_old_format_of_torch_is_read(trained: nn.Sequential, tmp_path: Path) -> None:
    torch.save(trained.state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert_loaded(tmp_path / "w.pth", trained)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda w: below("a.", w) | below("b.", w), r"holds several such networks: a\., b\."),
        (lambda w: w | {"more.weight": torch.zeros(4, 4, 3, 3)}, "which has no layers fc, more"),
        (lambda w: w | {"more.0.weight": torch.zeros(4)}, r"which has no layers fc, more\.0"),
        (
            lambda w: w | {"conv.weight": torch.zeros(4, 1, 3, 3)},
            "conv.weight does not fit: 4 x 1 x 3 x 3 in the file, 4 x 3 x 3 x 3 in the network",
        ),
        (lambda w: {"conv.weight": w["conv.weight"]}, "conv.bias is not in it"),
        (lambda w: {"stem.weight": w["conv.weight"]}, r"conv.weight is not in it; it has stem.weight"),
        (lambda w: {"student": w, "teacher": w}, "no weights by name in it, only student, teacher"),
        (lambda w: list(w.values()), "no weights by name in it, only a list"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(
    trained: nn.Sequential, tmp_path: Path, content: Callable[[Weights], Any], message: str
) -> None:
    torch.save(content(trained.state_dict()), tmp_path / "w.pth")
    with pytest.raises(SetupError, match=f"w.pth: .*{message}"):
        load_weights(network(), tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "a pointer of git-lfs.* `git lfs pull`",
        ),
        (b"\n<!DOCTYPE html><html></html>", "a web page"),
        (b'{"weight_map": {}}', "a JSON file"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x1f\x8b\x08", "compressed"),
        (b"PK\x03\x04 and no more", "cut short or damaged"),
        (b"", "empty"),
        (b"hello", "no weights that torch.save or safetensors wrote"),
        (b"\x20\x00\x00\x00\x00\x00\x00\x00{", "no weights that torch.save or safetensors wrote, or cut short"),
    ],
)
def test_what_is_no_weights_is_named_for_what_it_is(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(SetupError, match=f"w.pth: can't be read as PyTorch weights: it is {what}"):
        load_weights(network(), tmp_path / "w.pth")


def convert(path: Path) -> Path:
    """Do what the error text about a file says; where it puts the weights."""
    with pytest.raises(SetupError, match="if you trust its source, run: python -c") as caught:
        load_weights(network(), path)
    words = shlex.split(str(caught.value).partition("run: ")[2])
    assert words[:2] == ["python", "-c"]
    exec(words[2], {})
    return path.with_name(f"{path.stem}-weights.pth")


def test_a_pickled_model_is_not_run_and_its_weights_can_be_taken_out(trained: nn.Sequential, tmp_path: Path) -> None:
    torch.save(trained, tmp_path / "model's.pt")
    assert_loaded(convert(tmp_path / "model's.pt"), trained)


def test_a_checkpoint_with_further_objects_can_be_converted(trained: nn.Sequential, tmp_path: Path) -> None:
    torch.save({"state_dict": trained.state_dict(), "best": np.float64(3)}, tmp_path / "w.pth.tar")
    with pytest.raises(SetupError, match=r"a pickle of Python objects \(numpy\._core\.multiarray\.scalar"):
        load_weights(network(), tmp_path / "w.pth.tar")
    assert_loaded(convert(tmp_path / "w.pth.tar"), trained)


def test_a_torchscript_program_is_not_run_and_can_be_converted(trained: nn.Sequential, tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(trained), tmp_path / "script.pt")
    assert_loaded(convert(tmp_path / "script.pt"), trained)


@pytest.mark.slow
def test_a_program_of_torch_export_can_be_converted(
    trained: nn.Sequential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends, "fp32_precision", "none")  # torch.export refuses what training sets
    torch.export.save(torch.export.export(trained, (torch.zeros(1, 3, 4, 4),)), tmp_path / "export.pt2")
    assert_loaded(convert(tmp_path / "export.pt2"), trained)
