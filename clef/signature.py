"""The identity of a cell: one pure function of its config and of the bytes that it reads. Imports no torch."""

import hashlib
import json
from typing import Any

from clef.config import CellConfig

SCHEMA = 4
"""Raised whenever the meaning of a config changes. 2: switches of methods and inputs; cues in shards. 3: protocols.
4: accumulation, batch statistics over ranks, TF32.
"""

NOT_IDENTITY = ("runtime", "resources", "label", "against")
"""Parts of the config that can't change the result."""


def signature(config: CellConfig, content: dict[str, str], weights: dict[str, str], parent: str | None = None) -> str:
    """16 hexadecimal digits that name the cell.

    `content` holds the content hash of each member kind that the cell reads, by `split/kind`, and `weights` the
    sha256 of each pre-trained file, by encoder. The config enters resolved and whole, never as a difference from
    defaults: a default that changes must not alias two experiments. A cell that starts from another's weights is known
    by its parent's signature, wherever that lies.
    """
    identity: dict[str, Any] = config.model_dump(mode="json", exclude=set(NOT_IDENTITY))
    identity["method"].pop("probabilities", None)  # of a method of your own; it changes no result
    if parent is not None:
        identity["method"]["start_from"] = parent
    text = json.dumps([SCHEMA, identity, content, weights], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
