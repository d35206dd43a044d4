"""The node cache: the same batches as without it, whoever fills it, is killed, or shares it."""

import multiprocessing
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clef.cells import records
from clef.cells.identity import write_config
from clef.config import CellConfig, DepthConfig, InputConfig
from clef.data.dataset import CellDataset
from clef.data.decoded_cache import NodeCache, table_specs
from clef.data.loader import BatchLoader
from clef.data.order import EvaluationBatches
from clef.data.shards import SplitShards
from clef.engine.run import run_cell
from clef.errors import SetupError
from launch.plan import _with_absolute_paths

PLAIN: dict[Any, Any] = {"body": InputConfig(size=(20, 24))}
INPUTS: dict[Any, Any] = {
    "scene": InputConfig(size=(28, 36), crop=(24, 24), flip=True, jitter=0.3),
    "scene_without_face": InputConfig(size=(28, 36), flip=True),
    "context": InputConfig(size=(24, 24), flip=True),
    "face": InputConfig(size=(24, 24), jitter=0.2),
    "depth": DepthConfig(size=(16, 20), flip=True),
}


@pytest.fixture
def split(shards: Path) -> SplitShards:
    return SplitShards(shards / "emotic_demo", "val")


@pytest.fixture
def cache(tmp_path: Path) -> NodeCache:
    return NodeCache(str(tmp_path))


def batches(split: SplitShards, inputs: Any, cache: NodeCache | None, workers: int = 0, augment: bool = False) -> list:
    dataset = CellDataset(split, inputs, seed=1, augment=augment, cache=cache)
    return list(BatchLoader(dataset, EvaluationBatches(len(split), 8, 0, 1), workers))


def same(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one.nan_to_num(-1), two.nan_to_num(-1))
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(value, two[key]) for key, value in one.items())
    return len(one) == len(two) and all(map(same, one, two))


def the_table(cache: NodeCache) -> Path:
    [path] = [path for path in cache.folder.iterdir() if path.is_dir()]
    return path


def flags(cache: NodeCache) -> np.ndarray:
    return np.fromfile(the_table(cache) / "flags", np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("augment", [False, True])
def test_batches_are_the_same_with_and_without_it(shards: Path, cache: NodeCache, workers: int, augment: bool) -> None:
    split = SplitShards(shards / "emotic_demo", "train")
    expected = batches(split, INPUTS, None, 0, augment)
    assert same(batches(split, INPUTS, cache, workers, augment), expected), "while it fills"
    assert same(batches(split, INPUTS, cache, workers, augment), expected), "from it"
    assert not all(batch["valid"]["face"].all() for batch in expected), "people without a face are among them"


@pytest.mark.slow
def test_nothing_is_decoded_twice_and_inputs_of_one_member_and_size_share_a_table(
    split: SplitShards, cache: NodeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches(split, INPUTS, cache, 2, augment=True)
    read: list[tuple[int, str]] = []
    original = SplitShards.read

    def noted(self: SplitShards, index: int, kind: str) -> bytes | None:
        found = original(self, index, kind)
        read.extend([(index, kind)] if found else [])
        return found

    monkeypatch.setattr(SplitShards, "read", noted)
    batches(split, INPUTS, cache)
    assert read == [(index, "meta.json") for index in range(len(split))]
    made = sorted(path.name.rpartition("-")[0] for path in cache.folder.iterdir() if path.is_dir())
    kinds = {"context-24x24", "depth-16x20", "face-24x24", "scene-28x36"}
    assert made == [f"emotic_demo-val-{kind}" for kind in sorted(kinds)]


def test_an_entry_without_its_flag_is_not_used(split: SplitShards, cache: NodeCache) -> None:
    [table] = cache.tables(split, PLAIN).values()
    grey = np.full(table.shape[1:], 77, np.uint8)
    for index in (0, 1):
        table.write(index, grey)
    assert not table.read(0, np.empty_like(grey)), "not yet"
    table.commit()
    (the_table(cache) / "flags").write_bytes(bytes([0, 1]) + bytes(len(split) - 2))
    [found, *_] = batches(split, PLAIN, cache)
    [expected, *_] = batches(split, PLAIN, None)
    assert torch.equal(found["body"][0], expected["body"][0])
    assert found["body"][1].eq(77).all(), "what is flagged is believed"


def test_a_flag_is_set_only_after_the_pixels_are_on_the_disk(
    split: SplitShards, cache: NodeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    [table] = cache.tables(split, PLAIN).values()
    done: list[str] = []
    sync, write = os.fdatasync, os.pwrite

    def noted(file: int, data: Any, offset: int) -> int:
        done.append("flag" if len(data) == 1 else "pixels")
        return write(file, data, offset)

    monkeypatch.setattr(os, "pwrite", noted)
    monkeypatch.setattr(os, "fdatasync", lambda file: (done.append("sync"), sync(file)))
    for index in range(3):
        table.write(index, np.zeros(table.shape[1:], np.uint8))
    table.commit()
    table.commit()
    assert done == ["pixels"] * 3 + ["sync"] + ["flag"] * 3


FILLER = """
import sys
from pathlib import Path
from clef.config import InputConfig
from clef.data.decoded_cache import NodeCache
from clef.data.dataset import CellDataset
from clef.data.loader import BatchLoader
from clef.data.shards import SplitShards

split = SplitShards(Path(sys.argv[1]), "train")
inputs = {"body": InputConfig(size=(200, 240))}
dataset = CellDataset(split, inputs, 0, augment=False, cache=NodeCache(sys.argv[2]))
pairs = [[(0, index), (0, index + 1)] for index in range(0, len(split) - 1, 2)]
for batch in BatchLoader(dataset, pairs, int(sys.argv[3])):
    print(batch["index"].tolist(), flush=True)
    sys.stdin.readline()  # so that it is killed in the middle, however fast it is
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_filler_that_is_killed_leaves_whole_entries_only(shards: Path, cache: NodeCache, workers: int) -> None:
    arguments = [str(shards / "emotic_demo"), str(cache.folder.parent), str(workers)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", FILLER, *arguments], **pipes, start_new_session=True) as filler:
        assert filler.stdin is not None
        assert filler.stdout is not None
        for _ in range(3):
            assert filler.stdout.readline()
            filler.stdin.write("go on\n")
            filler.stdin.flush()
        os.killpg(filler.pid, signal.SIGKILL)
    split, inputs = SplitShards(shards / "emotic_demo", "train"), {"body": InputConfig(size=(200, 240))}
    filled = np.flatnonzero(flags(cache))
    assert 6 <= len(filled) < len(split)
    pixels = np.memmap(the_table(cache) / "pixels", np.uint8, "r", shape=(len(split), 200, 240, 3))
    alone = CellDataset(split, inputs, 0, augment=False)  # type: ignore[arg-type]
    for index in filled.tolist():
        assert np.array_equal(pixels[index], alone[0, index]["body"].permute(1, 2, 0).numpy())
    assert same(batches(split, inputs, cache), batches(split, inputs, None)), "the next one goes on"
    assert flags(cache).all()


@pytest.mark.slow
def test_several_that_start_together_share_one_table(split: SplitShards, cache: NodeCache) -> None:
    context = multiprocessing.get_context("fork")
    together, results = context.Barrier(4), context.Queue()

    def fill() -> None:
        torch.set_num_threads(1)
        together.wait()
        results.put([batch["body"].numpy().tobytes() for batch in batches(split, PLAIN, cache)])

    processes = [context.Process(target=fill) for _ in range(4)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    expected = [batch["body"].numpy().tobytes() for batch in batches(split, PLAIN, None)]
    assert found == [expected] * 4
    assert flags(cache).all()
    assert the_table(cache)


Usage = namedtuple("Usage", "total used free")


def test_without_room_it_is_refused_with_the_numbers(
    split: SplitShards, cache: NodeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = sum(sum(spec.file_sizes.values()) for spec in table_specs(split.manifest, "val", INPUTS).values())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, needed - 1))
    said = (
        rf"{cache.folder}: the node cache needs {needed / 1e6:.1f} MB more, .* are free; .*runtime.scratch.*cache=none"
    )
    with pytest.raises(SetupError, match=said):
        batches(split, INPUTS, cache)
    assert [path.name for path in cache.folder.iterdir()] == ["lock"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, needed))
    batches(split, INPUTS, cache)


def test_a_disk_that_fills_up_meanwhile_leaves_nothing_behind(
    split: SplitShards, cache: NodeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, start: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(SetupError, match="No space left on device"):
        batches(split, PLAIN, cache)
    assert [path.name for path in cache.folder.iterdir()] == ["lock"]


def changed(split: SplitShards, content: str) -> SplitShards:
    """The same split as if its bodies had been made anew."""
    part = split.split.model_copy(update={"content": split.split.content | {"body.jpg": content}})
    manifest = split.manifest.model_copy(update={"splits": split.manifest.splits | {split.name: part}})
    return SplitShards(split.root, split.name, manifest)


def test_what_a_new_table_takes_the_place_of_goes_unless_it_is_in_use(split: SplitShards, cache: NodeCache) -> None:
    def made() -> set[str]:
        return {path.name for path in cache.folder.iterdir() if path.is_dir()}

    batches(split, PLAIN | {"context": InputConfig(size=(8, 8))}, cache)
    bystander = next(name for name in made() if "context" in name)
    in_use = cache.tables(changed(split, "second"), PLAIN)
    second = made() - {bystander}
    assert len(second) == 1, "nobody used the first"
    batches(changed(split, "third"), PLAIN, cache)
    assert second < made(), "the second is in use"
    assert len(made()) == 3
    del in_use
    batches(changed(split, "fourth"), PLAIN, cache)
    assert not second & made()
    assert len(made()) == 2, "the third went too"
    assert bystander in made()


def test_what_a_killed_creator_left_is_removed(split: SplitShards, cache: NodeCache) -> None:
    batches(split, PLAIN, cache)
    half = the_table(cache).with_name("something-val-body-8x8-0123.tmp")
    half.mkdir()
    batches(changed(split, "second"), PLAIN, cache)
    assert not half.exists()


@pytest.mark.parametrize("file", ["pixels", "flags"])
def test_a_table_that_was_cut_short_is_made_anew_unless_it_is_in_use(
    split: SplitShards, cache: NodeCache, file: str
) -> None:
    expected = batches(split, PLAIN, cache)
    os.truncate(the_table(cache) / file, 5)
    assert same(batches(split, PLAIN, cache), expected)
    used = cache.tables(split, PLAIN)
    os.truncate(the_table(cache) / file, 5)
    with pytest.raises(SetupError, match="damaged, and in use"):
        batches(split, PLAIN, cache)
    if file == "pixels":
        [table] = used.values()
        with pytest.raises(SetupError, match="cut short while in use"):
            table.read(3, np.empty(table.shape[1:], np.uint8))


def test_it_is_closed_to_others_and_others_places_are_refused(
    split: SplitShards, cache: NodeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches(split, PLAIN, cache)
    for path in [cache.folder, *cache.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    cache.folder.chmod(0o755)
    with pytest.raises(SetupError, match="owned by you with mode 700"):
        batches(split, PLAIN, cache)
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    (tmp_path / f"clef-{me + 1}").mkdir(mode=0o700)
    with pytest.raises(SetupError, match="owned by you with mode 700"):
        batches(split, PLAIN, NodeCache(str(tmp_path)))


def test_a_link_is_refused(split: SplitShards, cache: NodeCache, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    cache.folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetupError, match="owned by you with mode 700"):
        batches(split, PLAIN, cache)


def test_a_scratch_folder_is_made_and_one_that_cannot_be_is_an_error_that_says_what_to_do(
    split: SplitShards, tmp_path: Path
) -> None:
    cache = NodeCache(str(tmp_path / "new/folder"))
    batches(split, PLAIN, cache)
    assert cache.folder.parent == tmp_path / "new/folder"
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"file/sub/clef-\d+: Not a directory; .*runtime.scratch"):
        batches(split, PLAIN, NodeCache(str(tmp_path / "file/sub")))


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = f"clef-{os.getuid()}"
    monkeypatch.setenv("SLURM_TMPDIR", "/of/the/job")
    monkeypatch.setenv("LOCAL", "/local")
    assert NodeCache("").folder == Path("/of/the/job") / mine
    assert NodeCache("$LOCAL/me").folder == Path("/local/me") / mine
    monkeypatch.delenv("SLURM_TMPDIR")
    assert NodeCache("").folder.name == mine


@pytest.mark.parametrize(("given", "job_gets"), [("", ""), ("$LOCAL/me", "$LOCAL/me"), ("near", "{here}/near")])
def test_a_job_looks_for_it_where_the_config_says(
    tiny: Callable[..., CellConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, job_gets: str
) -> None:
    monkeypatch.chdir(tmp_path)
    config = _with_absolute_paths(tiny(**{"runtime.scratch": given}))
    assert config.runtime.scratch == job_gets.format(here=tmp_path)


def test_a_spawned_process_opens_its_own_files(split: SplitShards, cache: NodeCache) -> None:
    dataset = CellDataset(split, PLAIN, 0, augment=False, cache=cache)
    expected = dataset[0, 3]
    other = pickle.loads(pickle.dumps(dataset))
    del dataset
    assert same(other[0, 3], expected)


@pytest.mark.slow
def test_a_cell_trains_on_it_to_the_same_result(tiny: Callable[..., CellConfig], tmp_path: Path) -> None:
    frozen = {"method.context_branch.trainable": False, "inputs.context.flip": False}
    results = []
    for name, runtime in (("plain", {}), ("cached", {"runtime.cache": "node", "runtime.scratch": str(tmp_path)})):
        settings = frozen | runtime | {"runtime.features": str(tmp_path / name)}
        write_config(tmp_path / name, tiny(**settings))
        results.append(run_cell(tmp_path / name)["splits"])
    assert results[0] == results[1]
    made = {path.name.rpartition("-")[0] for path in (tmp_path / f"clef-{os.getuid()}").iterdir() if path.is_dir()}
    splits, kinds = ("train", "val", "test", "test_shift"), ("scene", "body", "context")
    assert made == {f"caer_s_demo-{split}-{kind}-24x24" for split in splits for kind in kinds}


def test_a_cell_without_room_ends_before_it_trains(
    tiny: Callable[..., CellConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 100_000))
    write_config(tmp_path / "cell", tiny(**{"runtime.cache": "node", "runtime.scratch": str(tmp_path)}))
    with pytest.raises(SetupError, match="the node cache needs"):
        run_cell(tmp_path / "cell")
    assert records.read_json(tmp_path / "cell/state.json")["state"] == "failed"
