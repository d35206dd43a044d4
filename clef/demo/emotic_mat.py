"""Writes annotations as EMOTIC's `Annotations.mat` has them: nested MATLAB structs, one element for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

VAD = ("valence", "arousal", "dominance")


@dataclass(frozen=True)
class Annotation:
    """The annotation of one person; the box is [x1 y1 x2 y2], 1-based and inclusive."""

    box: tuple[float, float, float, float]
    categories: tuple[str, ...]
    vad: tuple[float, float, float]
    gender: str
    age: str


@dataclass(frozen=True)
class ImageEntry:
    """One image of a split; its size is (width, height)."""

    filename: str
    database: str
    size: tuple[int, int]
    people: tuple[Annotation, ...]


def write_mat(path: Path, splits: Mapping[str, Sequence[ImageEntry]], rng: np.random.Generator) -> None:
    """Write the struct arrays of the splits. `rng` distributes the categories of val and test among annotators."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        split: _struct_array([_image_struct(entry, split, rng) for entry in entries])
        for split, entries in splits.items()
    }
    savemat(path, arrays, do_compression=True)
    _blank_header(path)


def _blank_header(path: Path) -> None:
    """Overwrite the header's text: scipy writes the time into it, and the same set must give the same bytes."""
    with path.open("r+b") as file:
        file.write(b"MATLAB 5.0 MAT-file".ljust(116))


def _struct_array(rows: Sequence[Mapping[str, Any]]) -> np.ndarray[Any, Any]:
    """Return a 1 x n struct array."""
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for i, row in enumerate(rows):
        array[0, i] = tuple(row.values())
    return array


def _cell_array(names: Sequence[str]) -> np.ndarray[Any, Any]:
    array = np.empty((1, len(names)), dtype=object)
    array[0, :] = list(names)
    return array


def _image_struct(entry: ImageEntry, split: str, rng: np.random.Generator) -> dict[str, Any]:
    person = _train_person if split == "train" else _evaluation_person
    return {
        "filename": entry.filename,
        "folder": f"{entry.database}/images",
        "image_size": {"n_col": float(entry.size[0]), "n_row": float(entry.size[1])},
        "original_database": {"name": entry.database, "info": np.zeros((0, 0))},
        "person": _struct_array([person(annotation, rng) for annotation in entry.people]),
    }


def _train_person(annotation: Annotation, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "body_bbox": np.array([annotation.box]),
        "annotations_categories": {"categories": _cell_array(annotation.categories)},
        "annotations_continuous": dict(zip(VAD, annotation.vad, strict=True)),
        "gender": annotation.gender,
        "age": annotation.age,
    }


def _evaluation_person(annotation: Annotation, rng: np.random.Generator) -> dict[str, Any]:
    """Return a person of val or test: the annotations of 3-5 annotators, and the combined one."""
    annotators = int(rng.integers(3, 6))
    named = [[c for c in annotation.categories if rng.random() < 0.6] for _ in range(annotators - 1)]
    named.append([c for c in annotation.categories if not any(c in names for names in named)])
    lists = [names or [annotation.categories[0]] for names in named]
    scores = [np.clip(np.array(annotation.vad) + rng.integers(-1, 2, 3), 1, 10) for _ in range(annotators)]
    return {
        "body_bbox": np.array([annotation.box]),
        "annotations_categories": _struct_array([{"categories": _cell_array(names)} for names in lists]),
        "annotations_continuous": _struct_array([dict(zip(VAD, map(float, vad), strict=True)) for vad in scores]),
        "gender": annotation.gender,
        "age": annotation.age,
        "combined_categories": _cell_array(annotation.categories),
        "combined_continuous": dict(zip(VAD, map(float, np.rint(np.mean(scores, 0))), strict=True)),
    }
