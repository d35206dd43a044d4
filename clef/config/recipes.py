"""The recipes that ship with the package: `configs/backbones/NAME.yaml` and `configs/methods/NAME.yaml`.

A recipe holds the settings of a cell that a paper states, among them the inputs of a backbone, which are stated
nowhere else. Its section `about` is for readers: tables and docs/backbones.md take titles and remarks from it.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from clef import yaml_config
from clef.config.inputs import InputName
from clef.errors import ConfigError

Kind = Literal["backbones", "methods"]


@cache
def load_recipe(kind: Kind, name: str) -> Mapping[str, Any]:
    """Return the recipe of a shipped backbone or method. Raises ConfigError where it has none."""
    try:
        path = yaml_config.resource(f"configs/{kind}/{name}.yaml")
    except ConfigError as error:
        raise ConfigError(f"{error}; every name in {kind.upper()} (clef/config/{kind}.py) has a recipe there") from None
    return yaml_config.read_yaml(path)


def about_backbone(name: str) -> Mapping[str, Any]:
    """Return what a backbone's recipe says of it to readers: title, paper, stated, chosen, variants.

    Raises ConfigError where the title or the paper is missing.
    """
    content: Mapping[str, Any] = load_recipe("backbones", name).get("about") or {}
    for key in ("title", "paper"):
        if key not in content:
            raise ConfigError(f"configs/backbones/{name}.yaml: about.{key}: missing; docs/backbones.md shows it")
    return content


def recipe_settings(kind: Kind, name: str) -> dict[str, Any]:
    """Return the settings of a recipe: all of it but the section `about`."""
    return {key: value for key, value in load_recipe(kind, name).items() if key != "about"}


def recipe_inputs(backbone: str) -> tuple[InputName, ...]:
    """Return the inputs that a shipped backbone's recipe lists, in its order."""
    return tuple(load_recipe("backbones", backbone).get("inputs", {}))


def title(kind: Kind, name: str) -> str:
    """Return how tables call a shipped backbone or method; the name itself of any other."""
    try:
        about = load_recipe(kind, name).get("about", {})
    except ConfigError:
        return name
    return str(about.get("title", name))
