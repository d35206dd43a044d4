"""The published numbers, as `published.yaml` quotes them. Imports no torch."""

from functools import cache
from typing import Any

import yaml

from clef.config import base


@cache
def published() -> dict[str, Any]:
    """All of them."""
    content: dict[str, Any] = yaml.safe_load((base.PACKAGE / "results" / "published.yaml").read_text("utf-8"))
    return content


def number(dataset: str, backbone: str, method: str) -> float | None:
    """What is published of a backbone with a method, or with an ablation of Table 4, on a dataset."""
    known = published()
    main: float | None = known["backbones"].get(backbone, {}).get(method, {}).get(dataset)
    ablation: float | None = known["ablations"].get(method, {}).get(dataset, {}).get(backbone)
    return ablation if main is None else main


def reproduced(dataset: str, backbone: str, method: str) -> float | None:
    """What the earlier reproduction reached."""
    for one in published()["reproductions"]:
        if (one["dataset"], one["backbone"]) == (dataset, backbone):
            value: float | None = one.get(method)
            return value
    return None


def title(backbone: str) -> str:
    """A backbone's name as it is written."""
    return str(published()["backbones"].get(backbone, {}).get("name", backbone))
