"""What all configs share."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Unknown keys are errors, and a config never changes once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
