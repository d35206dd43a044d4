"""Reads what a cell predicted, and refuses what doesn't cover its split. Imports no torch."""

from pathlib import Path

import numpy as np

from clef.errors import CellError
from clef.metrics import check_coverage

Arrays = dict[str, np.ndarray]
"""As `clef.engine.evaluation` writes them; `group` and the VAD are not in the files of older versions."""
_PARTS = ("Y_e", "Y_c", "Y_e*")


def path_of(folder: Path, split: str) -> Path:
    """Where a cell keeps its predictions for a split."""
    return folder / f"predictions-{split}.npz"


def load(path: Path, samples: int, classes: int) -> Arrays:
    """The predictions in a file, for each of `samples` samples once. CellError for anything else that it holds."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        check_coverage(arrays["index"], samples)
        _check_shapes(arrays, samples, classes)
    except CellError as error:
        raise CellError(f"{path.name}: {error}") from None
    except Exception as error:  # a damaged archive fails in ways that neither NumPy nor zipfile lists
        raise CellError(f"{path.name}: not predictions of a cell ({type(error).__name__}: {error})") from None
    if not all(np.isfinite(arrays[name]).all() for name in ("scores", *_PARTS, "vad") if name in arrays):
        raise CellError(f"{path.name}: some predictions are not finite: no metric is computed from them")
    return arrays


def _check_shapes(arrays: Arrays, samples: int, classes: int) -> None:
    expected: dict[str, tuple[tuple[int, ...], ...]] = {
        "scores": ((samples, classes),),
        "target": ((samples,), (samples, classes)),
        **{name: ((samples, classes),) for name in _PARTS if name in arrays},
        **{name: ((samples, 3),) for name in ("vad", "vad_target") if name in arrays},
        **({"group": ((samples,),)} if "group" in arrays else {}),
    }
    for name, shapes in expected.items():
        if arrays[name].shape not in shapes:
            raise CellError(f"{name} is {arrays[name].shape}, where {' or '.join(map(str, shapes))} is expected")
    if arrays["target"].ndim == 1:
        _check_numbers("target", arrays["target"], classes)
    elif not arrays["target"].any():
        raise CellError("nobody has any label: no metric is computed")
    if "group" in arrays:
        _check_numbers("group", arrays["group"], samples)


def _check_numbers(name: str, values: np.ndarray, count: int) -> None:
    if values.dtype.kind != "i" or (values < 0).any() or (values >= count).any():
        raise CellError(f"{name} holds other than whole numbers from 0 to {count - 1}")
