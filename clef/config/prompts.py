"""The words by which a zero-shot head knows the classes: their names, EMOTIC's definitions, or prompts of your own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clef.errors import ConfigError
from clef.yaml_config import read_yaml, resource

NAMES, DEFINITIONS = "names", "definitions"
_DEFINITIONS = "configs/prompts/emotic.yaml"
Prompts = dict[str, list[str]]
"""One prompt or more for each class."""


def as_lists(stated: Mapping[Any, Any]) -> Prompts:
    """Return prompts that state a text or a list of texts for each class. Raises ValueError for anything else."""
    prompts = {str(name): [texts] if isinstance(texts, str) else texts for name, texts in stated.items()}
    for name, texts in prompts.items():
        if not (isinstance(texts, list) and texts and all(isinstance(text, str) and text.strip() for text in texts)):
            raise ValueError(f"a prompt, or a list of them, is expected for {name}")
    return prompts


def find_prompts(stated: str | Prompts, classes: Sequence[str]) -> Prompts:
    """Return the prompts of each of a dataset's classes, in their order, ahead of any template.

    `stated`: names, definitions (the name and EMOTIC's definition), the path of a YAML file `class: prompt` (or a list
    of them), or what such a file holds. Raises ConfigError where a class has none.
    """
    if stated == NAMES:
        return {name: [name] for name in classes}
    if stated == DEFINITIONS:
        definitions = read_yaml(resource(_DEFINITIONS))
        _check_complete(definitions, classes, "definitions are of EMOTIC's categories, and there is")
        return {name: [f"{name}: {definitions[name]}"] for name in classes}
    prompts, source = (stated, "") if not isinstance(stated, str) else (_read(stated), f"{stated} has")
    _check_complete(prompts, classes, source or "there is")
    return {name: prompts[name] for name in classes}


def _read(path: str) -> Prompts:
    if not path.endswith((".yaml", ".yml")):
        raise ConfigError(f"{path!r}: {NAMES}, {DEFINITIONS} or the path of a YAML file (class: prompt) is expected")
    try:
        return as_lists(read_yaml(Path(path).expanduser()))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _check_complete(prompts: Mapping[str, Any], classes: Sequence[str], start: str) -> None:
    if missing := [name for name in classes if name not in prompts]:
        raise ConfigError(
            f"{start} none for {', '.join(missing)}; take {NAMES}, or a YAML file of your own (class: prompt)"
        )
