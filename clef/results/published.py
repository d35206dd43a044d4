"""The published numbers, as `published.yaml` quotes them, and how backbones and methods are written. No torch."""

from functools import cache
from typing import Any

import yaml

from clef import yaml_config
from clef.config.recipes import title

PUBLISHED_METHODS = ("vanilla", "ccim", "clef")
"""The methods of which papers publish numbers for whole datasets."""
_PER_CLASS = {"emotic": "emotic_per_category", "caer_s": "caer_s_per_class"}
"""The part of the file with a dataset's classes."""
_PER_CLASS_METHODS = ("vanilla", "clef")
"""The methods of the two numbers of each class."""


@cache
def published() -> dict[str, Any]:
    """Return the whole content of `published.yaml`."""
    content: dict[str, Any] = yaml.safe_load((yaml_config.PACKAGE / "results" / "published.yaml").read_text("utf-8"))
    return content


def is_published(dataset: str) -> bool:
    """Return whether anything is published of a dataset."""
    return dataset in published()["metrics"]


def backbone_title(backbone: str) -> str:
    """Return a backbone's name as the papers write it: the title that its recipe states."""
    return title("backbones", backbone)


def method_title(method: str) -> str:
    """Return a method's name as its paper writes it: the title that its recipe states."""
    return title("methods", method)


def system_title(backbone: str, method: str) -> str:
    """Return the name of a backbone with a method, such as `EMOT-Net + CLEF`; that of vanilla is the backbone's."""
    name = backbone_title(backbone)
    return name if method == "vanilla" else f"{name} + {method_title(method)}"


def ablation_names() -> set[str]:
    """Return the ablations of CLEF of which Table 4 publishes numbers, without vanilla and CLEF themselves."""
    return published()["ablations"].keys() - set(PUBLISHED_METHODS)


def published_value(dataset: str, backbone: str, method: str) -> float | None:
    """Return the published number of a backbone with a method, or with an ablation of Table 4, on a dataset."""
    content = published()
    main: float | None = content["backbones"].get(backbone, {}).get(method, {}).get(dataset)
    ablation: float | None = content["ablations"].get(method, {}).get(dataset, {}).get(backbone)
    return ablation if main is None else main


def published_class_value(dataset: str, backbone: str, method: str, class_name: str) -> float | None:
    """Return the published number of a class (Table 1, and figure 5, from which values were read off)."""
    values = published()[_PER_CLASS[dataset]].get(class_name, {}).get(backbone)
    return float(values[_PER_CLASS_METHODS.index(method)]) if values and method in _PER_CLASS_METHODS else None


def reproduced_value(dataset: str, backbone: str, method: str) -> float | None:
    """Return what the earlier reproduction of CLEF reached."""
    for entry in published()["reproductions"]:
        if (entry["dataset"], entry["backbone"]) == (dataset, backbone):
            value: float | None = entry.get(method)
            return value
    return None
