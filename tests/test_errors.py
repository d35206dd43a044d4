"""`clef.errors`: what the system refuses is told from what is wrong with a file, whoever reads it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from clef.cells import plan_file, records
from clef.cues import view
from clef.cues.detectors import load_faster_rcnn
from clef.data import manifest as manifests
from clef.data.shards import SplitShards
from clef.datasets.emotic_annotations import _read_variable_names
from clef.demo import generate
from clef.engine import atomic_dir, checkpoint
from clef.errors import SetupError, system_error
from clef.models import pretrained
from clef.results import frame, predictions
from clef.sharding import cue_members, shard_file
from clef.sharding import frame as images
from clef.sharding.check.scan import scan_image
from clef.sharding.verify import verify
from tests.faults import refused

NUMBERS = (
    errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN,
    errno.ETIMEDOUT, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM,
)  # fmt: skip
BLAME = ("remove", "delete", "damaged", "missing", "truncated", "not a ", "no such", "rm ")
"""Words that would be untrue of a file that can't be read now, or destroy it."""
READERS: dict[str, Callable[[Path], object]] = {
    "manifest.json": lambda path: manifests.load(path.parent),
    "plan.json": plan_file.read_plan,
    "state.json": records.read_json,
    "cells.json": lambda path: frame.load(path.parent),
    "predictions-test.npz": lambda path: predictions.load(path.parent, "test", 1, 1),
    "train-000000.rows.npz": lambda path: shard_file.read_rows(
        shard_file.ShardFile(out=path.parent, split="train", number=0, fingerprint="", parts=1)
    ),
    "image.jpg": lambda path: images.decode_frame(path, 100, None),
    "scanned.jpg": lambda path: scan_image(path, 100),
    "photo.jpg": view.read_image,
    "depth.png": cue_members._depth_values,
    "model.safetensors": lambda path: checkpoint.load_weights(path, nn.Linear(1, 1)),
    "weights.pth": lambda path: pretrained.load_weights(nn.Linear(1, 1), path),
    "detector.pth": load_faster_rcnn,
    "complete.json": lambda path: atomic_dir.verify(path.parent),
    "Annotations.mat": _read_variable_names,
    "demo.json": lambda path: generate("caer_s_demo", path.parent),
}
"""By the name of a file: what reads it."""


def named(error: BaseException, path: Path, number: int) -> bool:
    """Whether an error says which file and what the system said, and nothing against the file."""
    text = str(error)
    return text.startswith(f"{path}: {os.strerror(number)}; ") and not any(word in text.lower() for word in BLAME)


@pytest.mark.parametrize("number", NUMBERS)
def test_what_the_system_refuses_is_named_with_what_to_do(number: int) -> None:
    found = system_error(OSError(number, os.strerror(number), "shards/a.tar"))
    assert isinstance(found, SetupError)
    assert named(found, Path("shards/a.tar"), number)


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(2, "No such file"), IsADirectoryError(21, "Is a directory"), OSError("truncated"), ValueError()],
)
def test_what_is_wrong_with_a_file_is_no_error_of_the_system(error: Exception) -> None:
    assert system_error(error, "a.tar") is None


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_may_not_be_read_is_not_called_damaged(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"sound")
    for number in (errno.EMFILE, errno.EACCES, errno.ESTALE):
        with refused(path, number), pytest.raises(SetupError) as caught:
            READERS[name](path)
        assert named(caught.value, path, number)


@pytest.mark.parametrize("name", ["train-000000.tar", "train.index.npy"])
def test_shards_that_may_not_be_read_are_not_called_damaged(name: str, shards: Path) -> None:
    root = shards / "caer_s_demo"
    for read in (lambda: SplitShards(root, "train").read(0, "meta.json"), lambda: verify(root)):
        with refused(root / name, errno.EIO), pytest.raises(SetupError) as caught:
            read()
        assert named(caught.value, root / name, errno.EIO)


def test_a_record_that_another_machine_replaced_meanwhile_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, calls, read = tmp_path / "state.json", [], Path.read_text
    path.write_text('{"state": "running"}')

    def gone_once(self: Path, *args: Any, **options: Any) -> str:
        calls.append(self)
        if len(calls) == 1:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self))
        return read(self, *args, **options)

    monkeypatch.setattr(Path, "read_text", gone_once)
    assert records.read_json(path) == {"state": "running"}
