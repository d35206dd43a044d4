"""The page of a set of shards: its numbers, that it needs nothing else, and that a browser shows it."""

import base64
import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from clef import shard
from clef.data import manifest as manifests
from clef.data.manifest import INDEX_DTYPE, KINDS, Manifest, Split
from clef.data.shards import SplitShards
from clef.datasets import cards
from clef.errors import ConfigError, ShardError
from clef.sharding.stats import numbers, page

VOID = {"meta", "link", "br", "img"}


def person(**facts: Any) -> dict[str, Any]:
    plain = {
        "id": "a.jpg#0", "labels": ["Happiness"], "vad": [5, 5, 5], "size": [100, 50], "box": [0, 0, 10, 10],
        "face_box": None, "source_size": [200, 100], "source_box": [0, 0, 20, 20], "image_sha256": "aa", "flags": [],
    }  # fmt: skip
    return plain | facts


class Held:
    """A split whose people are held in memory."""

    name, root, remedy = "train", Path("shards/held"), "make it again"

    def __init__(self, *people: dict[str, Any] | bytes, **members: list[int]) -> None:
        self.people = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in people]
        labels = Counter(label for one in people if isinstance(one, dict) for label in one["labels"])
        self.split = split(len(people), labels)
        self.rows = np.zeros(len(people), INDEX_DTYPE)
        self.rows["size"] = -1
        for kind, sizes in members.items():
            self.rows["size"][:, KINDS.index(f"{kind}.jpg")] = sizes

    def __len__(self) -> int:
        return len(self.people)

    def read(self, index: int, kind: str) -> bytes | None:
        return self.people[index] if kind == "meta.json" else None

    def key(self, index: int) -> str:
        return f"{index:08d}"


def split(samples: int, classes: dict[str, int]) -> Split:
    return Split(
        positions=samples,
        listed=samples + 3, samples=samples, members=dict.fromkeys(KINDS, 0), content=dict.fromkeys(KINDS, ""),
        classes=classes, left_out={"image_missing": 2, "the gap": 1}, notes={}, unusable={}, box_kind="person",
        index="x", index_sha256="", shards=[],
    )  # fmt: skip


def counted(*people: dict[str, Any] | bytes, **members: list[int]) -> numbers.SplitNumbers:
    return numbers.count_split(Held(*people, **members))  # type: ignore[arg-type]


def test_numbers_by_hand() -> None:
    counts = counted(
        person(labels=["Peace", "Anger"], vad=[1, None, 10], face_box=[10, 10, 20, 15], flags=["box_tiny"]),
        person(source_box=[-5, 50, 45, 150], flags=["box_outside", "box_tiny"], vad=[1, 6.5, 10]),
        person(source_box=None, image_sha256="bb", labels=[], vad=[4.4, 7, 12]),
        person(image_sha256="cc", labels=["Anger", "Pain", "Peace"], vad=None),
        context=[100, 300, -1, 200],
    )
    assert counts.labels == {2: 1, 1: 1, 0: 1, 3: 1}
    assert counts.pairs == {("Anger", "Peace"): 2, ("Anger", "Pain"): 1, ("Pain", "Peace"): 1}
    assert counts.people == {2: 1, 1: 2}
    assert counts.vad == {"valence": {1: 2, 4: 1}, "arousal": {7: 2}, "dominance": {10: 2, 12: 1}}
    # clamped: 45 x 50; no box: the whole frame of 200 x 100
    assert counts.subjects.width == [20, 45, 200, 20]
    assert counts.subjects.height == [20, 50, 100, 20]
    assert counts.subjects.share == [0.02, 45 * 50 / 20000, 1.0, 0.02]
    assert counts.subjects.sides["short side"] == [20, 45, 100, 20]
    # 10 x 5 stored pixels of a frame that was twice as large
    assert (counts.faces.width, counts.faces.height, counts.faces.share) == ([20], [10], [0.01])
    assert counts.flagged == {"box_tiny": [0, 1], "box_outside": [1]}
    assert counts.sizes["context.jpg"].tolist() == [100, 300, 200]
    assert len(counts.sizes["face.jpg"]) == 0
    assert counts.share("Anger") == 0.5
    assert counts.share("Fear") == 0


def test_quantiles_and_histograms_by_hand() -> None:
    assert numbers.quantiles(range(101)) == [5, 25, 50, 75, 95]
    assert numbers.quantiles([]) == []
    assert numbers.histogram([0, 9.9, 10, 19, 20, 500, -3], [0, 10, 20]) == [3, 4]


@pytest.mark.parametrize("damage", [b"{", b"[]", b"{}", json.dumps(person(source_size=[0, 0])).encode()])
def test_a_damaged_person_is_named(damage: bytes) -> None:
    with pytest.raises(ShardError, match=r"train: sample 00000001: its meta\.json is damaged.*make it again"):
        counted(person(), damage)


def test_numbers_are_those_of_stock_webdataset(shards: Path) -> None:
    root = shards / "emotic_demo"
    manifest = manifests.load(root)
    counts = numbers.count_split(SplitShards(root, "train", manifest))
    tars = [str(root / one.name) for one in manifest.splits["train"].shards]
    people = list(webdataset.WebDataset(tars, shardshuffle=False))
    facts = [json.loads(one["meta.json"]) for one in people]
    assert counts.labels == Counter(len(one["labels"]) for one in facts)
    assert {flag: len(places) for flag, places in counts.flagged.items()} == Counter(
        f for o in facts for f in o["flags"]
    )
    assert counts.people == Counter(Counter(one["image_sha256"] for one in facts).values())
    for kind in KINDS:
        assert counts.sizes[kind].tolist() == [len(one[kind]) for one in people if kind in one]
    assert sum(counts.vad["valence"].values()) == sum(one["vad"][0] is not None for one in facts)


# ---- the people shown ----


def test_people_are_drawn_by_the_seed_alone(shards: Path) -> None:
    opened = SplitShards(shards / "caer_s_demo", "train")
    counts = numbers.count_split(opened)
    sheet = page.make_sheet(opened, counts, 5, seed=0)
    assert sheet == page.make_sheet(opened, counts, 5, seed=0)
    assert len({one.id for one in sheet.random}) == 5
    assert [one.id for one in sheet.random] != [one.id for one in page.make_sheet(opened, counts, 5, seed=1).random]
    everyone = page.make_sheet(SplitShards(shards / "caer_s_demo", "val"), counted(*[person()] * 3), 10_000, 0)
    assert len(everyone.random) == manifests.load(shards / "caer_s_demo").splits["val"].samples


def test_each_flag_has_people_who_carry_it_and_a_frame_with_its_boxes(shards: Path) -> None:
    opened = SplitShards(shards / "emotic_demo", "train")
    counts = numbers.count_split(opened)
    sheet = page.make_sheet(opened, counts, 24, 0)
    assert set(sheet.flagged) == set(page.describe_counts(dict.fromkeys(counts.flagged, 1)))
    for flag, people in sheet.flagged.items():
        assert 1 <= len(people) <= page.FLAGGED
        assert all(flag in one.flags and one.parts.startswith("frame, context, body") for one in people)


def test_a_strip_shows_context_body_and_face_as_they_are_stored(shards: Path) -> None:
    opened = SplitShards(shards / "caer_s_demo", "test")
    shown = page.show_person(opened, 0)
    strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.image.partition("base64,")[2]))), float)
    assert shown.parts == "context, body, face"
    assert strip.shape[0] == page.SHEET_HEIGHT
    facts = json.loads(opened.read(0, "meta.json") or b"")
    scale = page.SHEET_HEIGHT / facts["size"][1]
    x1, y1, x2, y2 = (round(value * scale) for value in facts["box"])
    assert strip[y1 + 4 : y2 - 4, x1 + 4 : x2 - 4].max() < 12, "the subject is black"
    face = Image.open(io.BytesIO(opened.read(0, "face.jpg") or b"")).convert("RGB")
    width = round(face.width * page.SHEET_HEIGHT / face.height)
    assert abs(strip[:, -width:] - np.asarray(face.resize((width, page.SHEET_HEIGHT)))).mean() < 6


# ---- the page ----


class Checked(HTMLParser):
    """Tags that are closed in order; what the page loads, and what it says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.loaded: list[str] = []
        self.without_alt = 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        given = dict(attrs)
        self.loaded += [value or "" for key, value in attrs if key in ("src", "href")]
        self.without_alt += tag == "img" and not given.get("alt")
        self.without_alt += tag == "svg" and not (given.get("aria-label") or given.get("aria-hidden"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="session")
def pages(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of each small demo set, with few people."""
    return {
        name: command(name, shards, tmp_path_factory.mktemp("pages") / "page.html", "--stats-samples", "3")
        for name in ("emotic_demo", "caer_s_demo")
    }


def command(name: str, shards: Path, path: Path, *options: str) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "clef.shard", "--dataset", name, "--out", shards, "--stats", path, *options],
        capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"written to {path}\n" in done.stdout
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["emotic_demo", "caer_s_demo"])
def test_the_page_is_whole_and_loads_nothing(pages: dict[str, Path], name: str) -> None:
    text = pages[name].read_text(encoding="utf-8")
    checked = Checked(text)
    assert checked.without_alt == 0
    assert all(value.startswith(("data:", "#")) for value in checked.loaded)
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert checked.tags["img"] >= 4 * 3
    assert ("keep the file to yourself" in text, checked.tags["script"]) == (True, 0)


@pytest.mark.slow
def test_the_same_shards_and_seed_give_the_same_bytes(pages: dict[str, Path], shards: Path, tmp_path: Path) -> None:
    again = command("caer_s_demo", shards, tmp_path / "again.html", "--stats-samples", "3")
    assert again.read_bytes() == pages["caer_s_demo"].read_bytes()
    other = command("caer_s_demo", shards, tmp_path / "b.html", "--stats-samples", "3", "--stats-seed", "1")
    assert other.read_bytes() != again.read_bytes()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["clef.shard", *arguments])
    return shard.main()


def test_the_page_lies_beside_the_shards_and_without_images_shows_nobody(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "caer_s_demo").symlink_to(shards / "caer_s_demo")
    assert run(monkeypatch, "--dataset", "caer_s_demo", "--out", str(tmp_path), "--stats", "--no-images") == 0
    text = (tmp_path / "caer_s_demo.html").read_text()
    assert Checked(text).tags["img"] == 0
    assert "keep the file" not in text
    assert "train/Happy" not in text


def test_without_shards_the_way_to_make_them_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ShardError, match="no shards here"):
        run(monkeypatch, "--dataset", "caer_s_demo", "--out", str(tmp_path), "--stats")
    assert list(tmp_path.iterdir()) == []


def test_fewer_than_no_people_are_refused(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--stats-samples -1: at least 0 is expected"):
        run(monkeypatch, "--dataset", "caer_s_demo", "--out", str(shards), "--stats", "--stats-samples", "-1")


def manifest_of(splits: dict[str, Split], name: str, **changes: Any) -> Manifest:
    card = cards.load(name)
    facts = {
        "format": manifests.FORMAT, "dataset": name, "task": card.task, "classes": list(card.classes), "vad": card.vad,
        "source": "f" * 64, "protocol": "leak_free", "policies": {}, "samples_per_shard": 1000, "tool": "clef",
        "splits": splits,
    }  # fmt: skip
    return Manifest.model_validate(facts | changes)


def test_empty_classes_no_faces_no_vad_and_names_that_need_escaping() -> None:
    counts = [counted(person(labels=["Anger"], vad=None, flags=["<b>&"])), counted(person(labels=[], vad=None))]
    for one, name in zip(counts, ("train", "a<b"), strict=True):
        one.name = name
    manifest = manifest_of({one.name: one.split for one in counts}, "caer_s")
    text = page.render(cards.load("caer_s"), manifest, counts, {})
    Checked(text)
    assert "&lt;b&gt;&amp;" in text
    assert "<b>&" not in text
    assert "a<b" not in text
    assert "Valence" not in text
    assert "none</td>" in text, "no face, no quantiles"
    nobody = counted(person(labels=[]))
    Checked(page.render(cards.load("emotic"), manifest_of({"train": nobody.split}, "emotic"), [nobody], {}))


def test_histograms_lose_the_bins_that_are_empty_in_all_splits_at_either_end() -> None:
    labels = [str(i) for i in range(20)]
    first, second = [0] * 20, [0] * 20
    first[4], second[14] = 3, 5
    charts = page._trimmed_histograms(["a", "b"], labels, [first, second])
    assert [chart.labels for chart in charts] == [labels[3:16]] * 2  # one empty bin stays at each end
    assert [chart.summary for chart in charts] == ["4: 3", "14: 5"]
    (narrow,) = page._trimmed_histograms(["a"], labels, [[0] * 19 + [1]])
    assert narrow.labels == labels[-page.MIN_BINS :]
    (empty,) = page._trimmed_histograms(["a"], labels, [[0] * 20])
    assert (empty.labels, empty.summary) == (labels, "none")


def test_drift_is_the_split_furthest_from_the_first(shards: Path) -> None:
    splits = [
        SimpleNamespace(name=name, split=split(100, {"Anger": n}), share=lambda label, n=n: n / 100)
        for name, n in (("train", 10), ("val", 14), ("test", 4))
    ]
    (row,) = page._class_rows(SimpleNamespace(classes=["Anger"]), splits)  # type: ignore[arg-type]
    assert row.drift == "-6.0 test"
    assert row.cells == [("10", "10.0%", "71.4"), ("14", "14.0%", "100.0"), ("4", "4.0%", "28.6")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["emotic_demo", "caer_s_demo"])
def test_a_browser_shows_it_without_a_complaint(
    pages: dict[str, Path], browser: Callable[..., subprocess.CompletedProcess[str]], name: str, tmp_path: Path
) -> None:
    done = browser(pages[name], "--dump-dom", f"--screenshot={tmp_path / 'page.png'}")
    assert "CONSOLE" not in done.stderr
    assert "<h1>" in done.stdout
    checked = Counter(tag for tag in ("<table", "<svg", "<img", "<figure") for _ in range(done.stdout.count(tag)))
    assert checked["<table"] >= 8
    assert checked["<svg"] > 20
    assert checked["<img"] == checked["<figure"] >= 12
    colours = set(map(tuple, np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).reshape(-1, 3)[::7].tolist()))
    assert (0, 114, 178) in colours, "bars in blue"
    assert len(colours) > 50
