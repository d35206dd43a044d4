"""Parts by name, or your own as `module:Class`: readers, backbones, methods, optimizers, extractors, generators."""

import importlib
from collections.abc import Mapping
from typing import Any

from clef.errors import ConfigError
from clef.yaml_config import unknown


def find(kind: str, name: str, registered: Mapping[str, str]) -> Any:
    """Return the object that `name` stands for in `registered` (name -> `module:attribute`), or a `module:attribute`.

    `kind` names the part in errors. Raises ConfigError for an unknown name, and for a module or attribute that Python
    does not find.
    """
    target = registered.get(name, name)
    module, colon, attribute = target.partition(":")
    if not colon:
        raise ConfigError(unknown(f"{kind} {name!r}", name, registered) + ", or module:Class")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{kind} {name!r}: {error}; is its folder on PYTHONPATH?") from None
    except AttributeError:
        raise ConfigError(f"{kind} {name!r}: module {module} has no {attribute!r}") from None
