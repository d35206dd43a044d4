"""What many tests share: two small demo sets, their shards, and tiny cells on them."""

import os

# Before torch is imported: tests run side by side, and tiny tensors gain nothing from threads.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
for _name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):  # what commands print is compared
    os.environ.pop(_name, None)

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from clef import io
from clef.config import CellConfig, resolve
from clef.config.base import merge, nest
from clef.data import manifest as manifests
from clef.datasets import cards
from clef.demo import generate
from clef.errors import run_command
from clef.sharding import build

settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

Run = Callable[..., tuple[int, str, str]]
"""A command, called with its arguments: exit code, what it printed to stdout and to stderr, each on one line."""
Cells = Callable[..., Path]
"""Trains the tiny cell of a dataset, backbone and method, the first time that it is asked for; its folder."""
PEOPLE = {"emotic_demo": 150, "caer_s_demo": 210}
TINY: dict[str, dict[str, Any]] = {
    "emot_net": nest(
        {
            "backbone": {"name": "emot_net", "width": 0.0625, "weights": {"scene": "none", "body": "none"}},
            "inputs.scene.size": [24, 24],
            "inputs.body.size": [24, 24],
        }
    ),
    "caer_net": nest(
        {
            "backbone": {"name": "caer_net", "width": 0.0625},
            "inputs.face.size": [24, 24],
            "inputs.scene_without_face": {"size": [28, 36], "crop": [24, 24]},
        }
    ),
    "gnn_cnn": nest(
        {
            "backbone": {"name": "gnn_cnn", "width": 0.0625, "weights": {"scene": "none", "body": "none"}},
            "inputs.scene.size": [24, 24],
            "inputs.body.size": [24, 24],
        }
    ),
    "cd_net": nest(
        {
            "backbone": {
                "name": "cd_net",
                "width": 0.0625,
                "weights": {"face": "none", "body": "none", "context": "none"},
            },
            "inputs.face.size": [24, 24],
            "inputs.body.size": [24, 24],
            "inputs.context.size": [24, 24],
        }
    ),
    "emoticon": nest(
        {
            "backbone": {"name": "emoticon", "width": 0.0625, "weights": {"context": "none"}},
            "inputs.context.size": [24, 24],
            "inputs.depth.size": [24, 24],
        }
    ),
}
TINY_BRANCH = {"network": "resnet18", "width": 0.0625, "weights": "none"}
TINY_METHOD: dict[str, dict[str, Any]] = {
    "vanilla": {"method": {"name": "vanilla"}},
    "clef": nest(
        {
            "method": {"name": "clef", "context_branch": TINY_BRANCH},
            "inputs.context.size": [24, 24],
        }
    ),
    "context_only": nest(
        {
            "method": {"name": "context_only", "context_branch": TINY_BRANCH},
            "inputs.context.size": [24, 24],
        }
    ),
    "ccim": nest(
        {
            "method": {
                "name": "ccim",
                "dictionary": TINY_BRANCH | {"size": 8, "components": 6, "input": {"size": [24, 24]}},
            },
        }
    ),
}
TINY_AGENTS = nest(
    {
        "backbone": {"name": "emoticon", "third": "agents", "width": 0.0625, "weights": {"context": "none"}},
        "inputs.context.size": [24, 24],
    }
)
"""EmotiCon with the graph of agents in place of the depth map."""


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
    """Makes tiny cells: `tiny("caer_s_demo", "emot_net", "clef", epochs=2, **{"optimizer.lr": 0.1})`."""

    def make(
        dataset: str = "caer_s_demo", backbone: str = "emot_net", method: str = "clef", **settings: Any
    ) -> CellConfig:
        base = {
            "dataset": dataset,
            "epochs": 1,
            "batch_size": 16,
            "runtime": {
                "shards": str(shards),
                "out": str(tmp_path / "runs"),
                "features": str(tmp_path / "cache"),
                "workers": 0,
                "log_every": 4,
                "keep_checkpoints": True,
            },
        }
        return resolve.resolve(merge(base, TINY[backbone], TINY_METHOD[method], nest(settings)))

    return make


@pytest.fixture(scope="session")
def cells(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """`cells("caer_s_demo", "emot_net", "clef")`: the folder of that cell, below runs/single; trained once for all."""
    from tests.engine.trained_cell import train  # imports torch

    home = tmp_path_factory.mktemp("trained")
    backbones = TINY | {"agents": TINY_AGENTS}
    made: dict[tuple[str, ...], Path] = {}

    def trained(*names: str) -> Path:
        if names not in made:
            dataset, backbone, method = names
            places = {"shards": str(shards), "out": str(home / "runs"), "features": str(home / "cache"), "workers": 0}
            base = {"dataset": dataset, "epochs": 2, "batch_size": 16, "runtime": places, "optimizer": {"lr": 0.05}}
            made[names] = train(resolve.resolve(merge(base, backbones[backbone], TINY_METHOD[method])))
        return made[names]

    return trained


@pytest.fixture
def run_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Makes a `Run` of a command's main, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def of(main: Callable[[], int]) -> Run:
        def call(*arguments: object) -> tuple[int, str, str]:
            capsys.readouterr()
            monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
            with pytest.raises(SystemExit) as left:
                run_command(main)
            said = capsys.readouterr()
            assert "Traceback" not in said.err
            return int(left.value.code or 0), " ".join(said.out.split()), " ".join(said.err.split())

        return call

    return of


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], subprocess.CompletedProcess[str]]:
    """Opens a page in headless Chromium."""
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
