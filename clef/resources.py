"""Where the YAML that ships with the project lies: in a checkout, or bundled into an installed package."""

from pathlib import Path
from typing import Any

import yaml

from clef.errors import ConfigError

PACKAGE = Path(__file__).parent


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
