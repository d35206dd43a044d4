"""What a library says of the encoders that a cell names, as settings: below the user's own, above the recipes'.

An encoder whose `dim` is stated was looked up before: the config says how its images reach it, and no library is asked.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from clef import networks
from clef.config.encoders import LIBRARIES, EncoderConfig
from clef.config.inputs import InputConfig
from clef.config.methods import ContextBranchConfig, DictionaryConfig
from clef.errors import ClefError, ConfigError
from clef.yaml_config import merge, nest

if TYPE_CHECKING:
    from clef.config.cell import CellConfig

RECORDED = ("size", "mean", "std", "interpolation")
"""What a record says of the images, as fields of `InputConfig`."""


class NamedEncoder(NamedTuple):
    """An encoder of a cell that a library builds, or a module of yours."""

    where: str
    """Its key in the config, such as `backbone.encoders.body`."""
    config: EncoderConfig
    input_key: str
    """The key of the input that it reads, such as `inputs.body`."""
    input: InputConfig | None
    """How that reaches it; None: no recipe says, so as `inputs.context` does."""


def recorded_settings(config: "CellConfig", settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return as settings what the libraries say of the encoders that `config` names without their `dim`.

    `settings`, the user's own, win over them. Raises ConfigError where two encoders want the same input differently and
    no setting decides, and for a module of yours without its `dim`.
    """
    encoders = list(_named(config))
    unknown = [encoder for encoder in encoders if encoder.config.dim is None]
    for encoder in unknown:
        if encoder.config.library is None:
            raise ConfigError(f"{where}: {encoder.where}.dim: missing; how many numbers does its feature have?")
    records = networks.describe(encoder.config.network for encoder in unknown)
    _check_agreement(encoders, records, settings, where)
    layers = []
    for encoder in unknown:
        record = records[encoder.config.network]
        base = {} if encoder.input else {"flip": config.inputs.context.flip if config.inputs.context else False}
        image = {"crop": None} | {field: getattr(record, field) for field in RECORDED}
        layers.append(nest({f"{encoder.where}.dim": record.dim, encoder.input_key: base | image}))
    return merge(*layers)


def spell_out(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Write out the short form `backbone.encoders.INPUT: NAME`: the network of that name, with the usual settings."""
    encoders = _get(settings, ("backbone", "encoders"))
    if not isinstance(encoders, Mapping):
        return dict(settings)
    full = {name: {"network": value} if isinstance(value, str) else value for name, value in encoders.items()}
    return merge(settings, {"backbone": {"encoders": full}})


def without_replaced(recipe: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's settings without the `dim` of the encoders in whose place `settings` name another network."""
    result = copy.deepcopy(dict(recipe))
    for path, stated in _mappings(settings):
        known = _get(result, path)
        if isinstance(known, dict) and stated.get("network", known.get("network")) != known.get("network"):
            known.pop("dim", None)
    return result


def ask_at_once(layers: Iterable[Mapping[str, Any]]) -> None:
    """Look up all names in layers of settings, in one process; what is wrong with one is said where it is used."""
    names = {text for layer in layers for text in _texts(layer) if text.partition(":")[0] in LIBRARIES}
    with suppress(ClefError):
        networks.describe(names)


def _named(config: "CellConfig") -> Iterator[NamedEncoder]:
    """Yield the named encoders of a cell: the backbone's streams and those of the method."""
    images = config.inputs.images
    if config.method.builds_backbone:
        for name, stream in config.backbone.streams.items():
            if stream.is_named:
                yield NamedEncoder(f"backbone.encoders.{name}", stream, f"inputs.{name}", images.get(name))
    for key, encoder in config.method.encoders.items():
        if encoder.is_named and isinstance(encoder, DictionaryConfig):  # which says itself how it reads the frame
            yield NamedEncoder(f"method.{key}", encoder, f"method.{key}.input", encoder.input)
        elif encoder.is_named and isinstance(encoder, ContextBranchConfig):
            yield NamedEncoder(f"method.{key}", encoder, f"inputs.{encoder.input}", images.get(encoder.input))


def _check_agreement(
    encoders: list[NamedEncoder], records: Mapping[str, networks.NetworkRecord], settings: Mapping[str, Any], where: str
) -> None:
    """Refuse two encoders that read one input and want it differently, where no setting of the user decides."""
    wanted: dict[str, tuple[NamedEncoder, Any]] = {}
    for encoder in encoders:
        source: Any = records.get(encoder.config.network) if encoder.config.dim is None else encoder.input
        for field in RECORDED:
            key = f"{encoder.input_key}.{field}"
            if source is None or _get(settings, tuple(key.split("."))) is not None:
                continue
            first, value = wanted.setdefault(key, (encoder, getattr(source, field)))
            if value != getattr(source, field):
                both = " and ".join(f"{each.where} ({each.config.network})" for each in (first, encoder))
                values = f"{_plain(value)} and {_plain(getattr(source, field))}"
                raise ConfigError(f"{where}: {key}: {both} want {values}; state {key}, or choose one encoder for both")


def _plain(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _mappings(content: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield every mapping in settings with the keys that lead to it."""
    if isinstance(content, Mapping):
        yield path, content
        for key, value in content.items():
            yield from _mappings(value, (*path, str(key)))


def _texts(content: Any) -> Iterator[str]:
    """Yield every text in settings."""
    if isinstance(content, Mapping):
        for value in content.values():
            yield from _texts(value)
    elif isinstance(content, str):
        yield content


def _get(content: Any, path: tuple[str, ...]) -> Any:
    """Return what lies at a path of keys; None where nothing does."""
    for key in path:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
