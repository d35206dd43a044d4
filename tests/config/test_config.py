"""Configs: layers, overrides, and errors that a user can act on."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from clef import yaml_config
from clef.config import CellConfig, recipes
from clef.config import resolve as cell
from clef.config.cell import RENAMED
from clef.config.methods import METHODS
from clef.datasets import cards
from clef.datasets.policies import parse_policies
from clef.errors import ClefError, ConfigError, argument_parser
from clef.yaml_config import merge, nest, parse, read_yaml, to_yaml


def resolve(*arguments: str) -> CellConfig:
    return cell.resolve(merge(*(parse([argument]) for argument in arguments)), "command line")


ROOT = Path(__file__).parents[2]
BASE = ("dataset=emotic", "backbone=emot_net", "method=clef")


def test_layers_override_from_the_recipe_to_the_command_line() -> None:
    config = resolve(*BASE, "optimizer.lr=1e-3", "inputs.body.size=[64, 48]", "method.context_branch.network=resnet18")
    assert config.optimizer.lr == 0.001
    assert config.optimizer.momentum == 0.9
    assert config.inputs.body.size == (64, 48)
    assert config.inputs.body.mean[0] == 0.43832874
    assert config.batch_size == 52
    assert set(config.inputs.present) == {"scene", "body", "context"}


def test_vanilla_reads_no_context_and_caer_s_gets_cross_entropy() -> None:
    config = resolve("dataset=caer_s", "backbone=emot_net", "method=vanilla")
    assert set(config.inputs.present) == {"scene", "body"}
    loss = config.loss
    assert (loss.categories, loss.categories_weight, loss.vad_weight) == ("cross_entropy", 1.0, 0.0)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "optimizer.lrr=1",
            r"optimizer\.lrr: unknown \(did you mean lr\?\); "
            r"valid: gradient_accumulation_steps, head_lr_multiplier, lr, max_grad_norm, momentum",
        ),
        (
            "optimiser.lr=1",
            r"optimiser: unknown \(did you mean optimizer\?\); valid: against, backbone, backbone_label, batch_size",
        ),
        (
            "method.context_branch.netwrk=2",
            r"netwrk: unknown \(did you mean network\?\); valid: dim, features, input, lr_multiplier, network",
        ),
        (
            "method.klx=1",
            r"method\.klx: unknown \(did you mean kl\?\); valid: backbone_trainable, context_branch, counterf",
        ),
        (
            "method.dictionary.seed=1",
            r"method\.dictionary: unknown; valid: backbone_trainable, .*, name, single_label, st",
        ),
        ("backbone.third=agents", r"backbone\.third: unknown; valid: dropout, name, variant, weights, width$"),
        ("inputs.body.sise=3", r"inputs\.body\.sise: unknown \(did you mean size\?\)"),
        ("inputs.face.size=[64, 64]", r"inputs\.face: unknown.*valid: body, context, scene"),
        ("epochs=many", r"epochs: input should be a valid integer"),
        ("epochs=0", r"epochs: input should be greater than or equal to 1, not 0"),
        ("batch_size=1", r"batch_size: .*greater than or equal to 2"),
        ("inputs.body.size=[64]", r"inputs\.body\.size"),
        ("inputs.body.crop=[200, 200]", r"crop \(200, 200\) is larger than size \(128, 128\)"),
        ("optimizer=3", r"optimizer: input should be a valid dictionary"),
        ("mixed_precision=fp8", r"mixed_precision: input should be 'fp32', 'bf16' or 'fp16'"),
        ("dataset=emotik", r"dataset 'emotik': unknown \(did you mean emotic\?\)"),
        ("backbone=emot_nett", r"backbone 'emot_nett': unknown \(did you mean emot_net\?\)"),
        ("method=clf", r"method 'clf': unknown \(did you mean clef\?\)"),
        ("loss.categories=cross_entropy", r"emotic is multi_label, which takes weighted_l2, bce or soft_margin"),
        ("epochs", r"'epochs': overrides are written key=value"),
        ("optimizer.lr=[1", r"'\[1' is not a YAML value"),
    ],
)
def test_what_is_wrong_is_said_with_what_would_be_right(argument: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(*BASE, argument)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_renamed_key_is_answered_with_its_new_name(old: str, new: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^command line:\n  {re.escape(old)} was renamed: {re.escape(new)}$"):
        resolve(*BASE, f"{old}=1")
    (tmp_path / "cell.yaml").write_text(yaml.safe_dump(nest({old: 1})))
    layer = yaml_config.merge(parse(BASE), yaml_config.read_yaml(tmp_path / "cell.yaml"))
    with pytest.raises(ConfigError, match=rf"cell\.yaml:\n  {re.escape(old)} was renamed: {re.escape(new)}$"):
        cell.resolve(layer, str(tmp_path / "cell.yaml"))


@pytest.mark.parametrize(
    ("name", "valid"), [("vanilla", "name, output"), ("tests.methods.fakes:Mine", "name, options, probabilities")]
)
def test_the_valid_keys_are_those_of_the_method_that_was_named(name: str, valid: str) -> None:
    with pytest.raises(ConfigError, match=rf"method\.kl: unknown; valid: {valid}$"):
        resolve("dataset=emotic", "backbone=emot_net", f"method={name}", "method.kl=1")


def test_a_registered_name_without_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "mine", METHODS["vanilla"])
    path = yaml_config.PACKAGE.parent / "configs/methods/mine.yaml"
    expected = f"{path}: no such file; every name in METHODS (clef/config/methods.py) has a recipe there"
    with pytest.raises(ConfigError, match=f"^{re.escape(expected)}$"):
        resolve("dataset=emotic", "backbone=emot_net", "method=mine")


@pytest.mark.parametrize("key", ["title", "paper"])
def test_a_backbones_recipe_that_says_nothing_of_itself(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    about = {other: "x" for other in ("title", "paper") if other != key}
    monkeypatch.setattr(recipes, "load_recipe", lambda kind, name: {"about": about})
    with pytest.raises(ConfigError, match=rf"configs/backbones/mine\.yaml: about\.{key}: missing"):
        recipes.about_backbone("mine")


def test_several_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        resolve(*BASE, "optimizer.lrr=1", "epochs=0")
    assert len(str(error.value).splitlines()) == 3


def test_an_axis_that_is_missing_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="method is missing; set it, for example method=clef"):
        resolve("dataset=emotic", "backbone=emot_net")


def test_a_config_comes_back_from_yaml_as_it_was(tmp_path: Path) -> None:
    config = resolve(*BASE, "mixed_precision=no", "seed=3")
    (tmp_path / "config.yaml").write_text(cell.to_yaml(config))
    assert cell.from_yaml(tmp_path / "config.yaml") == config
    assert config.mixed_precision == "fp32"


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1", "not valid YAML"), ("- 1", "a mapping"), (None, "no such file"), (b"\xff\xfe\x00", "can't be read")],
)
def test_files_that_are_not_yaml_mappings(tmp_path: Path, text: Any, message: str) -> None:
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=rf"x\.yaml: .*{message}"):
        yaml_config.read_yaml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("5E4", 50_000.0), (".5", 0.5), ("1.", 1.0), ("-3", -3), ("0", 0), ("1.0e-05", 1e-5),
        ("010", "010"), ("16:30", "16:30"), ("2:00:00", "2:00:00"), ("2024-01-01", "2024-01-01"), ("1_000", "1_000"),
        ("0x1f", "0x1f"), ("1e", "1e"), ("1.2.3", "1.2.3"), ("no", False), ("on", True), ("~", None),
    ],
)  # fmt: skip
def test_numbers_in_yaml(tmp_path: Path, text: str, value: Any) -> None:
    """As YAML 1.2 has them (yaml.org/spec/1.2.2, 10.3.2), but leading zeros make text; truth values as in YAML 1.1."""
    (tmp_path / "x.yaml").write_text(f"a: {text}\nb: [{{c: {text}}}]\n")
    content = yaml_config.read_yaml(tmp_path / "x.yaml")
    assert [content["a"], content["b"][0]["c"], parse([f"a={text}"])["a"]] == [value] * 3
    assert type(content["a"]) is type(value)


@pytest.mark.parametrize("value", ["1e-3", "010", "16:30", "2024-01-01", "no", "12e4", ".nan", 1e-5, 1e22, 0.1, 7])
def test_yaml_that_is_written_says_the_same_to_other_readers(tmp_path: Path, value: Any) -> None:
    (tmp_path / "x.yaml").write_text(yaml_config.to_yaml({"a": value}))
    assert (
        yaml_config.read_yaml(tmp_path / "x.yaml") == yaml.safe_load((tmp_path / "x.yaml").read_text()) == {"a": value}
    )


TRICKY = """
a: [1e-3, 010, 16:30, 2024-01-01, yes, ~, .inf, 0x1f, 1_000, "1e-3"]
"ü\\u00e4": {x: &anchor {k: 1}, y: *anchor, z: {<<: *anchor, j: 2}}
text: |
  two
  lines
"""


def test_libyaml_reads_and_writes_what_python_alone_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader")
    monkeypatch.delattr(yaml, "CSafeDumper")
    spec = importlib.util.spec_from_file_location("without_libyaml", yaml_config.__file__)
    assert spec
    assert spec.loader
    without = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without)
    assert issubclass(without._Loader, yaml.SafeLoader)
    assert not issubclass(yaml_config._Loader, yaml.SafeLoader)
    (tmp_path / "tricky.yaml").write_text(TRICKY, encoding="utf-8")
    files = [tmp_path / "tricky.yaml", *(ROOT / "configs").rglob("*.yaml"), *(ROOT / "shards").glob("*.yaml")]
    for path in files:
        content = read_yaml(path)
        assert repr(content) == repr(without.read_yaml(path)), path
        assert to_yaml(content) == without.to_yaml(content), path
    for text in ("a: 1\nb: 2\na: 3\n", "a: 1\n b: 2\n"):
        (tmp_path / "bad.yaml").write_text(text)
        told = []
        for read in (read_yaml, without.read_yaml):
            with pytest.raises(ConfigError) as error:
                read(tmp_path / "bad.yaml")
            told.append(re.findall(r"line \d+", str(error.value)))
        assert told[0] == told[1] != []


def test_a_seed_with_leading_zeros_is_decimal() -> None:
    assert resolve(*BASE, "seed=010").seed == 10
    with pytest.raises(ConfigError, match=r"seed: .*not '1:30'"):
        resolve(*BASE, "seed=1:30")


@pytest.mark.parametrize("name", ["no", "3"])
def test_a_name_that_yaml_takes_for_another_value_needs_quotes(name: str) -> None:
    with pytest.raises(ConfigError, match=r"label: input should be a valid string, not .*; in quotes it is text"):
        resolve(*BASE, f"label={name}")
    assert resolve(*BASE, f"label='{name}'").label == name


@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_line_ends_and_marks_of_other_systems(tmp_path: Path, line_end: str) -> None:
    text = f"\ufeffa: 1{line_end}b: {{c: x}}{line_end}"
    (tmp_path / "x.yaml").write_bytes(text.encode())
    assert yaml_config.read_yaml(tmp_path / "x.yaml") == {"a": 1, "b": {"c": "x"}}
    (tmp_path / "x.yaml").write_bytes(text.encode("utf-16"))
    with pytest.raises(ConfigError, match="byte 0 is not UTF-8; save it in that encoding"):
        yaml_config.read_yaml(tmp_path / "x.yaml")


def test_merge_and_nest() -> None:
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": [1]}) == {"a": {"b": 3, "c": 2}, "d": [1]}
    assert nest({"a.b": 1, "a": {"c.d": 2}}) == {"a": {"b": 1, "c": {"d": 2}}}
    assert parse(["a.b=1e-3", "a.c=text", "d="]) == {"a": {"b": 0.001, "c": "text"}, "d": ""}


@pytest.mark.parametrize("name", yaml_config.names("shards"))
def test_every_card_is_whole(name: str) -> None:
    card = cards.load(name)
    assert card.name == name
    assert set(card.aliases.values()) <= set(card.classes)
    assert {"train", "val", *card.test_splits} == set(card.splits)
    assert len(card.classes) == {"emotic": 26, "caer_s": 7, "table": 2}[card.reader]


def test_spellings_of_a_class() -> None:
    emotic, caer_s = cards.load("emotic"), cards.load("caer_s")
    assert [emotic.canonical(s) for s in ("Disquitement", "disconnect", " Doubt Confusion ")] == [
        "Disquietment", "Disconnection", "Doubt/Confusion",
    ]  # fmt: skip
    assert [caer_s.canonical(s) for s in ("Angry", "ANGER", "angry", "Joy")] == ["Anger", "Anger", "Anger", None]


def test_errors_carry_their_exit_codes() -> None:
    from clef import errors

    codes = {kind.__name__: kind.exit_code for kind in ClefError.__subclasses__()}
    assert codes == {
        "ConfigError": 2,
        "DataError": 3,
        "ShardError": 4,
        "SetupError": 5,
        "CellError": 6,
        "Preempted": 75,
    }
    assert all(f"\n{code:>3}  " in errors.EXIT_CODES for code in codes.values())


def test_home_is_meant_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the command line, in files, and in options of commands, which all go through one function."""
    monkeypatch.setenv("HOME", "/home/me")
    paths = [
        "runtime.shards=~/s",
        "runtime.features=~/f",
        "method.start_from=~/runs/c",
        "backbone.weights.body=~/w.pth",
    ]
    made = parse(paths)
    assert made["runtime"] == {"shards": "/home/me/s", "features": "/home/me/f"}
    assert made["method"]["start_from"] == "/home/me/runs/c"
    assert made["backbone"]["weights"]["body"] == "/home/me/w.pth"
    (tmp_path / "file.yaml").write_text("sources: {emotic: ~/data}\nsetup: [a ~/b]\ndatasets: [~/card.yaml]\nnone: ~\n")
    assert read_yaml(tmp_path / "file.yaml") == {
        "sources": {"emotic": "/home/me/data"}, "setup": ["a ~/b"], "datasets": ["/home/me/card.yaml"], "none": None
    }  # fmt: skip
    parser = argument_parser("x", "")
    parser.add_argument("--a", type=Path)
    parser.add_argument("--b", type="path")
    assert vars(parser.parse_args(["--a=~/x", "--b=~/y"])) == {"a": Path("/home/me/x"), "b": "/home/me/y"}


def test_one_policy_is_stated_once() -> None:
    assert parse_policies(["box_tiny=skip", "box_tiny=skip"]) == {"box_tiny": "skip"}
    with pytest.raises(ConfigError, match="--policy box_tiny=keep contradicts box_tiny=skip: state one of them"):
        parse_policies(["box_tiny=skip", "box_tiny=keep"])
