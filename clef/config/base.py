"""What all configs share."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Unknown keys are errors, and a config never changes once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def tag(value: Any) -> str:
    """Which member of a union of configs a value is: the one of its name, or `custom` for `module:Class`."""
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "custom" if ":" in str(name) else str(name)
