"""`verify`: what it says of a damaged set (tests/soak goes through many damages), and how it tells its progress."""

import shutil
from pathlib import Path

import pytest

from clef.data import manifest as manifests
from clef.errors import ShardError
from clef.sharding.verify import verify
from tests.sharding import small_set


@pytest.fixture
def copy(small_shards: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_shards, tmp_path / "small")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_every_byte_of_the_tars_is_counted(workers: int, small_shards: Path) -> None:
    told: dict[str, tuple[int, int]] = {}
    assert verify(small_shards, workers, lambda name, done, total: told.update({name: (done, total)})) == []
    sizes = {
        name: sum(path.stat().st_size for path in small_shards.glob(f"{name}-*.tar"))
        for name in ("train", "val", "test")
    }
    assert told == {name: (size, size) for name, size in sizes.items()}


@pytest.mark.slow
def test_all_faults_are_told_at_once_whoever_looks(copy: Path) -> None:
    (copy / "train-000001.tar").write_bytes(b"cut")
    (copy / "val-000000.tar").unlink()
    (copy / "test.index.npy").write_bytes(b"nothing")
    (copy / "train-000000.rows.npz").write_bytes(b"left behind")
    (copy / ".hidden").write_text("")
    (copy / "folder").mkdir()
    faults = verify(copy)
    assert set(faults) >= {
        "val-000000.tar: missing",
        "train-000000.rows.npz: not in the manifest",
        ".hidden: not in the manifest",
        "folder: not in the manifest",
        "test.index.npy: not the bytes that were written",
    }
    assert any(fault.startswith("train-000001.tar: 3 bytes, ") for fault in faults)
    assert len(faults) == 6
    assert verify(copy, workers=3) == faults


def test_a_manifest_that_says_the_same_in_other_bytes(copy: Path) -> None:
    path = copy / manifests.FILE_NAME
    path.write_bytes(path.read_bytes().replace(b"\n ", b"\n  ", 1))
    assert manifests.load(copy)
    assert verify(copy) == ["manifest.json: not the bytes that were written"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"9" * 5000, b"[" * 100_000, b'{"format": 3}'])
def test_a_manifest_that_is_none(content: bytes, copy: Path) -> None:
    (copy / manifests.FILE_NAME).write_bytes(content)
    with pytest.raises(ShardError, match=r"manifest.json: (damaged|format)"):
        verify(copy)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("listed", 99, "`listed` is not `samples` and `left_out`"),
        ("positions", 99, "not as many shards as `positions` make"),
        ("classes", dict.fromkeys(small_set.card().classes, 1), "its shards' classes are not `classes`"),
    ],
)
def test_numbers_that_do_not_go_together(field: str, value: object, told: str, copy: Path) -> None:
    # As a faulty writer would state them: the checksum is right.
    manifest = manifests.load(copy)
    splits = manifest.splits | {"train": manifest.splits["train"].model_copy(update={field: value})}
    manifests.save(copy, manifest.model_copy(update={"splits": splits}))
    assert verify(copy) == [f"train: {told}"]
