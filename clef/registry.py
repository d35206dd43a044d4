"""Named parts, and parts of your own as `module:Class`: one way to find readers, backbones, methods, generators."""

import importlib
from collections.abc import Mapping
from typing import Any

from clef.config.base import unknown
from clef.errors import ConfigError


def find(kind: str, name: str, known: Mapping[str, str]) -> Any:
    """The object called `name` in `known` (name -> `module:attribute`), or at `module:attribute` itself."""
    target = known.get(name, name)
    module, colon, attribute = target.partition(":")
    if not colon:
        raise ConfigError(unknown(f"{kind} {name!r}", name, known) + ", or module:Class")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{kind} {name!r}: {error}; is its folder on PYTHONPATH?") from None
    except AttributeError:
        raise ConfigError(f"{kind} {name!r}: module {module} has no {attribute!r}") from None
