"""Builds, parts, finishing and resharding that are killed at any moment go on to the same bytes, and leave nothing."""

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clef.sharding import build, shard_plan
from clef.sharding.reshard import reshard
from tests.sharding import small_set
from tests.soak import cases

SCRIPT = Path(__file__).parent / "killed_build.py"
COMMANDS = (
    {"command": "build", "workers": 1},
    {"command": "build", "workers": 2},
    {"command": "part", "part": "1/2", "workers": 2},
    {"command": "finish"},
    {"command": "reshard", "samples": 5, "workers": 2},
)


@dataclass(frozen=True)
class Set:
    """The source, and the set that an undisturbed build makes of it, in one process."""

    source: Path
    built: Path
    resharded: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Set:
    root = tmp_path_factory.mktemp("small")
    found = Set(small_set.draw(root / "source"), root / "built/small", root / "resharded/small")
    build.build(small_set.card(), found.source, found.built)
    reshard(found.built, 5, found.resharded)
    return found


def begun(command: dict[str, Any], made: Set, out: Path, **kill: Any) -> subprocess.Popen[str]:
    """The command, about to begin."""
    source = made.built if command["command"] == "reshard" else made.source
    what = {"who": "main", "event": 0, "below": str(out.parent)} | command | kill
    what |= {"card": small_set.card().model_dump_json(), "source": str(source), "out": str(out)}
    process = subprocess.Popen([sys.executable, str(SCRIPT), json.dumps(what)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def prepared(command: dict[str, Any], made: Set, folder: Path) -> Path:
    """A folder for the command's set. Before finishing, all parts are made."""
    out = folder / "small"
    if command["command"] == "finish":
        for number in (1, 2):
            build.build_part(small_set.card(), made.source, out, shard_plan.Part(number, 2))
    return out


def completed(command: dict[str, Any], made: Set, out: Path) -> None:
    """What a user does after the kill: the same command again and, for a part, what makes the set whole."""
    if command["command"] == "reshard":
        reshard(made.built, 5, out, command["workers"])
        return
    if command["command"] == "build":
        build.build(small_set.card(), made.source, out, command["workers"])
        return
    if command["command"] == "part":
        for number in (2, 1):
            build.build_part(small_set.card(), made.source, out, shard_plan.Part(number, 2))
    build.finish_parts(small_set.card(), made.source, out)


@pytest.fixture(scope="module")
def undisturbed(made: Set, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[float, int, int]]:
    """For each command how long it takes, and how many file events it has: its own, and the busiest worker's."""
    found = {}
    for command in COMMANDS:
        out = prepared(command, made, tmp_path_factory.mktemp("undisturbed"))
        process = begun(command, made, out)
        start = time.monotonic()
        events = int(process.communicate()[0])
        # A worker opens, renames and unlinks twice for each of about half the shards.
        found[json.dumps(command)] = (time.monotonic() - start, events, 6 * len(list(out.glob("*.tar"))) // 2)
    return found


@pytest.mark.parametrize("seed", cases(3, 30))
def test_a_killed_command_goes_on_to_the_same_bytes(
    seed: int, made: Set, undisturbed: dict[str, tuple[float, int, int]], tmp_path: Path
) -> None:
    chance = random.Random(seed)
    command = COMMANDS[seed % len(COMMANDS)]
    duration, events, of_worker = undisturbed[json.dumps(command)]
    out = prepared(command, made, tmp_path)
    how = chance.choice(["time", "main", "worker"] if command.get("workers") == 2 else ["time", "main", "main"])
    event = 0 if how == "time" else chance.randint(1, events if how == "main" else of_worker)
    process = begun(command, made, out, event=event, who="worker" if how == "worker" else "main")
    if how == "time":
        time.sleep(chance.uniform(0, duration))  # the moment of the kill
        process.send_signal(signal.SIGKILL)
    process.communicate()
    told = f"seed {seed}: {command} killed by {how} at event {event}"
    assert process.returncode in (-signal.SIGKILL, 0), told
    if command["command"] == "reshard":
        assert not out.exists() or small_set.hashes(out) == small_set.hashes(made.resharded), told
    completed(command, made, out)
    expected = made.resharded if command["command"] == "reshard" else made.built
    assert small_set.hashes(out) == small_set.hashes(expected), told
    assert sorted(path.name for path in tmp_path.iterdir()) == [".small.lock", "small"], told
