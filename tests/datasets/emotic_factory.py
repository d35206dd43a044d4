"""Write EMOTIC's annotations as `.mat` files, and the images that they name."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat


def vad(v: float, a: float, d: float) -> dict[str, float]:
    return {"valence": v, "arousal": a, "dominance": d}


def cell_of(*names: str) -> np.ndarray:
    array = np.empty(len(names), dtype=object)
    array[:] = names
    return array


def train_person(box: tuple[float, ...], *names: str, values: dict[str, float] | None = None) -> dict[str, Any]:
    continuous = values or vad(5, 6, 7)
    return {
        "body_bbox": np.array(box, float), "annotations_categories": {"categories": cell_of(*names)},
        "annotations_continuous": continuous, "gender": "Male", "age": "Adult",
    }  # fmt: skip


def held_person(box: tuple[float, ...], *names: str) -> dict[str, Any]:
    return {
        "body_bbox": np.array(box, float), "combined_categories": cell_of(*names), "combined_continuous": vad(3, 4, 5),
        "annotations_categories": cell_of(*names), "annotations_continuous": vad(9, 9, 9), "gender": "F", "age": "Kid",
    }  # fmt: skip


def image(filename: str, *persons: dict[str, Any], folder: str = "mscoco/images") -> dict[str, Any]:
    return {
        "filename": filename, "folder": folder, "image_size": {"n_col": 60, "n_row": 40},
        "original_database": {"name": "mscoco", "info": "x"}, "person": structs(*persons),
    }  # fmt: skip


def structs(*records: dict[str, Any]) -> np.ndarray:
    """A MATLAB struct array."""
    names = list(records[0])
    array = np.empty(len(records), dtype=[(name, object) for name in names])
    for i, record in enumerate(records):
        array[i] = tuple(record[name] for name in names)
    return array


def write(root: Path, train: list[dict], val: list[dict], test: list[dict]) -> Path:
    for folder in ("mscoco", "framesdb"):
        (root / "emotic" / folder / "images").mkdir(parents=True)
    for record in (*train, *val, *test):
        Image.new("RGB", (60, 40)).save(root / "emotic" / record["folder"] / record["filename"])
    (root / "Annotations").mkdir()
    content = {"train": structs(*train), "val": structs(*val), "test": structs(*test)}
    savemat(root / "Annotations" / "Annotations.mat", content)
    return root


BOX = (11, 6, 30, 40)
FROM = "annotations from Annotations/Annotations.mat"
ONE_VAL, ONE_TEST = [image("v.jpg", held_person(BOX, "Peace"))], [image("t.jpg", held_person(BOX, "Peace"))]
