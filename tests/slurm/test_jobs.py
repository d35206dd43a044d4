"""What a cell's job does on a real Slurm: the code it runs, when it is queued again, and its ranks on two nodes."""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from clef.cells import attempts, records
from clef.cells.identity import write_config
from clef.config import resolve
from clef.data import manifest as manifests
from clef.engine.run import run_cell
from clef.yaml_config import merge
from tests import faults
from tests.conftest import TINY, TINY_METHOD
from tests.faults import Fault
from tests.launch import tiny_grid
from tests.slurm.cluster import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(900)]
ONE = {"datasets": ["caer_s_demo"], "backbones": ["caer_net"], "methods": ["vanilla"]}


def submit(slurm: Slurm, grid: Path, shards: Path, *more: str, injected: Sequence[Fault] = ()) -> str:
    """Launch a grid whose jobs have these faults; what the launcher said. All is written beside the grid file."""
    environment = faults.environment(grid.parent / "faults", *injected, base=slurm.environment)
    done = tiny_grid.launch(grid, shards, grid.parent, *more, environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def folder_of(base: Path, grid: str, seed: int = 0) -> Path:
    [folder] = (base / "runs" / grid).glob(f"*-s{seed}-*")
    return folder


def log(folder: Path) -> list[dict[str, Any]]:
    """The lines of the training log so far."""
    path = folder / records.LOG
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def state(folder: Path) -> dict[str, Any]:
    return records.read_json(folder / records.STATE)


def hows(folder: Path) -> list[str | None]:
    return [attempt.how for attempt in attempts.read(folder)]


OWN = """
from helper import WEIGHT
from clef.methods import Method, Prediction

class Own(Method):
    def __init__(self, parts):
        super().__init__(parts)
        self.backbone = parts.make_backbone(True)

    def predict(self, output, context, batch):
        penalty = WEIGHT * output.logits.square().sum(1).mean()
        losses = {"categories": self.task_loss(output.logits, batch["target"]), "penalty": penalty}
        return Prediction(output.logits, losses, {"Y_e": output.logits})
"""


def checkout(target: Path) -> None:
    """A copy of this checkout under git, with a change that is not committed."""
    for name in ("clef", "launch", "configs", "slurm"):
        shutil.copytree(tiny_grid.ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    (target / "shards").mkdir()
    for card in (tiny_grid.ROOT / "shards").glob("*.yaml"):
        shutil.copy(card, target / "shards")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "m"]):
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *words], cwd=target, check=True)
    with (target / "clef/methods/baselines.py").open("a") as file:
        file.write("# not committed\n")


def test_queued_jobs_run_the_code_as_it_was_submitted(slurm: Slurm, shards: Path, tmp_path: Path) -> None:
    """A checkout that is not the installed one, and a method of one's own, both broken while the jobs are held."""
    checkout(tree := tmp_path / "tree")
    (own := tmp_path / "own").mkdir()
    (own / "mine.py").write_text(OWN)
    (own / "helper.py").write_text("WEIGHT = 0.01\n")
    grid = tiny_grid.write(tmp_path / "code.yaml", **{**ONE, "methods": ["mine:Own"]})
    environment = slurm.environment | {"PYTHONPATH": str(own)}
    places = ["--grid", grid, "--shards", shards, "--out", tmp_path / "runs", "--results", tmp_path / "results"]
    command = [sys.executable, tree / "launch/grid.py", "--partition", "gpu", "--yes", "--sbatch", "hold", *places]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    git = ["git", "-C", tree]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    diff = subprocess.run([*git, "diff", "HEAD", "--binary"], capture_output=True).stdout

    for path in (tree / "clef/methods/baselines.py", tree / "clef/engine/run.py", own / "mine.py", own / "helper.py"):
        path.write_text("raise SystemExit('edited code ran')\n")
    for job in slurm.jobs("clef-code"):
        slurm.run("scontrol", "release", job)
    ends = slurm.ended("clef-code")
    assert {job["JobState"] for job in ends.values()} == {"COMPLETED"}, state(folder_of(tmp_path, "code"))
    assert "warning: some code was edited and not committed" in (tmp_path / "results/code/tables.md").read_text()

    environment = records.read_json(folder_of(tmp_path, "code") / records.RESULT)["environment"]
    assert (environment["code"]["commit"], environment["code"]["dirty"]) == (commit, True)
    assert environment["code"]["diff"] == hashlib.sha256(diff).hexdigest()
    snapshot = Path(environment["snapshot"])
    assert snapshot.parent == tmp_path / "runs/code/code"
    assert (snapshot / "diff.patch").read_bytes() == diff
    assert (snapshot / "helper.py").read_text() == "WEIGHT = 0.01\n"
    assert hows(folder_of(tmp_path, "code")) == ["done"]


def test_a_cell_on_two_nodes_is_preempted_and_trains_the_batches_of_one_rank(
    slurm: Slurm, shards: Path, tmp_path: Path
) -> None:
    """It yields to a job of a higher priority, and goes on behind it, on both nodes."""
    grid = tiny_grid.write(tmp_path / "two.yaml", **ONE)
    # The step in which it is preempted takes long enough for that job to be submitted.
    slow = [Fault("slow", 5, seconds=12)]
    settings = ("epochs=2", "runtime.log_every=2")
    submit(slurm, grid, shards, "--partition", "preempt", "--yes", "resources.nodes=2", *settings, injected=slow)
    folder = folder_of(tmp_path, "two")
    slurm.wait(lambda: log(folder)[-1:] and log(folder)[-1]["step"] == 4, "step 4")
    slurm.run("sbatch", "--partition=gpu", "--job-name=urgent", "--output=/dev/null", "--wrap=sleep 1")
    ends = slurm.ended("clef-two")
    assert {job["JobState"] for job in ends.values()} == {"COMPLETED"}, state(folder)
    assert sorted(job["Restarts"] for job in ends.values()) == ["0", "1"]  # the gather job's, and the cell's
    assert hows(folder) == ["preempted", "done"]

    alone = tmp_path / "alone" / folder.name
    write_config(alone, resolve.from_yaml(folder / records.CONFIG))
    expected, found = run_cell(alone), records.read_json(folder / records.RESULT)
    assert (found["environment"]["ranks"], expected["environment"]["ranks"]) == (2, 1)
    assert [past["how"] for past in found["environment"]["earlier"]] == ["preempted"]
    assert found["signature"] == expected["signature"]
    assert found["run"]["samples_seen"] == expected["run"]["samples_seen"]
    ours, theirs = ([line for line in log(where) if "loss" in line] for where in (folder, alone))
    assert [(line["step"], line["epoch"]) for line in ours] == [(line["step"], line["epoch"]) for line in theirs]
    # Batch statistics are those of a rank's share.
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in theirs], rel=0.1)


def test_preempt_mode_cancel_is_no_scancel(slurm: Slurm, shards: Path, tmp_path: Path) -> None:
    """Of two cells, one saves itself before Slurm kills it and goes on; the next run of the launcher goes on with the
    other, which is killed in a long step."""
    slurm.run("scontrol", "create", "partitionname=spot", "nodes=ALL", "prioritytier=1", "preemptmode=CANCEL")
    grid = tiny_grid.write(tmp_path / "spot.yaml", {"set": {"epochs": 3, "runtime.log_every": 1}}, **ONE, seeds=[0, 1])
    slow = [*(Fault("slow", step, seconds=0.5, seed=0) for step in range(2, 12)), Fault("slow", 5, seconds=60, seed=1)]
    submit(slurm, grid, shards, "--partition", "spot", "--yes", injected=slow)
    folders = [folder_of(tmp_path, "spot", seed) for seed in (0, 1)]
    slurm.wait(lambda: all(len(log(folder)) >= 4 for folder in folders), "four steps of both")
    slurm.run("sbatch", "--partition=gpu", "--nodes=2", "--job-name=urgent", "--output=/dev/null", "--wrap=sleep 1")
    slurm.wait(lambda: slurm.jobs("urgent").popitem()[1]["JobState"] == "COMPLETED", "the urgent job")
    saved, killed = (next(job for name, job in slurm.jobs("clef-spot").items() if name.endswith(f"_{i}")) for i in "01")
    assert (killed["JobState"], saved["Restarts"], hows(folders[0])[:1]) == ("PREEMPTED", "1", ["preempted"])
    shown = json.loads(submit(slurm, grid, shards, "--status", "--json"))["cells"]
    assert {"state": shown[1]["state"], "error": shown[1]["error"]} == {"state": "preempted", "error": "PREEMPTED"}
    assert shown[0]["state"] in ("queued", "starting", "running", "done")
    assert "submitted 1 cell " in submit(slurm, grid, shards, "--partition", "spot", "--yes")
    slurm.ended("clef-spot")
    assert all((folder / records.RESULT).exists() for folder in folders)
    assert [hows(folder) for folder in folders] == [["preempted", "done"], [None, "done"]]


def test_scancel_is_final_and_so_is_the_last_attempt_allowed(slurm: Slurm, shards: Path, tmp_path: Path) -> None:
    # Time to cancel it in; and each step is short enough for a cell to save itself within Slurm's KillWait.
    slow = [Fault("slow", step, seconds=0.5, seed=0) for step in range(2, 23)]
    grid = tiny_grid.write(
        tmp_path / "final.yaml",
        {"set": {"epochs": 6, "runtime.requeue": {"preempted": 0}, "runtime.log_every": 1}},
        **ONE, seeds=[0, 1],
    )  # fmt: skip
    preempted = Fault("kill", 3, signal="USR2", seed=1)
    submit(slurm, grid, shards, "--partition", "gpu", "--yes", injected=[*slow, preempted])
    cancelled, over = folder_of(tmp_path, "final", 0), folder_of(tmp_path, "final", 1)
    slurm.wait(lambda: log(cancelled), "the first step")
    slurm.run("scancel", next(job for job in slurm.jobs("clef-final") if job.endswith("_0")))
    ends = {label.partition("_")[2]: job for label, job in slurm.ended("clef-final").items()}
    assert {task: ends[task]["JobState"] for task in ("0", "1")} == {"0": "CANCELLED", "1": "FAILED"}
    assert {job["Restarts"] for job in ends.values()} == {"0"}
    assert state(cancelled)["state"] == "cancelled"
    assert hows(cancelled) == ["cancelled"]
    assert state(over)["state"] == "failed"
    assert "not queued again: of its job's attempts ended so far: 1 preempted" in state(over)["reason"]
    assert "saved after step 3/" in state(over)["reason"]


def test_a_job_whose_node_is_lost_waits_for_its_former_self(slurm: Slurm, shards: Path, tmp_path: Path) -> None:
    """slurmd is killed; its step goes on to the end, and trains alone, though the job is started elsewhere."""
    grid = tiny_grid.write(tmp_path / "lost.yaml", **ONE)
    slow = [Fault("slow", 3, seconds=60)]
    submit(slurm, grid, shards, "--partition", "gpu", "--yes", "runtime.log_every=1", injected=slow)
    folder = folder_of(tmp_path, "lost")
    slurm.wait(lambda: len(log(folder)) == 2, "the second step")
    [before] = attempts.read(folder)
    os.kill(int((slurm.folder / f"run/{before.node}.pid").read_text()), signal.SIGKILL)
    try:
        slurm.run("scontrol", "update", f"nodename={before.node}", "state=down", "reason=killed")
        ends = slurm.ended("clef-lost")
    finally:
        slurm.start()
    assert {job["JobState"] for job in ends.values()} == {"COMPLETED"}, state(folder)
    assert hows(folder) == ["done", "done"]
    assert {attempt.node for attempt in attempts.read(folder)} == {"node1", "node2"}
    said = "\n".join(path.read_text() for path in (tmp_path / "runs/lost/slurm").rglob("*_log.err"))
    assert f"another process ({state(folder)['pid']} on {before.node}) trains this cell; waiting for it" in said
    steps = [line["step"] for line in log(folder) if "loss" in line]
    assert steps == list(range(1, len(steps) + 1))
    assert records.read_json(folder / records.RESULT)["environment"]["earlier"] == []


def test_plain_sbatch_trains_on_two_nodes_and_queues_itself_again(slurm: Slurm, shards: Path, tmp_path: Path) -> None:
    places = {"shards": str(shards), "output_dir": str(tmp_path / "runs"), "num_workers": 0, "log_every": 1}
    settings = {"dataset": "caer_s_demo", "epochs": 1, "batch_size": 32, "runtime": places}
    config = tmp_path / "cell.yaml"
    config.write_text(yaml.safe_dump(merge(settings, TINY["caer_net"], TINY_METHOD["vanilla"])))
    signalled = faults.environment(tmp_path / "faults", Fault("kill", 3, signal="USR2"), base=slurm.plain)
    place = ["--cpus-per-task=1", "--mem=1G", "--time=60", f"--output={tmp_path}/said.txt"]
    script = ["slurm/train.sbatch", "--config", config]
    replace(slurm, plain=signalled).sbatch("--nodes=2", "--job-name=plain", *place, *script)
    [job] = slurm.ended("plain").values()
    said = (tmp_path / "said.txt").read_text()
    assert (job["JobState"], job["Restarts"], job["NumNodes"]) == ("COMPLETED", "1", "2"), said
    assert said.count("2 ranks on cpu") == 2
    assert "continues after step 3/" in said
    [result] = (tmp_path / "runs/single").glob("*/result.json")
    assert records.read_json(result)["environment"]["ranks"] == 2


def test_plain_sbatch_shards_in_parts(slurm: Slurm, shards: Path, sources: Path, tmp_path: Path) -> None:
    (card := tmp_path / "small.yaml").write_text("{extends: caer_s_demo, name: small, generator: null}")
    what = ["--dataset", card, "--source", sources / "caer_s_demo", "--out", tmp_path]
    place = ["--cpus-per-task=1", "--mem-per-cpu=1G", f"--output={tmp_path}/said-%j.txt"]
    parts = slurm.sbatch("--job-name=parts", "--array=1-2", *place, "slurm/shard.sbatch", "2", *what)
    finish = shlex.join([sys.executable, "-m", "clef.shard", "--finish", *map(str, what)])
    behind = [f"--dependency=afterok:{parts}", "--kill-on-invalid-dep=yes"]
    slurm.sbatch("--job-name=parts", *behind, *place, f"--wrap={finish}")
    ends = slurm.ended("parts")
    said = "\n".join(path.read_text() for path in tmp_path.glob("said-*.txt"))
    assert {job["JobState"] for job in ends.values()} == {"COMPLETED"}, said
    made, expected = manifests.load(tmp_path / "small"), manifests.load(shards / "caer_s_demo")
    assert {name: split.content for name, split in made.splits.items()} == {
        name: split.content for name, split in expected.splits.items()
    }
