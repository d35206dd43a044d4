"""Whatever happens to a byte, a member or a file of a set, `verify` says so, and only that."""

import random
import shutil
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from clef import io
from clef.data import manifest as manifests
from clef.data.manifest import Manifest
from clef.errors import ShardError
from clef.sharding import build
from clef.sharding.verify import verify
from tests.sharding import small_set
from tests.soak import cases


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small")
    build.build(small_set.card(), small_set.draw(root / "source"), root / "small")
    assert verify(root / "small") == []
    return root / "small"


def any_file(folder: Path, chance: random.Random) -> Path:
    return chance.choice(sorted(folder.iterdir()))


def any_tar(folder: Path, chance: random.Random) -> Path:
    return chance.choice(sorted(folder.glob("*.tar")))


def flip_a_byte(folder: Path, chance: random.Random) -> None:
    path = any_file(folder, chance)
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= chance.randint(1, 255)
    path.write_bytes(data)


def flip_a_byte_of_the_manifest_or_an_index(folder: Path, chance: random.Random) -> None:
    path = chance.choice([folder / manifests.FILE_NAME, *sorted(folder.glob("*.npy"))])
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def cut_short(folder: Path, chance: random.Random) -> None:
    path = any_file(folder, chance)
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def cut_at_a_member(folder: Path, chance: random.Random) -> None:
    path = any_tar(folder, chance)
    with tarfile.open(path) as tar:
        offset = chance.choice(tar.getmembers()).offset
    path.write_bytes(path.read_bytes()[:offset])


def append(folder: Path, chance: random.Random) -> None:
    with any_file(folder, chance).open("ab") as file:
        file.write(chance.choice([b"\0", b"\n", bytes(512), b"x"]))


def remove_a_member(folder: Path, chance: random.Random) -> None:
    """The tar is written anew without it: it is a good tar."""
    path = any_tar(folder, chance)
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    members.pop(chance.randrange(len(members)))
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            tar.addfile(member, BytesIO(content))


def remove_a_member_and_restate_the_hash(folder: Path, chance: random.Random) -> None:
    """As before, and the manifest vouches for the new tar."""
    remove_a_member(folder, chance)
    restate(folder)


def change_facts_and_restate_the_hash(folder: Path, chance: random.Random) -> None:
    """A person's facts say something else, in as many bytes: every member lies where the index says."""
    path = any_tar(folder, chance)
    with tarfile.open(path) as tar:
        place = chance.choice([member.offset_data for member in tar if member.name.endswith(".meta.json")])
    data = bytearray(path.read_bytes())
    digits = [i for i in range(data.index(b'"image_sha256"', place) + 16, len(data)) if data[i : i + 1].isdigit()]
    data[digits[0]] = ord("0") + (data[digits[0]] - ord("0") + 1) % 10
    path.write_bytes(data)
    restate(folder)


def restate(folder: Path) -> None:
    """The manifest vouches for the files as they are now."""
    content = manifests.load(folder).model_dump()
    for split in content["splits"].values():
        split["index_sha256"] = io.sha256(folder / split["index"])
        for shard in split["shards"]:
            path = folder / shard["name"]
            shard |= {"sha256": io.sha256(path), "bytes": path.stat().st_size}
    manifests.save(folder, Manifest.model_validate(content))


def change_a_row_and_restate_the_hash(folder: Path, chance: random.Random) -> None:
    """One number of an index is another."""
    path = chance.choice(sorted(folder.glob("*.npy")))
    rows = np.load(path)
    rows[chance.choice(["key", "shard", "offset", "size"])][chance.randrange(len(rows))] += 1
    np.save(path, rows)
    restate(folder)


def rename(folder: Path, chance: random.Random) -> None:
    path = any_file(folder, chance)
    path.rename(folder / chance.choice([f"{path.name}.bak", f"x{path.name}", path.name.upper()]))


def remove(folder: Path, chance: random.Random) -> None:
    any_file(folder, chance).unlink()


def swap_two(folder: Path, chance: random.Random) -> None:
    one, other = chance.sample(sorted(folder.iterdir()), 2)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def add(folder: Path, chance: random.Random) -> None:
    name = chance.choice(["train-000099.tar", "val-000000.rows.npz", ".train-000000.tar.host.1.tmp", "notes.txt", ".x"])
    shutil.copy(any_file(folder, chance), folder / name)


DAMAGES: list[Callable[[Path, random.Random], None]] = [
    flip_a_byte,
    flip_a_byte_of_the_manifest_or_an_index,
    cut_short,
    cut_at_a_member,
    append,
    remove_a_member,
    remove_a_member_and_restate_the_hash,
    change_facts_and_restate_the_hash,
    change_a_row_and_restate_the_hash,
    rename,
    remove,
    swap_two,
    add,
]


@pytest.mark.parametrize("seed", cases(25, 500))
def test_every_damage_is_found(seed: int, built: Path, tmp_path: Path) -> None:
    chance = random.Random(seed)
    copy = shutil.copytree(built, tmp_path / "small")
    damage = DAMAGES[seed % len(DAMAGES)]
    damage(copy, chance)
    assert small_set.hashes(copy) != small_set.hashes(built)
    try:
        faults = verify(copy, workers=1)
    except ShardError as error:  # of the manifest; any other error is a bug
        faults = [str(error)]
    assert faults, f"seed {seed}: {damage.__name__} was not found"
    assert all(len(fault) < 2000 for fault in faults)
