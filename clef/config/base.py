"""What all configs share.

Layers of nested mappings, `a.b=c` on the command line, and errors that name the valid keys.

pydantic finds what is wrong; this file says it the way a user can act on it.

Where the YAML that ships with the project lies: in a checkout, or bundled into an installed package.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from clef.errors import ConfigError


class Strict(BaseModel):
    """Unknown keys are errors, and a config never changes once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def tag(value: Any) -> str:
    """Which member of a union of configs a value is: the one of its name, or `custom` for `module:Class`."""
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "custom" if ":" in str(name) else str(name)


M = TypeVar("M", bound=BaseModel)


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Later layers win; mappings are merged key by key, everything else is replaced."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            result[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return result


def nest(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`; values that are mappings are nested in turn."""
    layers: list[dict[str, Any]] = []
    for key, value in dotted.items():
        inner: Any = nest(value) if isinstance(value, Mapping) else value
        for part in reversed(str(key).split(".")):
            inner = {part: inner}
        layers.append(inner)
    return merge(*layers)


def expand(layer: Mapping[str, Any]) -> dict[str, Any]:
    """A layer with the short forms `backbone: NAME` and `method: NAME` written out."""
    short = ("backbone", "method")
    return {key: {"name": value} if key in short and isinstance(value, str) else value for key, value in layer.items()}


def parse(arguments: Iterable[str]) -> dict[str, Any]:
    """The layer that `key.sub=value` arguments make; values are YAML (`[1, 2]`, `true`, `0.1`, text)."""
    layers = []
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"{argument!r}: overrides are written key=value or key.sub=value")
        try:
            layers.append(nest(expand({key: _value(text)})))
        except yaml.YAMLError:
            raise ConfigError(f"{argument!r}: {text!r} is not a YAML value") from None
    return merge(*layers)


def _value(text: str) -> Any:
    value = yaml.safe_load(text) if text else ""
    if isinstance(value, str):  # YAML 1.1 takes 1e-3 for text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def validate(model: type[M], content: Mapping[str, Any], where: str) -> M:
    """`content` as a `model`, or a ConfigError that says what is wrong `where`, one line for each fault."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [_explain(model, content, fault) for fault in error.errors()]
        raise ConfigError("\n".join([f"{where}:", *(f"  {line}" for line in dict.fromkeys(lines))])) from None


def _explain(model: type[BaseModel], content: Mapping[str, Any], fault: Any) -> str:
    path = _readable(fault["loc"], content)
    if fault["type"] == "extra_forbidden":
        *parents, key = path
        return unknown(".".join(path), key, _valid_keys(model, parents))
    if fault["type"] == "missing":
        return f"{'.'.join(path)}: missing"
    text = fault["msg"].removeprefix("Value error, ")
    return f"{'.'.join(path) or 'value'}: {text[0].lower() + text[1:]}, not {fault['input']!r}"


def unknown(where: str, key: str, valid: Iterable[str]) -> str:
    """The text for a name that isn't one of the `valid` ones, with the nearest of them."""
    valid = sorted(valid)
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{where}: unknown{hint}; valid: {', '.join(valid) or 'nothing here'}"


def _readable(loc: tuple[Any, ...], content: Any) -> list[str]:
    """pydantic's location without the tags it puts in for the members of a union and the keys of a dict."""
    path = []
    for i, part in enumerate(loc):
        last = i == len(loc) - 1
        if isinstance(content, Mapping) and (part in content or last):
            content = content.get(part)
        elif isinstance(content, (list, tuple)) and isinstance(part, int) and part < len(content):
            content = content[part]
        elif not last:
            continue
        if part != "[key]":
            path.append(str(part))
    return path


def _valid_keys(model: type[BaseModel], parents: list[str]) -> list[str]:
    """The keys that the model at `parents` takes, read from the JSON schema so that unions come out too."""
    schema = TypeAdapter(model).json_schema()
    nodes = [schema]
    for part in parents:
        nodes = [child for node in nodes for child in _children(node, part, schema)]
    return sorted({key for node in nodes for key in node.get("properties", {})})


def _children(node: dict[str, Any], part: str, schema: dict[str, Any]) -> list[dict[str, Any]]:
    found = node.get("properties", {}).get(part) or node.get("additionalProperties") or node.get("items")
    return _alternatives(found, schema) if isinstance(found, dict) else []


def _alternatives(node: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return _alternatives(schema["$defs"][node["$ref"].rpartition("/")[2]], schema)
    options = node.get("oneOf") or node.get("anyOf")
    return [x for option in options for x in _alternatives(option, schema)] if options else [node]


PACKAGE = Path(__file__).parents[1]


def resource(relative: str) -> Path:
    """The path of a shipped file or folder such as `configs/train.yaml` or `shards`."""
    for root in (PACKAGE / "_bundled", PACKAGE.parent):
        if (root / relative).exists():
            return root / relative
    raise ConfigError(f"{relative}: not shipped with this installation; install clef from its checkout")


def names(folder: str) -> list[str]:
    """The names (without `.yaml`) of the YAML files of a shipped folder, sorted."""
    return sorted(path.stem for path in resource(folder).glob("*.yaml"))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; an empty file is an empty mapping."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a mapping (key: value) is expected at the top level")
    return content
