"""Parts: each shard falls to one, all have about the same to do, and together they make what one process makes."""

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clef import io
from clef.data import manifest as manifests
from clef.errors import ConfigError, ShardError
from clef.sharding import build, shard_plan
from clef.sharding.shard_plan import Part, ShardJob
from tests.sharding import small_set


def job(number: int, people: int) -> ShardJob:
    return ShardJob(
        out=Path("x"), split="train", number=number, fingerprint="", parts=1,
        card=small_set.card(), first=0, people=(None,) * people,  # type: ignore[arg-type]
    )  # fmt: skip


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 12))
def test_every_shard_falls_to_one_part_and_none_has_a_shard_more_to_do(sizes: list[int], of: int) -> None:
    jobs = [job(number, size) for number, size in enumerate(sizes)]
    shares = [shard_plan.jobs_of_part(jobs, Part(number, of)) for number in range(1, of + 1)]
    assert sorted(j.number for share in shares for j in share) == list(range(len(jobs)))
    loads = [sum(j.size for j in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes, default=0)


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "a/b", "1/2/3", "1.0/2", " 1/2"])
def test_a_part_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--part {re.escape(text)}: i/n is expected"):
        shard_plan.parse_part(text)


@pytest.mark.parametrize("of", [1, 3, 20])
def test_parts_make_the_bytes_of_one_process(of: int, small_source: Path, small_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    for number in reversed(range(1, of + 1)):  # more parts than shards: some have nothing to do
        build.build_part(small_set.card(), small_source, out, Part(number, of), workers=1)
        assert not manifests.path_of(out).exists()
    build.finish_parts(small_set.card(), small_source, out)
    assert small_set.hashes(out) == small_set.hashes(small_shards)


@pytest.mark.slow
def test_parts_at_the_same_time(small_source: Path, small_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    code = (
        "import sys; from pathlib import Path\n"
        "from clef.sharding import build, shard_plan; from tests.sharding import small_set\n"
        "sys.stdin.readline()\n"
        "source, out, part = Path(sys.argv[1]), Path(sys.argv[2]), shard_plan.parse_part(sys.argv[3])\n"
        "build.build_part(small_set.card(), source, out, part, workers=2)"
    )
    arguments = [sys.executable, "-c", code, str(small_source), str(out)]
    running = [subprocess.Popen([*arguments, f"{n}/3"], stdin=subprocess.PIPE) for n in (1, 2, 3)]
    for process in running:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    assert [process.wait() for process in running] == [0, 0, 0]
    build.finish_parts(small_set.card(), small_source, out)
    assert small_set.hashes(out) == small_set.hashes(small_shards)


def test_what_is_missing_is_told_with_the_parts_to_run_again(small_source: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    with pytest.raises(ShardError, match=r"7 of 7 shards are missing .*; run this command without --finish"):
        build.finish_parts(small_set.card(), small_source, out)
    own = {n: build.build_part(small_set.card(), small_source, out, Part(n, 3)) for n in (1, 3)}
    own[2] = build.build_part(small_set.card(), small_source, tmp_path / "elsewhere/small", Part(2, 3))
    names = ", ".join(job.path.stem for job in own[2])
    with pytest.raises(ShardError, match=rf"{len(own[2])} of 7 shards are missing \({names}\); run again: --part 2/3;"):
        build.finish_parts(small_set.card(), small_source, out)
    own[1][0].path.unlink()
    own[3][0].path.write_bytes(b"cut")
    with pytest.raises(ShardError, match=r"--part 1/3, --part 2/3, --part 3/3; or run this command without --finish"):
        build.finish_parts(small_set.card(), small_source, out)
    assert not manifests.path_of(out).exists()


def test_a_plain_build_completes_what_parts_left(small_source: Path, small_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    own = build.build_part(small_set.card(), small_source, out, Part(2, 3))
    before = {job.path: job.path.stat().st_mtime_ns for job in own}
    build.build(small_set.card(), small_source, out)
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished shard was written again"
    assert small_set.hashes(out) == small_set.hashes(small_shards)
    assert build.build_part(small_set.card(), small_source, out, Part(2, 3))  # the set is there: nothing to do
    assert small_set.hashes(out) == small_set.hashes(small_shards)


def test_shards_of_another_cut_that_were_left_behind_are_removed(
    small_source: Path, small_shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    build.build_part(small_set.card(2), small_source, out, Part(1, 2))
    (out / "notes.txt").write_text("mine")
    build.build(small_set.card(), small_source, out)
    assert set(small_set.hashes(out)) - set(small_set.hashes(small_shards)) == {"notes.txt"}


@pytest.mark.slow
def test_finishing_waits_for_parts(small_source: Path, small_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    code = (
        "import sys; from pathlib import Path; from clef.sharding import build\n"
        "with build.lock_folder(Path(sys.argv[1]), shared=True):\n"
        "    print('locked', flush=True); sys.stdin.readline()"
    )
    build.build_part(small_set.card(), small_source, out, Part(1, 1))
    arguments = [sys.executable, "-c", code, str(out)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as part:
        assert part.stdout is not None
        assert part.stdin is not None
        assert part.stdout.readline() == "locked\n"
        lock = out.with_name(".small.lock")
        with io.lock(lock, shared=True):  # another part need not wait
            pass
        with pytest.raises(ShardError, match="busy"), io.lock(lock, busy=lambda: ShardError("busy")):
            pass
        with subprocess.Popen(
            [sys.executable, "-c", FINISH, str(small_source), str(out)], stderr=subprocess.PIPE, text=True
        ) as finishing:
            assert finishing.stderr is not None
            assert "waiting for another process that writes" in finishing.stderr.readline()
            assert not manifests.path_of(out).exists()
            part.stdin.close()
    assert (part.returncode, finishing.returncode) == (0, 0)
    assert small_set.hashes(out) == small_set.hashes(small_shards)


FINISH = (
    "import sys; from pathlib import Path; from clef.sharding import build; from tests.sharding import small_set\n"
    "build.finish_parts(small_set.card(), Path(sys.argv[1]), Path(sys.argv[2]))"
)


@pytest.mark.parametrize("name", ["Happy/0001.png", "train-000000.tar", "notes.txt"])
def test_no_set_is_begun_among_files_of_others(name: str, small_source: Path, tmp_path: Path) -> None:
    out, first = tmp_path / "small", Path(name).parts[0]
    (out / name).parent.mkdir(parents=True)
    with tarfile.open(out / name, "w") as tar:  # with the time of its member
        tar.add(small_source / "test.txt")
    before = (out / name).read_bytes()
    for part in (None, Part(1, 2)):
        with pytest.raises(ShardError, match=f"holds {first}, not part of a set; name another folder with --out"):
            make(small_source, out, part)
    assert [path.name for path in out.iterdir()] == [first]
    assert (out / name).read_bytes() == before


def make(source: Path, out: Path, part: Part | None) -> None:
    if part:
        build.build_part(small_set.card(), source, out, part)
    else:
        build.build(small_set.card(), source, out)


def test_files_of_others_stay_in_the_folder_of_a_complete_set(
    small_source: Path, small_shards: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(small_shards, tmp_path / "small")
    names = {"notes.txt", "backup-000001.tar", "mine.index.npy"}
    for name in names:
        (out / name).write_bytes(b"mine")
    make(small_source, out, None)
    assert set(small_set.hashes(out)) - set(small_set.hashes(small_shards)) == names


def test_a_tar_whose_rows_a_kill_prevented_is_made_again(
    small_source: Path, small_shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    make(small_source, out, Part(1, 2))
    for rows in out.glob("*.rows.npz"):
        rows.unlink()
    make(small_source, out, None)
    assert small_set.hashes(out) == small_set.hashes(small_shards)
