"""Write a small CAER-S, with its boxes in each form that is in circulation."""

import json
from pathlib import Path

from PIL import Image

CLASSES = ["Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"]
SIZE = (64, 36)
COUNTS = {"train": 4, "test": 3}
Boxes = dict[str, tuple[int, ...] | None]
"""By `Class/file`."""


def folder_of(split: str, name: str) -> str:
    return "Angry" if (split, name) == ("train", "Anger") else name


def lay_out(root: Path) -> dict[str, Boxes]:
    """4 train frames and 3 test frames a class. Returns a box for each, but for one a split."""
    boxes: dict[str, Boxes] = {}
    for split, count in COUNTS.items():
        boxes[split] = {}
        for label, name in enumerate(CLASSES):
            folder = root / split / folder_of(split, name)
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", SIZE).save(folder / f"{i:04d}.png")
                boxes[split][f"{folder.name}/{i:04d}.png"] = (label, 2, 20 + i, 20)
        boxes[split]["Sad/0001.png"] = None
    return boxes


def rows(boxes: Boxes, prefix: str = "", label: str | None = None) -> str:
    def number(name: str) -> int:
        return CLASSES.index(name.partition("/")[0].replace("Angry", "Anger"))

    return "".join(
        f"{prefix}{name},{number(name) if label is None else label},{','.join(map(str, box or (0, 0, 0, 0)))}\n"
        for name, box in boxes.items()
    )


def write_rows(root: Path, boxes: dict[str, Boxes]) -> None:
    for split, of_split in boxes.items():
        (root / f"{split}.txt").write_text(rows(of_split))


def write_rows_with_split(root: Path, boxes: dict[str, Boxes]) -> None:
    for split, of_split in boxes.items():
        (root / f"{split}.txt").write_text(rows(of_split, f"{split}/"))


def write_rows_in_another_spelling(root: Path, boxes: dict[str, Boxes]) -> None:
    """Classes in capitals and as test calls them, JPEGs, Windows' line ends, names for labels."""
    for split, of_split in boxes.items():
        text = rows(of_split).replace(".png", ".JPG").replace("Angry", "ANGER").replace("\n", "\r\n")
        (root / f"{split}.txt").write_bytes(b"\xef\xbb\xbf" + text.replace(",0,", ",anger,", 1).encode())


def write_json(root: Path, boxes: dict[str, Boxes]) -> None:
    for split, of_split in boxes.items():
        (root / f"{split}.json").write_text(json.dumps(of_split))


def write_crops(root: Path, boxes: dict[str, Boxes]) -> None:
    for split, of_split in boxes.items():
        write_crops_of(root / "crop" / split, of_split)


def write_crops_of(folder: Path, boxes: Boxes) -> None:
    for name, box in boxes.items():
        path = (folder / name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(",".join(map(str, box or (0, 0, 0, 0))) + "\n")


FORMS = {
    "{split}.txt": write_rows,
    "{split}.txt, the split before": write_rows_with_split,
    "{split}.txt, other spellings": write_rows_in_another_spelling,
    "{split}.json": write_json,
    "crop/{split}": write_crops,
}
