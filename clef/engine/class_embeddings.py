"""The class embeddings of a zero-shot head: computed once for a model and its texts, and shared by all cells."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clef import io, weights
from clef.cells.feature_tables import code_of
from clef.config import CellConfig, EncodersConfig
from clef.errors import SetupError
from clef.methods import Method
from clef.models.frozen import FrozenEncoder
from clef.models.pretrained import Pretrained
from clef.models.zero_shot import TextClassifier, embed_classes

VERSION = 1
"""Raised when the same model and texts would give other embeddings."""


def set_class_embeddings(config: CellConfig, method: Method, say: Callable[[str], None]) -> None:
    """Give a zero-shot head its classes, where the cell has one: from their files, or from the text encoder.

    Raises SetupError for a damaged file, and where the model's tokenizer is not on this machine.
    """
    backbone = method.backbone
    if backbone is None or not isinstance(backbone.classifier, TextClassifier):
        return
    assert isinstance(config.backbone, EncodersConfig)
    texts = config.backbone.fusion.texts
    encoders = backbone.frozen_encoders()
    backbone.classifier.set_classes([_kept_embeddings(config, encoder, texts, say) for encoder in encoders])


def _kept_embeddings(
    config: CellConfig, encoder: FrozenEncoder, texts: list[list[str]], say: Callable[[str], None]
) -> Tensor:
    """Return the scaled embeddings of K classes and their biases, K,d+1."""
    stands_for = weights.hashes(config).get(encoder.role, f"random {encoder.seed}")
    facts = [VERSION, encoder.config.network, code_of(encoder.config), stands_for, texts]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    path = Path(config.runtime.features) / "classes" / f"{key}.npy"
    if not path.exists():
        with io.lock(path.with_suffix(".lock")):  # of all the cells that start together, one computes
            if not path.exists():
                say(f"embedding {len(texts)} classes with {encoder.config.network} (once, kept in {path.parent})")
                load = Pretrained(config)
                table = embed_classes(encoder.config, encoder.role, texts, load, encoder.seed)
                with io.atomic(path) as file:
                    np.save(file, table.numpy())
    try:
        table = torch.from_numpy(io.load_array(path))
    except ValueError as error:
        raise SetupError(f"{path}: damaged ({error}); remove that file") from None
    if table.shape != (len(texts), encoder.dim + 1):
        raise SetupError(f"{path}: not {len(texts)} embeddings of {encoder.dim} numbers: damaged; remove that file")
    return table
