"""Folders as people unpack them: files that systems leave there, names in another case, zip files within themselves.

Every reader that lists or looks for files does it with these functions, so that all read a tree in the same way.
"""

from collections.abc import Callable
from pathlib import Path

from clef.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_JUNK = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "@recycle", "#recycle", "$recycle.bin", "lost+found"}


def is_junk(name: str) -> bool:
    """Return whether a system or a tool made the file or folder of this name, such as `._x.jpg` or `__MACOSX`."""
    return name.startswith(".") or name.lower() in _JUNK


def list_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the images in a folder by name, and everything else that lies there."""
    images: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.iterdir()):
        is_image = path.suffix.lower() in IMAGE_SUFFIXES and not is_junk(path.name)
        (images if is_image else others).append(path)
    return images, others


def find(root: Path, relative: str) -> Path:
    """Return the path of a file or folder below `root` that may be there in another case: `Train` for `train`.

    What isn't there, or is there in several other spellings, is returned as stated.
    """
    path = root
    for name in Path(relative).parts:
        stated = path / name
        if not stated.exists() and path.is_dir():
            spellings = [child for child in path.iterdir() if child.name.lower() == name.lower()]
            stated = spellings[0] if len(spellings) == 1 else stated
        path = stated
    return path


def find_nested(root: Path, is_dataset: Callable[[Path], bool]) -> Path | None:
    """Return the folder for which `is_dataset` holds: `root`, or one or two levels below it, as zip files unpack.

    Returns None without any. Raises DataError when several folders of one level are like that.
    """
    level = [root]
    for _ in range(3):
        found = [folder for folder in level if is_dataset(folder)]
        if len(found) > 1:
            raise DataError(f"{root}: the dataset is in {' and in '.join(map(str, found))}; name one of them")
        if found:
            return found[0]
        level = [child for folder in level for child in subfolders(folder)]
    return None


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder by name, without junk; nothing where there is no folder that may be read."""
    try:
        return [child for child in sorted(folder.iterdir()) if not is_junk(child.name) and child.is_dir()]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
