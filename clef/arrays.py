"""NumPy's files, where others may have made or damaged them. Imports no torch."""

from pathlib import Path
from typing import IO

import numpy as np


def load(file: Path | IO[bytes], mapped: bool = False) -> np.ndarray:
    """The array of a .npy file; `mapped`: not read before it is used. ValueError for whatever else it is.

    A damaged header goes through Python's tokenizer, so NumPy fails in ways that it doesn't list; an OSError stays one.
    """
    try:
        array = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise ValueError(f"not a NumPy array: {error}") from None
    if not isinstance(array, np.ndarray):
        raise ValueError("an archive of arrays, where one array is expected")
    return array
