"""Pre-trained weights: which a cell needs, and fetching them from a server that behaves, or doesn't."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torchvision

from clef import io, weights, yaml_config
from clef.config import (
    CcimConfig,
    CellConfig,
    ClefConfig,
    ContextBranchConfig,
    ContextOnlyConfig,
    DictionaryConfig,
    resolve,
)
from clef.config import grid as grids
from clef.errors import ConfigError, SetupError
from clef.weights import files
from clef.weights.cells import random_by_choice, survey
from clef.weights.files import FILES, LOCK, fetch, mirror_url

CONTENT = b"\x80\x02" + bytes(range(256)) * 10_000  # 2.56 MB: three blocks
DIGEST = hashlib.sha256(CONTENT).hexdigest()
TORCH_FILE, PLACES_FILE = "resnet18-f37072fd.pth", "resnet18_places365.pth.tar"


class Server(ThreadingHTTPServer):
    """Serves `content`, and counts who asks; `says` is the length that it promises, if any."""

    daemon_threads = True
    content, status = CONTENT, 200
    says: int | None = len(CONTENT)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []

    def handle_error(self, *_: object) -> None:
        """Those who hang up are none of the test's that runs by then."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/torch"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        if self.server.says is not None:
            self.send_header("Content-Length", str(self.server.says))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """As though PyTorch's ResNet-18 were CONTENT."""
    name = "imagenet-resnet18"
    monkeypatch.setitem(FILES, name, replace(FILES[name], sha256=DIGEST[:8]))


def get(name: str, folder: Path, server: Server) -> Path:
    return fetch(name, folder, server.url, lambda *_: None)


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


# ---- what a cell starts from ----


def emot_net(**settings: Any) -> CellConfig:
    layer = {"dataset": "caer_s", "backbone": {"name": "emot_net"}, "method": {"name": "vanilla"}}
    return resolve.resolve(layer | settings)


PLAIN = {"scene": "places365-resnet18", "body": "imagenet-resnet18"}


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (ClefConfig(), {**PLAIN, "context_branch": "places365-resnet50"}),
        (ClefConfig(context_branch=None), PLAIN),
        (ClefConfig(context_branch=ContextBranchConfig(weights="none")), {**PLAIN, "context_branch": "none"}),
        (ClefConfig(context_branch=ContextBranchConfig(weights="./my.pth")), {**PLAIN, "context_branch": "./my.pth"}),
        (
            ContextOnlyConfig(context_branch=ContextBranchConfig(network="vgg16", weights="imagenet")),
            {"context_branch": "imagenet-vgg16"},
        ),
        (
            CcimConfig(dictionary=DictionaryConfig(network="resnet152")),
            {**PLAIN, "dictionary": "places365-resnet152"},
        ),
    ],
)
def test_every_encoder_of_a_method_states_its_weights(method: Any, expected: dict[str, str]) -> None:
    config = emot_net().model_copy(update={"method": method})
    assert weights.stated(config) == expected
    assert weights.needed(config) == {encoder: name for encoder, name in expected.items() if name != "none"}


def test_the_decomposed_emot_net_takes_no_weights() -> None:
    assert weights.stated(emot_net(backbone={"name": "emot_net", "variant": "decomposed"})) == {}


def test_names_stand_for_torchvisions_own_urls_and_hashes() -> None:
    models = torchvision.models
    theirs = {
        "imagenet-resnet18": models.ResNet18_Weights.IMAGENET1K_V1,
        "imagenet-resnet50": models.ResNet50_Weights.IMAGENET1K_V2,
        "imagenet-resnet152": models.ResNet152_Weights.IMAGENET1K_V2,
        "imagenet-vgg16": models.VGG16_Weights.IMAGENET1K_V1,
        "coco-fasterrcnn": models.detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    }
    for name, published in theirs.items():
        assert FILES[name].url == published.url
        assert f"-{FILES[name].sha256}.pth" in published.url
        assert len(FILES[name].sha256 or "") == 8


def test_places365_has_no_hashes_and_no_pytorch_file_of_the_deep_networks() -> None:
    places = {name: file for name, file in FILES.items() if name.startswith("places365")}
    assert {file.sha256 for file in places.values()} == {None}
    assert {name for name, file in places.items() if file.url is None} == {"places365-resnet152", "places365-vgg16"}


# ---- fetching ----


def test_a_file_of_the_right_hash_arrives_whole(server: Server, published: None, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    path = fetch("imagenet-resnet18", tmp_path / "new", server.url, lambda *step: seen.append(step))
    assert path == weights.path_of("imagenet-resnet18", tmp_path / "new")
    assert path.read_bytes() == CONTENT
    assert server.asked == ["/torch/models/resnet18-f37072fd.pth"]
    assert kept(path.parent) == [TORCH_FILE], "its name says its hash; nothing to write down"
    assert seen[-1] == ("imagenet-resnet18", 3, 3)


def test_a_file_that_is_here_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / TORCH_FILE).write_bytes(b"mine")
    assert get("imagenet-resnet18", tmp_path, server).read_bytes() == b"mine"
    assert server.asked == []


def test_a_server_may_keep_the_length_to_itself(server: Server, published: None, tmp_path: Path) -> None:
    server.says = None
    assert get("imagenet-resnet18", tmp_path, server).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"content": CONTENT[:-1] + b"?"}, f"the file's sha256 is .*, {DIGEST[:8]} is expected"),
        ({"content": CONTENT[:1_500_000]}, "it ended after 1,500,000 of 2,560,002 bytes"),
        ({"content": b""}, "it ended after 0 of"),
        ({"content": b"", "says": 0}, "it ended after 0 of 0 bytes"),
        ({"content": b"\n<html>log in</html>", "says": None}, "a web page came"),
        ({"status": 404}, "HTTP 404 Not Found"),
        ({"status": 503}, "HTTP 503 Service Unavailable"),
    ],
)
def test_what_is_not_the_file_is_refused_and_not_kept(
    server: Server, published: None, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    vars(server).update(changes)
    with pytest.raises(SetupError, match=reason) as error:
        get("imagenet-resnet18", tmp_path, server)
    assert f"{server.url}/models/{TORCH_FILE}: can't be fetched" in str(error.value)
    assert kept(tmp_path) == []


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as closed:  # bound and not listening: the port is ours, and refuses
        closed.bind(("127.0.0.1", 0))
        mirror = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(SetupError, match=r"can't be fetched: .*refused"):
            fetch("places365-resnet18", tmp_path, mirror, lambda *_: None)
    assert kept(tmp_path) == []


def test_an_interrupted_fetch_leaves_nothing(server: Server, published: None, tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        assert len(kept(tmp_path)) == 1, "the part that has come"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("imagenet-resnet18", tmp_path, server.url, interrupt)
    assert kept(tmp_path) == []


def test_what_a_killed_fetch_left_goes_with_the_next(server: Server, published: None, tmp_path: Path) -> None:
    (tmp_path / f".{TORCH_FILE}.123.tmp").write_bytes(CONTENT[:100])
    get("imagenet-resnet18", tmp_path, server)
    assert kept(tmp_path) == [TORCH_FILE]


def test_two_fetches_bring_a_file_once(server: Server, published: None, tmp_path: Path) -> None:
    threads = [threading.Thread(target=get, args=("imagenet-resnet18", tmp_path, server)) for _ in range(3)]
    with io.lock(tmp_path / LOCK):
        for thread in threads:
            thread.start()
        assert server.asked == []
    for thread in threads:
        thread.join(20)
    assert len(server.asked) == 1
    assert (tmp_path / TORCH_FILE).read_bytes() == CONTENT


def test_the_first_places365_file_is_trusted_and_no_other_after_it(server: Server, tmp_path: Path) -> None:
    path = get("places365-resnet18", tmp_path, server)
    assert server.asked == [f"/torch/models_places365/{PLACES_FILE}"]
    assert kept(tmp_path) == [PLACES_FILE, f"{PLACES_FILE}.sha256"]
    subprocess.run(["sha256sum", "--check", "--strict", f"{PLACES_FILE}.sha256"], cwd=tmp_path, check=True, timeout=20)
    path.unlink()
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(SetupError, match=f"{DIGEST} is expected"):
        get("places365-resnet18", tmp_path, server)
    assert kept(tmp_path) == [f"{PLACES_FILE}.sha256"]


@pytest.mark.parametrize("mirror", ["mirror.example.org", "ftp://mirror.example.org", "https://"])
def test_a_mirror_is_a_base_url(mirror: str) -> None:
    with pytest.raises(ConfigError, match="--mirror"):
        mirror_url("https://download.pytorch.org/models/x.pth", mirror)


def test_a_mirror_replaces_scheme_and_host() -> None:
    url = "https://download.pytorch.org/models/x.pth"
    assert mirror_url(url, None) == url
    assert mirror_url(url, "http://m.example.org:81") == "http://m.example.org:81/models/x.pth"
    assert mirror_url(url, "https://m.example.org/a/b/") == "https://m.example.org/a/b/models/x.pth"


# ---- in a run ----


def test_a_run_names_the_command_that_fetches(tmp_path: Path) -> None:
    folder = tmp_path / "my weights"
    with pytest.raises(SetupError) as error:
        weights.path_of("places365-resnet18", folder)
    assert f"python -m clef.weights --fetch places365-resnet18 --folder '{folder}'" in str(error.value)
    with pytest.raises(SetupError) as error:
        weights.path_of("places365-vgg16", tmp_path)
    assert "http://places2.csail.mit.edu/models_places365/vgg16_places365.caffemodel" in str(error.value)
    assert "vgg16_places365.pth.tar" in str(error.value)
    assert "--fetch" not in str(error.value)


def test_a_run_refuses_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / PLACES_FILE).write_bytes(CONTENT)
    (tmp_path / TORCH_FILE).write_bytes(CONTENT)
    config = emot_net(runtime={"weights": str(tmp_path)})
    with pytest.raises(
        SetupError, match=rf"{TORCH_FILE}: damaged, .* its sha256 is {DIGEST[:8]}, its name says f37072fd"
    ):
        weights.hashes(config)
    own = {"scene": "places365-resnet18", "body": str(tmp_path / TORCH_FILE)}
    chosen = emot_net(runtime={"weights": str(tmp_path)}, backbone={"name": "emot_net", "weights": own})
    assert weights.hashes(chosen) == {"scene": DIGEST, "body": DIGEST}, "what a path names is taken as it is"


def test_a_record_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / PLACES_FILE
    path.write_bytes(CONTENT)
    files.digest_path(path).write_text("<html>")
    with pytest.raises(SetupError, match=r"\.sha256: does not begin with a sha256"):
        files.verify_digest("places365-resnet18", path)


# ---- the command ----

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The real command in an empty folder, without a terminal, with an empty home."""

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        environment |= {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[2])}
        words = [sys.executable, "-m", "clef.weights", *map(str, arguments)]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    return command


def row(text: str, name: str) -> list[str]:
    """The cells of the table's row of that name, lines of one cell joined."""
    lines = [[part.strip() for part in line.strip("│").split("│")] for line in text.splitlines() if "│" in line]
    start = next(i for i, cells in enumerate(lines) if cells[0] == name)
    end = next((i for i in range(start + 1, len(lines)) if lines[i][0]), len(lines))
    return [" ".join(filter(None, column)) for column in zip(*lines[start:end], strict=True)]


def shipped(name: str) -> list[CellConfig]:
    path = yaml_config.resource(f"configs/grids/{name}.yaml")
    return grids.resolve_cells(grids.load_grid(path), name, {})


@pytest.mark.slow
def test_the_paper_grid_by_default(run: Run) -> None:
    code, said, _ = run()
    assert code == 0
    cells = shipped("paper")
    scenes = [c for c in cells if c.backbone.name == "emot_net" and c.method.name != "context_only"]
    assert f"emot_net scene ({len(scenes)})" in row(said, "places365-resnet18")[1]
    assert "clef context_branch (" in row(said, "places365-resnet50")[1]
    assert "home/.cache/clef/weights:" in said
    assert row(said, "imagenet-resnet18")[2:] == [TORCH_FILE, "", "missing"]
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in said
    assert f"0 of {len(cells)} cells start an encoder at random by choice" in said
    assert "coco-fasterrcnn" not in said


@pytest.mark.slow
def test_the_demo_grid_starts_at_random_and_needs_nothing(run: Run) -> None:
    cells = shipped("demo")
    assert survey(cells) == []
    # All but CAER-Net alone, whose encoders have no weights to name.
    assert random_by_choice(cells) == sum(c.backbone.name != "caer_net" or c.method.name != "vanilla" for c in cells)
    code, said, _ = run("--grid", yaml_config.resource("configs/grids/demo.yaml"), "--cues")
    assert code == 0
    assert row(said, "coco-fasterrcnn")[1:2] == ["cue extractors"]
    assert "1 of 1 files are missing" in said


@pytest.mark.slow
def test_counts_follow_the_grid_and_the_settings(run: Run, tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(
        "{datasets: [emotic, caer_s], backbones: [emot_net, caer_net], methods: [vanilla, clef], seeds: [0, 1, 2],"
        " exclude: [{dataset: caer_s, method: clef, seed: 2}]}"
    )
    branch = ("method.context_branch.network=resnet18", "method.context_branch.weights=imagenet")
    code, said, _ = run("--grid", "g.yaml", "--folder", "w", "seeds=0")
    assert code == 2, "an axis is no setting"
    code, said, _ = run("--grid", "g.yaml", "--folder", "w")
    assert code == 0
    assert row(said, "places365-resnet18") == [
        "places365-resnet18", "emot_net scene (11)", PLACES_FILE, "", "missing"
    ]  # fmt: skip
    assert row(said, "places365-resnet50")[1] == "clef context_branch (10)"
    (tmp_path / "only_clef.yaml").write_text("{datasets: [emotic], backbones: [emot_net], methods: [clef], seeds: [0]}")
    _, said, _ = run("--grid", "only_clef.yaml", *branch)
    assert row(said, "imagenet-resnet18")[1] == "emot_net body (1) clef context_branch (1)"


def test_one_file_of_your_own_is_one_row_wherever_the_others_lie(tmp_path: Path) -> None:
    own = {"name": "emot_net", "weights": {"scene": "places365-resnet18", "body": "./my.pth"}}
    cells = [emot_net(backbone=own, runtime={"weights": str(tmp_path / folder)}) for folder in "aab"]
    assert [(file.path, dict(file.users)) for file in survey(cells)] == [
        (tmp_path / "a" / PLACES_FILE, {"emot_net scene": 2}),
        (Path("my.pth"), {"emot_net body": 3}),
        (tmp_path / "b" / PLACES_FILE, {"emot_net scene": 1}),
    ]


@pytest.mark.slow
def test_fetched_verified_and_found_out(run: Run, server: Server, tmp_path: Path) -> None:
    code, said, noted = run("--fetch", "places365-resnet18", "--folder", "w", "--mirror", server.url)
    assert code == 0
    assert row(said, "places365-resnet18")[3:] == ["2.6 MB", "here"]
    assert "places365-resnet18: 3/3 MB" in noted
    assert f"from now on the file must be the one fetched now ({DIGEST[:8]}...)" in noted
    assert row(run("places365-resnet18", "--folder", "w", "--verify")[1], "places365-resnet18")[4] == "whole"
    content = bytearray(CONTENT)
    content[1_000_000] ^= 1
    (tmp_path / "w" / PLACES_FILE).write_bytes(content)
    code, said, noted = run("places365-resnet18", "--folder", "w", "--verify")
    assert code == SetupError.exit_code
    assert row(said, "places365-resnet18")[4] == "wrong hash"
    assert f"w/{PLACES_FILE}: damaged, or another file" in noted
    assert server.asked == [f"/torch/models_places365/{PLACES_FILE}"]


@pytest.mark.slow
def test_the_command_refuses_a_wrong_hash(run: Run, server: Server, tmp_path: Path) -> None:
    code, _, noted = run("--fetch", "imagenet-resnet18", "--folder", "w", "--mirror", server.url)
    assert code == SetupError.exit_code
    assert f"the file's sha256 is {DIGEST[:8]}, f37072fd is expected" in noted
    assert kept(tmp_path / "w") == []


@pytest.mark.slow
def test_what_has_no_official_file_is_said_after_the_rest_was_fetched(run: Run, server: Server, tmp_path: Path) -> None:
    names = ("places365-resnet152", "places365-resnet18")
    code, said, noted = run("--fetch", *names, "--folder", "w", "--mirror", server.url)
    assert code == SetupError.exit_code
    assert "Convert the official Caffe model" in noted
    assert (tmp_path / "w" / PLACES_FILE).read_bytes() == CONTENT
    assert row(said, "places365-resnet152")[4] == "missing"


@pytest.mark.slow
def test_a_file_that_no_hash_vouches_for_is_said_to_be_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / PLACES_FILE).write_bytes(CONTENT)
    code, said, _ = run("places365-resnet18", "--folder", ".", "--verify")
    assert code == 0
    assert row(said, "places365-resnet18")[4] == "here"
    assert f"{PLACES_FILE}: no hash to check it against" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["imagenet-resnet19"], "weights 'imagenet-resnet19': unknown (did you mean imagenet-resnet18?)"),
        (["./my.pth"], "./my.pth: not a name but a path"),
        (["imagenet-resnet18", "epochs=1"], "epochs=1: settings are for the cells of a grid"),
        (["epohcs=1"], "epohcs: unknown (did you mean epochs?)"),
        (["--mirror", "http://m.example.org"], "--mirror: needs --fetch"),
        (["--fetch", "--mirror", "m.example.org"], "--mirror m.example.org: a base URL"),
        (["--grid", "nowhere.yaml"], "nowhere.yaml: no such file"),
    ],
)
def test_a_slip_on_the_command_line_is_explained(run: Run, arguments: list[str], expected: str) -> None:
    code, _, noted = run(*arguments)
    assert code == ConfigError.exit_code
    assert expected in noted


@pytest.mark.slow
def test_a_folder_that_is_none(run: Run, server: Server, tmp_path: Path) -> None:
    (tmp_path / "w").write_text("a file")
    code, _, noted = run("--fetch", "places365-resnet18", "--folder", "w", "--mirror", server.url)
    assert code == SetupError.exit_code
    assert noted.startswith("error: ")
    assert "w" in noted


@pytest.mark.slow
def test_the_command_imports_no_torch() -> None:
    code = "import clef.weights.__main__, sys; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=240).returncode == 0
