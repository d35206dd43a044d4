"""From a few words (dataset, backbone, method, overrides) to the complete config of a cell. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clef import yaml_config
from clef.config import (
    CONTEXT,
    SUBJECT,
    CcimConfig,
    CellConfig,
    ContextSwapConfig,
    CustomMethodConfig,
    EncodersConfig,
    SubjectOnlyConfig,
    VanillaConfig,
)
from clef.config.backbones import BACKBONES
from clef.config.methods import METHODS
from clef.config.named_encoders import recorded_settings, spell_out, without_replaced
from clef.config.prompts import NAMES, find_prompts
from clef.config.recipes import Kind, recipe_settings
from clef.datasets import cards
from clef.errors import ConfigError
from clef.yaml_config import expand, merge, read_yaml, unknown, validate


def resolve(settings: Mapping[str, Any], where: str = "config") -> CellConfig:
    """Return the cell that `settings` ask for, on top of its method's defaults and its backbone's recipe.

    `where` names them in errors. Raises ConfigError for unknown keys and names, wrong values, and settings that
    contradict each other.
    """
    settings = spell_out(expand(settings))
    card = cards.load(_name(settings, "dataset", where), str(settings.get("protocol", cards.LEAK_FREE)))
    method = _default_settings("methods", _name(settings, "method", where))
    backbone = _default_settings("backbones", _name(settings, "backbone", where))
    if card.task == "single_label":  # the papers' multi-label losses don't apply
        backbone |= {"loss": {"categories": "cross_entropy"}}
    recorded = _card_to_record(card, settings, where)
    recipes = without_replaced(merge(method, backbone), settings)
    config = validate(CellConfig, merge(recipes, settings) | {"card": recorded}, where)
    if libraries := recorded_settings(config, settings, where):
        config = validate(CellConfig, merge(recipes, libraries, settings) | {"card": recorded}, where)
    config = _with_inputs_that_are_read(config, settings, where)
    config = _with_prompts(config, where)
    _check_loss(config, card, where)
    _check_inputs_of_both(config, where)
    if "val" not in card.splits and config.selection == "best":
        raise ConfigError(
            f"{where}: selection=best: the protocol {card.protocol} of {card.name} has no val; set it to last"
        )
    return config


def registered(kind: Kind) -> list[str]:
    """Return the names of the shipped backbones or methods, sorted."""
    return sorted(BACKBONES if kind == "backbones" else METHODS)


def to_yaml(config: CellConfig, with_card: bool = True) -> str:
    """Return the whole resolved config as YAML text; without the record of its dataset's card, just its settings."""
    content = config.model_dump(mode="json", exclude=set() if with_card else {"card"})
    return yaml_config.to_yaml(content)


def from_yaml(path: Path) -> CellConfig:
    """Read a resolved config back, as `to_yaml` wrote it. Raises ConfigError where it isn't complete."""
    content = read_yaml(path)
    if "card" not in content:
        raise ConfigError(
            f"{path}: card: missing; an earlier version planned this cell and did not record its classes. Train it "
            "again, or use the version that trained it"
        )
    return validate(CellConfig, content, str(path))


_EXAMPLES = {"dataset": "emotic_demo", "backbone": "emot_net", "method": "clef"}


def _name(settings: Mapping[str, Any], key: str, where: str) -> str:
    value = settings.get(key)
    if isinstance(value, Mapping):
        value = value.get("name")
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {key} is missing; set it, for example {key}={_EXAMPLES[key]}")
    return value


def _default_settings(kind: Kind, name: str) -> dict[str, Any]:
    """Return the settings of a recipe; none for a `module:Class` of the user's, whose cell states them all."""
    if ":" in name:
        return {}
    if name not in registered(kind):
        raise ConfigError(unknown(f"{kind[:-1]} {name!r}", name, registered(kind)))
    return recipe_settings(kind, name)


def _card_to_record(card: cards.Card, settings: Mapping[str, Any], where: str) -> cards.Card:
    """Return the card as the cell records it. Refuse settings, such as those of another cell, that contradict it."""
    recorded = card.model_copy(update={"protocols": {}})
    stated = validate(cards.Card, settings["card"], f"{where}: card") if settings.get("card") else recorded
    if differences := stated.differences(recorded):
        raise ConfigError(
            f"{where}: card: not what the card of {card.name} says now ({differences}); leave `card` out to train on "
            "the dataset as it is now, or restore its card"
        )
    return recorded


def _with_inputs_that_are_read(config: CellConfig, settings: Mapping[str, Any], where: str) -> CellConfig:
    """Return the config with just the inputs that its backbone and method read; refuse others that `settings` state."""
    branch = config.method.branch
    inputs = config.inputs
    if branch and branch.input not in inputs.present:  # another frame, seen as the masked one would be
        inputs = inputs.model_copy(update={branch.input: inputs.context})
    if branch and branch.input not in inputs.present:
        raise ConfigError(f"{where}: inputs.{branch.input}: missing; the context branch reads it")
    backbone = config.backbone.reads if config.method.builds_backbone else ()
    if backbone is None:  # one of your own: only its class knows
        return config.model_copy(update={"inputs": inputs})
    stated = set(settings.get("inputs") or {})
    read = {*backbone, *config.method.reads} | (stated if isinstance(config.method, CustomMethodConfig) else set())
    unread = stated - read - ({"context"} if branch else set())
    if unread and config.method.builds_backbone:
        name = min(unread)
        text = unknown(f"inputs.{name}", name, read)
        raise ConfigError(f"{where}: {text} (what this backbone and method read)")
    return config.model_copy(update={"inputs": inputs.without(*(set(inputs.present) - read))})


def _with_prompts(config: CellConfig, where: str) -> CellConfig:
    """Return the config with the prompts themselves where a zero-shot head has the name of some, or a file's path."""
    backbone = config.backbone
    if not isinstance(backbone, EncodersConfig) or backbone.fusion.name != "zero_shot":
        return config
    if isinstance(config.method, CcimConfig):
        raise ConfigError(
            f"{where}: backbone.fusion: zero_shot is nothing but a classifier, and ccim brings its own; take another"
        )
    try:
        prompts = find_prompts(backbone.fusion.prompts or NAMES, config.card.classes)
    except ConfigError as error:
        raise ConfigError(f"{where}: backbone.fusion.prompts: {error}") from None
    fusion = backbone.fusion.model_copy(update={"prompts": prompts})
    return config.model_copy(update={"backbone": backbone.model_copy(update={"fusion": fusion})})


def _check_loss(config: CellConfig, card: cards.Card, where: str) -> None:
    """Refuse a loss that does not fit the dataset's task, or the method's outputs."""
    single_label = card.task == "single_label"
    if single_label != (config.loss.categories == "cross_entropy"):
        fits = "cross_entropy" if single_label else "weighted_l2, bce or soft_margin"
        raise ConfigError(f"{where}: loss.categories: {card.name} is {card.task}, which takes {fits}")
    if config.loss.vad_weight and not card.vad:
        raise ConfigError(f"{where}: loss.vad_weight: {card.name} has no valence, arousal and dominance; set it to 0")
    method = config.method
    if isinstance(method, VanillaConfig) and method.output == "linear" and config.loss.categories != "weighted_l2":
        raise ConfigError(f"{where}: method.output: linear needs loss.categories: weighted_l2")


def _check_inputs_of_both(config: CellConfig, where: str) -> None:
    """Refuse a method that parts subject and context around a backbone that reads one of them only."""
    if not isinstance(config.method, SubjectOnlyConfig | ContextSwapConfig):
        return
    for kind, names in (("subject", SUBJECT), ("context", CONTEXT)):
        if not set(names) & set(config.inputs.present):
            raise ConfigError(
                f"{where}: {config.method.name}: {config.backbone.name} reads no input of the {kind} alone"
            )
