"""Configs from YAML and the command line: strict models, layers of settings, and errors that a user can act on.

A config is made of layers: nested mappings, read from YAML files (`read_yaml`) or from `a.b=c` arguments (`parse`),
of which later ones win (`merge`). `validate` makes a typed model of the result. pydantic finds what is wrong, and
this file says it with the valid keys. `resource` finds the YAML that ships with the package. Imports no torch.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar, Union

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError

from clef.errors import ConfigError, raise_if_system_error


class Strict(BaseModel):
    """Base of all configs: unknown keys are errors, and a config never changes once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    renamed: ClassVar[Mapping[str, str]] = {}
    """Former names of keys below this config, dotted. They are refused, with the name that replaces each."""


M = TypeVar("M", bound=BaseModel)
K = TypeVar("K", bound=str)


# ---- Unions: the part of a config that its `name` decides ----


def tagged_union(configs: Mapping[str, type[Strict]], custom: type[Strict]) -> Any:
    """Return the type of a field that is the config of its name, or `custom` where that is `module:Class`."""
    tags = {**configs, _CUSTOM: custom}
    members = [Annotated[config, Tag(tag), Field(json_schema_extra={_TAG: tag})] for tag, config in tags.items()]
    return Annotated[Union[tuple(members)], Discriminator(_tag)]  # `|` takes no list of types


def _tag(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return _CUSTOM if ":" in str(name) else str(name)


_CUSTOM = "custom"
_TAG = "tag"
"""The key of the JSON schema that holds a member's tag."""


# ---- Layers of settings ----


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge layers: later ones win; mappings are merged key by key, everything else is replaced."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            result[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return result


def nest(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """Turn `{"a.b": 1}` into `{"a": {"b": 1}}`; values that are mappings are nested in turn."""
    layers: list[dict[str, Any]] = []
    for key, value in dotted.items():
        inner: Any = nest(value) if isinstance(value, Mapping) else value
        for part in reversed(str(key).split(".")):
            inner = {part: inner}
        layers.append(inner)
    return merge(*layers)


def expand(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Write out the short forms `backbone: NAME` and `method: NAME` of a layer."""
    short = ("backbone", "method")
    return {key: {"name": value} if key in short and isinstance(value, str) else value for key, value in layer.items()}


def parse(arguments: Iterable[str]) -> dict[str, Any]:
    """Return the layer that `key.sub=value` arguments make; values are YAML (`[1, 2]`, `true`, `0.1`, text)."""
    layers, stated = [], dict[str, str]()
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"{argument!r}: overrides are written key=value or key.sub=value")
        state_once(stated, key, text, argument)
        try:
            layers.append(nest(expand({key: _parse_value(text)})))
        except yaml.YAMLError:
            raise ConfigError(f"{argument!r}: {text!r} is not a YAML value") from None
    return merge(*layers)


def state_once(stated: dict[K, Any], key: K, value: Any, where: str) -> None:
    """Add what the command line states for a key, at `where`. ConfigError if it has stated something else before."""
    if stated.setdefault(key, value) != value:
        raise ConfigError(f"{where} contradicts {key}={stated[key]}: state one of them")


def with_option(settings: Mapping[str, Any], key: str, option: str, value: str | None) -> dict[str, Any]:
    """Return settings of the command line with the path that an option states for a key, too; None: it states none.

    ConfigError where the settings have another path for that key.
    """
    if value is None:
        return dict(settings)
    *parents, last = key.split(".")
    inner: Any = settings
    for parent in parents:
        inner = inner.get(parent, {}) if isinstance(inner, Mapping) else {}
    other = inner.get(last, value) if isinstance(inner, Mapping) else value
    if Path(str(other)) != Path(value):
        raise ConfigError(f"{option} {value} contradicts {key}={other}: state one of them")
    return merge(settings, nest({key: value}))


def _parse_value(text: str) -> Any:
    return expand_home(yaml.load(text, _Loader)) if text else ""


def expand_home(content: Any) -> Any:
    """Return what was read from YAML with `~` and `~user` at the beginning of each text replaced by the home folder.

    Only paths begin so.
    """
    if isinstance(content, dict):
        return {key: expand_home(value) for key, value in content.items()}
    if isinstance(content, list):
        return [expand_home(value) for value in content]
    return os.path.expanduser(content) if isinstance(content, str) else content


# ---- From a mapping to a typed config ----


def validate(model: type[M], content: Mapping[str, Any], where: str) -> M:
    """Return `content` as a `model`. Raises ConfigError that says what is wrong `where`, one line for each fault."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [_explain(model, content, fault) for fault in error.errors()]
        raise ConfigError("\n".join([f"{where}:", *(f"  {line}" for line in dict.fromkeys(lines))])) from None


def _explain(model: type[BaseModel], content: Mapping[str, Any], fault: Any) -> str:
    path = _readable_path(fault["loc"], content)
    dotted = ".".join(path)
    if fault["type"] == "extra_forbidden":
        if new := getattr(model, "renamed", {}).get(dotted):
            return f"{dotted} was renamed: {new}"
        *parents, key = path
        return unknown(dotted, key, _valid_keys(model, parents, content))
    if fault["type"] == "missing":
        return f"{dotted}: missing"
    text = fault["msg"].removeprefix("Value error, ")
    hint = (
        "; in quotes it is text" if fault["type"] == "string_type" and isinstance(fault["input"], int | float) else ""
    )
    # What several settings have to do with each other names them itself.
    found = (
        "" if fault["type"] == "value_error" and isinstance(fault["input"], Mapping) else f", not {fault['input']!r}"
    )
    return f"{dotted or 'value'}: {text[0].lower() + text[1:]}{found}{hint}"


def unknown(where: str, key: str, valid: Iterable[str]) -> str:
    """Return the error text for a name that isn't one of the `valid` ones; it suggests the nearest of them."""
    valid = sorted(valid)
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{where}: unknown{hint}; valid: {', '.join(valid) or 'nothing here'}"


def _readable_path(loc: tuple[Any, ...], content: Any) -> list[str]:
    """Return pydantic's location without the tags it puts in for members of a union and keys of a dict."""
    path: list[str] = []
    tagged = False
    for i, part in enumerate(loc):
        last = i == len(loc) - 1
        if not tagged and isinstance(content, Mapping) and content.get("name") == part:  # the tag of a union
            tagged = True
            continue
        tagged = False
        if isinstance(content, Mapping) and (part in content or last):
            content = content.get(part)
        elif isinstance(content, (list, tuple)) and isinstance(part, int) and part < len(content):
            content = content[part]
        elif not last:
            continue
        if part != "[key]":
            path.append(str(part))
    return path


def _valid_keys(model: type[BaseModel], parents: list[str], content: Any) -> list[str]:
    """Return the keys that the model at `parents` takes, from the JSON schema; of a tagged union, the member's keys."""
    schema = TypeAdapter(model).json_schema()
    nodes = [schema]
    for part in parents:
        content = content.get(part) if isinstance(content, Mapping) else None
        nodes = [child for node in nodes for child in _children(node, part, schema, content)]
    return sorted({key for node in nodes for key in node.get("properties", {})})


def _children(node: dict[str, Any], part: str, schema: dict[str, Any], content: Any) -> list[dict[str, Any]]:
    child = node.get("properties", {}).get(part) or node.get("additionalProperties") or node.get("items")
    return _alternatives(child, schema, content) if isinstance(child, dict) else []


def _alternatives(node: dict[str, Any], schema: dict[str, Any], content: Any) -> list[dict[str, Any]]:
    """Return the schemas that `content` may have at a node; of a tagged union, only that of the member it names."""
    if node.get(_TAG, _tag(content)) != _tag(content):
        return []
    if "$ref" in node:
        return _alternatives(schema["$defs"][node["$ref"].rpartition("/")[2]], schema, content)
    options = node.get("oneOf") or node.get("anyOf")
    return [leaf for option in options for leaf in _alternatives(option, schema, content)] if options else [node]


# ---- YAML files ----

PACKAGE = Path(__file__).parent
"""The folder of the package `clef`."""


def resource(relative: str) -> Path:
    """Return the path of a shipped file or folder such as `configs/train.yaml` or `shards`.

    In a checkout it lies beside the package; a wheel has it in `_bundled`.
    """
    for root in (PACKAGE / "_bundled", PACKAGE.parent):
        if (root / relative).exists():
            return root / relative
    if (PACKAGE / "_bundled").exists():
        raise ConfigError(f"{relative}: not shipped with this installation; install clef from its checkout")
    raise ConfigError(f"{PACKAGE.parent / relative}: no such file")


def names(folder: str) -> list[str]:
    """Return the names (without `.yaml`) of the YAML files of a shipped folder, sorted."""
    return sorted(path.stem for path in resource(folder).glob("*.yaml"))


_DECIMAL = r"[-+]?(?:0|[1-9][0-9]*)"
_FLOAT = r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=e))(?:e[-+]?[0-9]+)?|[-+]?\.inf|\.nan"
_NUMBERS = {
    f"tag:yaml.org,2002:{kind}": re.compile(rf"(?:{form})\Z", re.IGNORECASE)
    for kind, form in (("int", _DECIMAL), ("float", _FLOAT))
}
"""How numbers are written: as in YAML 1.2, but what begins with further zeros (010) is text, as an account may be."""
_NUMBER_BEGINS = list("+-.0123456789")


if TYPE_CHECKING:
    from yaml import SafeDumper as _BaseDumper
    from yaml import SafeLoader as _BaseLoader
else:  # with libyaml, a cell's config is read ten times as fast; PyYAML may be installed without it
    _BaseLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    _BaseDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Loader(_BaseLoader):
    """Reads numbers as YAML 1.2 does, and refuses a key that is stated twice.

    PyYAML alone would take 1e-3 for text, 010 for 8, 16:30 for 990, 2024-01-01 for a date, and the last of two keys.
    """

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if tag.rpartition(":")[2] in ("bool", "null", "merge")]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node. Raises ConstructorError, which names the line."""
        seen: set[Any] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is stated twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(_BaseDumper):
    """Quotes text that either `_Loader` or PyYAML alone would take for a number."""


for _kind, _form in _NUMBERS.items():
    _Loader.add_implicit_resolver(_kind, _form, _NUMBER_BEGINS)
    _Dumper.add_implicit_resolver(_kind, _form, _NUMBER_BEGINS)


def to_yaml(content: Mapping[str, Any]) -> str:
    """Return a mapping as YAML text, its keys in their order."""
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def locate(path: Path, key: str, name: str) -> str:
    """Return `path:line` of the last `name` in the list or mapping `key` of a YAML file; `path` if it isn't there."""
    content = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    pairs = content.value if content else []  # of an empty file there is no content
    values = [value for top, value in pairs if top.value == key and not isinstance(value, yaml.ScalarNode)]
    names = [item[0] if isinstance(item, tuple) else item for value in values for item in value.value]
    lines = [node.start_mark.line + 1 for node in names if node.value == name]
    return f"{path}:{lines[-1]}" if lines else str(path)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; an empty file is an empty mapping. Raises ConfigError."""
    try:
        with path.open(encoding="utf-8-sig") as file:  # whose name errors give
            content = yaml.load(file, _Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise_if_system_error(error, path)
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: can't be read: byte {error.start} is not UTF-8; save it in that encoding") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a mapping (key: value) is expected at the top level")
    return {key: expand_home(value) for key, value in content.items()}
