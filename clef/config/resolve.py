"""From a few words (dataset, backbone, method, overrides) to the complete config of a cell. Imports no torch."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from clef.config import CellConfig, ContextOnlyConfig, CustomMethodConfig, VanillaConfig, base
from clef.config.base import expand, merge, unknown, validate
from clef.datasets import cards
from clef.errors import ConfigError


def resolve(layer: Mapping[str, Any], where: str = "config") -> CellConfig:
    """The cell that `layer` asks for, on top of its method's defaults and its backbone's recipe.

    Raises ConfigError for unknown keys and names, wrong values, and settings that contradict each other.
    """
    layer = expand(layer)
    card = cards.load(_name(layer, "dataset", where), str(layer.get("protocol", cards.LEAK_FREE)))
    method = _shipped("methods", _name(layer, "method", where))
    recipe = _shipped("backbones", _name(layer, "backbone", where))
    if card.task == "single_label":  # the papers' multi-label losses don't apply
        recipe = {**recipe, "loss": {"categories": "cross_entropy"}}
    base = merge(method, recipe)
    config = _reading(validate(CellConfig, merge(base, layer), where), layer, where)
    _check_loss(config, card, where)
    if "val" not in card.splits and config.selection == "best":
        raise ConfigError(
            f"{where}: selection=best: the protocol {card.protocol} of {card.name} has no val; set it to last"
        )
    return config


def registered(kind: str) -> list[str]:
    """The shipped names of a kind: backbones or methods."""
    return base.names(f"configs/{kind}")


def to_yaml(config: CellConfig) -> str:
    """The whole resolved config as YAML text."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def from_yaml(path: Path) -> CellConfig:
    """A resolved config read back, as it was written."""
    return validate(CellConfig, base.read_yaml(path), str(path))


def _name(layer: Mapping[str, Any], key: str, where: str) -> str:
    value = layer.get(key)
    if isinstance(value, Mapping):
        value = value.get("name")
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {key} is missing; say for example {key}={_EXAMPLES[key]}")
    return value


_EXAMPLES = {"dataset": "emotic_demo", "backbone": "emot_net", "method": "clef"}


@cache
def _shipped(kind: str, name: str) -> Mapping[str, Any]:
    if ":" in name:  # out of tree: its own config is all there is
        return {}
    if name not in registered(kind):
        raise ConfigError(unknown(f"{kind[:-1]} {name!r}", name, registered(kind)))
    content = base.read_yaml(base.resource(f"configs/{kind}/{name}.yaml"))
    return {key: value for key, value in content.items() if key != "about"}  # for readers, and docs/backbones.md


def _reading(config: CellConfig, layer: Mapping[str, Any], where: str) -> CellConfig:
    """The config with just the inputs that its backbone and method read. What `layer` says of others is refused."""
    branch = config.method.branch
    inputs = config.inputs
    if branch and branch.input not in inputs.present:  # another frame, seen as the masked one would be
        inputs = inputs.model_copy(update={branch.input: inputs.context})
    if branch and branch.input not in inputs.present:
        raise ConfigError(f"{where}: inputs.{branch.input}: missing; the context branch reads it")
    alone = isinstance(config.method, ContextOnlyConfig)
    backbone = () if alone else config.backbone.reads
    if backbone is None:  # one of your own: the class knows
        return config.model_copy(update={"inputs": inputs})
    stated = set(layer.get("inputs") or {})
    reads = {*backbone, *config.method.reads} | (stated if isinstance(config.method, CustomMethodConfig) else set())
    strange = stated - reads - ({"context"} if branch else set())
    if strange and not alone:
        name = min(strange)
        text = unknown(f"inputs.{name}", name, reads)
        raise ConfigError(f"{where}: {text} (what this backbone and method read)")
    return config.model_copy(update={"inputs": inputs.without(*(set(inputs.present) - reads))})


def _check_loss(config: CellConfig, card: cards.Card, where: str) -> None:
    single = card.task == "single_label"
    if single != (config.loss.categories == "cross_entropy"):
        fits = "cross_entropy" if single else "weighted_l2, bce or soft_margin"
        raise ConfigError(f"{where}: loss.categories: {card.name} is {card.task}, which takes {fits}")
    if config.loss.vad_weight and not card.vad:
        raise ConfigError(f"{where}: loss.vad_weight: {card.name} has no valence, arousal and dominance; set it to 0")
    method = config.method
    if isinstance(method, VanillaConfig) and method.output == "linear" and config.loss.categories != "weighted_l2":
        raise ConfigError(f"{where}: method.output: linear goes with loss.categories: weighted_l2 alone")
