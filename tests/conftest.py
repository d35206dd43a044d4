"""What many tests share: two small demo sets, their shards, tiny cells on them, and the marks of slow tests."""

import json
import os

# Before torch is imported: tests run side by side, and tiny tensors gain nothing from threads.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
for _name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):  # what commands print is compared
    os.environ.pop(_name, None)

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from clef import io, networks, process
from clef.config import CellConfig, resolve
from clef.config.backbones import BACKBONES
from clef.config.methods import METHODS
from clef.config.recipes import recipe_settings
from clef.data import manifest as manifests
from clef.datasets import cards
from clef.demo import generate
from clef.errors import run_command
from clef.sharding import build
from clef.yaml_config import merge, nest

settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

Run = Callable[..., tuple[int, str, str]]
"""A command, called with its arguments: exit code, and what it printed to stdout and to stderr, each as one line."""
Cells = Callable[..., Path]
"""Trains the tiny cell of a dataset, backbone and method at the first call, and returns its folder."""
PEOPLE = {"emotic_demo": 150, "caer_s_demo": 210}


TINY_STREAM = {"network": "resnet18", "width": 0.0625, "weights": "none", "trainable": True}


def tiny_backbone(name: str) -> dict[str, Any]:
    """Settings that make a backbone's recipe tiny: thin, on small images, from random weights."""
    recipe = recipe_settings("backbones", name)
    inputs: dict[str, Any] = {}
    encoders = recipe["backbone"].get("encoders", {})
    read = {key: config for key, config in recipe["inputs"].items() if not encoders or key in encoders}
    for key, config in read.items():
        if "crop" in config:
            inputs[key] = {"size": [28, 36], "crop": [24, 24]}
        elif "size" in config:
            inputs[key] = {"size": [24, 24]}
    backbone: dict[str, Any] = {"name": name, "width": 0.0625}
    if encoders:
        backbone["encoders"] = dict.fromkeys(encoders, TINY_STREAM)
    if weights := recipe["backbone"].get("weights"):
        backbone["weights"] = dict.fromkeys(weights, "none")
    return {"backbone": backbone, "inputs": inputs}


TINY = {name: tiny_backbone(name) for name in BACKBONES}
TINY_BRANCH = {"network": "resnet18", "width": 0.0625, "weights": "none"}
TINY_DICTIONARY = TINY_BRANCH | {"size": 8, "components": 6, "input": {"size": [24, 24]}}


def tiny_method(name: str) -> dict[str, Any]:
    """Settings that make a method tiny: its context branch, or its dictionary, is thin, on small images."""
    method: dict[str, Any] = {"name": name}
    if "dictionary" in METHODS[name].config.model_fields:
        method["dictionary"] = TINY_DICTIONARY
    if name not in WITH_BRANCH:
        return {"method": method}
    return {"method": method | {"context_branch": TINY_BRANCH}, "inputs": {"context": {"size": [24, 24]}}}


WITH_BRANCH = [name for name, entry in METHODS.items() if "context_branch" in entry.config.model_fields]
"""The methods that have a context branch."""
TINY_METHOD = {name: tiny_method(name) for name in METHODS}
TINY_AGENTS = nest(
    {
        "backbone": {"name": "emoticon", "third": "agents", "width": 0.0625, "weights": {"context": "none"}},
        "inputs.context.size": [24, 24],
    }
)
"""EmotiCon with the graph of agents in place of the depth map."""


def pytest_xdist_auto_num_workers() -> int:
    """As many test processes as cores may be used, not as the machine has."""
    return process.cores()


SLOW_FIXTURES = {"browser", "cells", "mediapipe"}
"""Fixtures that start another process or train: a test that uses one is `slow`."""
SLOW_FOLDERS = {"soak"}


@pytest.fixture(autouse=True, scope="session")
def _libraries_are_asked_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Look networks up in this process, which may have imported their library, and keep nothing in the home folder."""

    def ask(names: list[str]) -> dict[str, Any]:
        from clef.models import named

        return networks.parse(json.dumps(named.answer(names)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "_ask", ask)
        patch.setattr(networks, "FOLDER", str(tmp_path_factory.mktemp("networks")))
        yield


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests as `slow` or `slurm` by their folder and by the fixtures that they use.

    What neither tells is marked in the test files.
    """
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder == "slurm":
            item.add_marker("slurm")
        if folder in SLOW_FOLDERS or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


_quick_test: str | None = None
"""The test that runs, if it is neither slow nor for Slurm."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    """Let a test that starts another Python process fail unless it is marked `slow`."""
    global _quick_test
    marked = item.get_closest_marker("slow") or item.get_closest_marker("slurm")
    _quick_test = None if marked else item.nodeid
    try:
        return (yield)
    finally:
        _quick_test = None


def _refuse_processes(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise in a quick test that forks or starts Python. Small programs, such as git, are left alone."""
    if _quick_test is None or event not in ("os.fork", "subprocess.Popen"):
        return
    if event == "os.fork" or Path(os.fspath(arguments[0])).name.startswith("python"):
        raise RuntimeError(f"{_quick_test} starts another process: mark it with pytest.mark.slow (tests/README.md)")


sys.addaudithook(_refuse_processes)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all test processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def sources(shared: Path) -> Path:
    """Both demo sets, small, in their official layouts: emotic_demo/ and caer_s_demo/."""
    for name, people in PEOPLE.items():
        with io.lock(shared / "sources.lock"):
            generate(name, shared / "sources" / name, people=people, workers=1)  # type: ignore[arg-type]
    return shared / "sources"


@pytest.fixture(scope="session")
def shards(shared: Path, sources: Path) -> Path:
    """The shards of both small demo sets."""
    for name in PEOPLE:
        build.build(cards.load(name), sources / name, shared / "shards" / name)
        assert manifests.path_of(shared / "shards" / name).exists()
    return shared / "shards"


@pytest.fixture
def tiny(shards: Path, tmp_path: Path) -> Callable[..., CellConfig]:
    """A function that makes a tiny config: `tiny("caer_s_demo", "emot_net", "clef", **{"optimizer.lr": 0.1})`."""

    def make(
        dataset: str = "caer_s_demo", backbone: str = "emot_net", method: str = "clef", **settings: Any
    ) -> CellConfig:
        base = {
            "dataset": dataset,
            "epochs": 1,
            "batch_size": 16,
            "runtime": {
                "shards": str(shards),
                "output_dir": str(tmp_path / "runs"),
                "features": str(tmp_path / "cache"),
                "num_workers": 0,
                "log_every": 4,
                "checkpoints": True,
                "predictions": "full",
                "keep_checkpoints": True,
            },
        }
        return resolve.resolve(merge(base, TINY[backbone], TINY_METHOD[method], nest(settings)))

    return make


@pytest.fixture(scope="session")
def cells(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """`cells("caer_s_demo", "emot_net", "clef")`: the folder of that cell, trained once for each worker process."""
    from tests.engine.factories import train_cell  # imports torch

    home = tmp_path_factory.mktemp("trained")
    backbones = TINY | {"agents": TINY_AGENTS}
    folders: dict[tuple[str, ...], Path] = {}

    def trained(*names: str) -> Path:
        if names not in folders:
            dataset, backbone, method = names
            places = {
                "shards": str(shards),
                "output_dir": str(home / "runs"),
                "features": str(home / "cache"),
                "num_workers": 0,
                "checkpoints": True,
                "predictions": "full",
            }
            base = {"dataset": dataset, "epochs": 2, "batch_size": 16, "runtime": places, "optimizer": {"lr": 0.05}}
            folders[names] = train_cell(resolve.resolve(merge(base, backbones[backbone], TINY_METHOD[method])))
        return folders[names]

    return trained


@pytest.fixture
def run_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """A function that makes a `Run` of a command's `main`, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def of(main: Callable[[], int]) -> Run:
        def call(*arguments: object) -> tuple[int, str, str]:
            capsys.readouterr()
            monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
            with pytest.raises(SystemExit) as exit_info:
                run_command(main)
            printed = capsys.readouterr()
            assert "Traceback" not in printed.err
            return int(exit_info.value.code or 0), " ".join(printed.out.split()), " ".join(printed.err.split())

        return call

    return of


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], subprocess.CompletedProcess[str]]:
    """A function that opens a page in headless Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("NOT TESTED IN A BROWSER: chromium is not installed")
    profile = tmp_path_factory.mktemp("chromium")

    def browse(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
        quiet = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        quiet += ["--disable-dev-shm-usage"]  # containers have little of it
        log = ["--enable-logging=stderr", f"--user-data-dir={profile}", "--window-size=1200,2400"]
        return subprocess.run(
            [program, "--headless", *quiet, *log, *options, path.as_uri()],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    return browse
