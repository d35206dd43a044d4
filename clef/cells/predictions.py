"""What a cell predicted for its test splits, on disk: a file for each, or in a small cell one for all. No torch.

With `runtime.predictions=none` there is neither.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from clef import io

Arrays = dict[str, np.ndarray]
"""The arrays of a split, as `clef.engine.evaluation` describes them."""
ALL_SPLITS = "predictions.npz"


def write(folder: Path, splits: Mapping[str, Arrays], in_one_file: bool) -> None:
    """Write the predictions for each split into a cell's folder."""
    files = {f"predictions-{split}.npz": arrays for split, arrays in splits.items()}
    if in_one_file and splits:
        joined = {f"{split}/{name}": values for split, arrays in splits.items() for name, values in arrays.items()}
        files = {ALL_SPLITS: joined}
    for name, arrays in files.items():
        with io.atomic(folder / name) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def path_of(folder: Path, split: str) -> Path:
    """Return the file in which a cell keeps its predictions for a split, if it keeps any."""
    common = folder / ALL_SPLITS
    return common if common.exists() else folder / f"predictions-{split}.npz"


def read(path: Path, split: str) -> Arrays:
    """Return the predictions for a split from the file that `path_of` gave. Raises what NumPy raises for its file."""
    prefix = f"{split}/" if path.name == ALL_SPLITS else ""
    with np.load(path, allow_pickle=False) as file:
        return {name.removeprefix(prefix): file[name] for name in file.files if name.startswith(prefix)}
