"""Mutated inputs: whatever a file has become, a command reads it, counts what it leaves out, or refuses it in words.

Each case runs in a process of its own, so that a crash, a hang or a flood of memory is a finding, not the end.
"""

import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clef import yaml_config
from clef.config import InputConfig, resolve
from clef.config import grid as grids
from clef.cues import files as cue_files
from clef.data import manifest as manifests
from clef.data.dataset import CellDataset
from clef.data.shards import SplitShards
from clef.datasets import cards
from clef.demo import emotic_mat
from clef.errors import ShardError
from clef.sharding import build
from clef.sharding.verify import verify
from tests.soak import cases
from tests.soak.mutations import mutated
from tests.soak.sandbox import Outcome, run

CLASSES = ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
SIZE = (48, 36)
NO_GAP = {"val_gap": 0, "val_fraction": 0.3}
TABLE_SPLITS = ("train", "train", "val", "test")


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(SIZE).save(path)


@pytest.fixture(scope="module")
def emotic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images, of two people each, in the official layout, with faces."""
    root = tmp_path_factory.mktemp("emotic")
    rng = np.random.default_rng(0)
    entries: dict[str, list[emotic_mat.ImageEntry]] = {"train": [], "val": [], "test": []}
    for number in range(12):
        split = ("train", "train", "val", "test")[number % 4]
        name = f"{number:03d}.jpg"
        picture(root / "emotic/mscoco/images" / name, number)
        boxes = ((1.0, 1.0, 24.0, 36.0), (20.0, 4.0, 48.0, 36.0))
        names = (("Peace",), ("Fear", "Doubt/Confusion"))
        people = [
            emotic_mat.Annotation(box, found, (5.0, 6.0, 7.0), "Male", "Adult")
            for box, found in zip(boxes, names, strict=True)
        ]
        entries[split].append(emotic_mat.ImageEntry(name, "mscoco", SIZE, tuple(people)))
    emotic_mat.write_mat(root / "Annotations/Annotations.mat", entries, rng)
    rows = [f"mscoco/images/{number:03d}.jpg#0,2,2,12,12" for number in range(12)]
    (root / "faces.csv").write_text("\n".join(["id,x1,y1,x2,y2", *rows]) + "\n")
    for split, found in entries.items():
        lines = ["Index,Folder,Filename,Image Size,BBox,Categorical_Labels,Continuous_Labels,Gender,Age"]
        lines += [
            f'0,mscoco/images,{entry.filename},"[48, 36]","{list(person.box)}","{list(person.categories)}",'
            f'"[5.0, 6.0, 7.0]",Male,Adult'
            for entry in found
            for person in entry.people
        ]
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def caer_s(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six train frames and two test frames a class, with their boxes in each of the forms, and a cue."""
    root = tmp_path_factory.mktemp("caer_s")
    poses = [cue_files.header_line("pose", "made", "1").rstrip("\n")]
    for split, count in (("train", 6), ("test", 2)):
        rows, boxes = [], {}
        for label, name in enumerate(CLASSES):
            for number in range(count):
                key, box = f"{name}/{number:04d}.png", [4, 3, 30, 20 + number]
                picture(root / split / key, 100 * label + number)
                rows.append(f"{key},{label},{','.join(map(str, box))}")
                boxes[key] = box
                crop = root / "crop" / split / f"{key[:-4]}.txt"
                crop.parent.mkdir(parents=True, exist_ok=True)
                crop.write_text(",".join(map(str, box)))
                poses.append(json.dumps({"key": f"{split}/{key}", "value": [[5.5, 6.5, 0.9]] * 17}))
        (root / f"{split}.txt").write_text("\n".join(rows) + "\n")
        (root / f"{split}.json").write_text(json.dumps(boxes))
    (root / "cues").mkdir()
    (root / "cues/pose.jsonl").write_text("\n".join(poses) + "\n")
    return root


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of one's own, in a CSV."""
    root = tmp_path_factory.mktemp("table")
    rows = ["path,x1,y1,x2,y2,labels,split"]
    for number in range(12):
        picture(root / f"{number}.png", number)
        rows.append(
            f"{number}.png,1,2,30,30.5,{('calm', 'tense', 'calm;tense')[number % 3]},{TABLE_SPLITS[number % 4]}"
        )
    (root / "people.csv").write_text("\n".join(rows) + "\n")
    return root


def small(name: str, options: dict[str, Any] | None = None) -> cards.Card:
    """A card in shards of five; no one is left out for want of a face."""
    card = cards.load(name, policies={"face_missing": "full"})
    storage = card.storage.model_copy(update={"samples_per_shard": 5})
    return card.model_copy(update={"storage": storage, "reader_options": card.reader_options | (options or {})})


def sharded(card: cards.Card, source: Path, out: Path) -> Callable[[], int]:
    """Shards the source, checks that everyone is stored or counted, and says how many are listed."""

    def act() -> int:
        manifest = build.build(card, source, out)
        assert verify(out) == []
        for split in manifest.splits.values():
            assert split.listed == split.samples + sum(split.left_out.values())
            assert split.samples == sum(shard.samples for shard in split.shards)
        return sum(split.listed for split in manifest.splits.values())

    return act


@dataclasses.dataclass(frozen=True)
class Source:
    """A set, and the file of it that is damaged."""

    dataset: str
    file: str
    text: bool
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    listed: int | None = None
    """How many people are listed whatever becomes of a file that doesn't say who there is."""


SOURCES = {
    "annotations": Source("emotic", "Annotations/Annotations.mat", False),
    "annotations as CSV": Source("emotic", "train.csv", True, {"form": "csv"}),
    "faces": Source("emotic", "faces.csv", True, listed=24),
    "photograph": Source("emotic", "emotic/mscoco/images/000.jpg", False, listed=24),
    "rows of boxes": Source("caer_s", "train.txt", True, {"boxes": "{split}.txt"} | NO_GAP, listed=56),
    "boxes as JSON": Source("caer_s", "train.json", True, {"boxes": "{split}.json"} | NO_GAP, listed=56),
    "a crop file": Source("caer_s", "crop/test/Fear/0001.txt", True, {"boxes": "crop"} | NO_GAP, listed=56),
    "drawing": Source("caer_s", "test/Fear/0001.png", False, NO_GAP, listed=56),
    "cue": Source("caer_s", "cues/pose.jsonl", True, {"boxes": "{split}.txt"} | NO_GAP, listed=56),
    "table": Source("table", "people.csv", True),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_damaged_source_is_read_counted_or_refused(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    chosen = SOURCES[kind]
    card = small(chosen.dataset, chosen.options)
    whole = run(sharded(card, request.getfixturevalue(chosen.dataset), tmp_path / "whole"))
    assert (whole.kind, whole.value) == ("done", chosen.listed or whole.value)
    for seed in cases(3, 64):
        copy = shutil.copytree(request.getfixturevalue(chosen.dataset), tmp_path / str(seed))
        path = copy / chosen.file
        path.write_bytes(mutated(path.read_bytes(), random.Random(f"{kind}-{seed}"), chosen.text))
        outcome = run(sharded(card, copy, copy / "shards"))
        sound(outcome, f"{kind} {seed}")
        if outcome.kind == "done" and chosen.listed:
            assert outcome.value == chosen.listed, f"{kind} {seed}: people are gone without a word"
        shutil.rmtree(copy)


def sound(outcome: Outcome, case: str) -> None:
    """Done, or refused in a few words that name something."""
    assert outcome.kind in ("done", "refused"), f"{case}: {outcome.kind}: {outcome.value}"
    if outcome.kind == "refused":
        assert 0 < len(outcome.value) < 3000, f"{case}: {outcome.value}"
        assert "Traceback" not in outcome.value, f"{case}: {outcome.value}"


@pytest.fixture(scope="module")
def built(caer_s: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "caer_s"
    build.build(small("caer_s", NO_GAP), caer_s, out)
    return out


def verified(root: Path) -> Callable[[], list[str]]:
    return lambda: verify(root)


def loaded(root: Path) -> Callable[[], int]:
    """Decodes everything of the set; what can't be decoded may only be a ShardError."""

    def act() -> int:
        count = 0
        manifest = manifests.load(root)
        inputs = {"context": InputConfig(size=(32, 32)), "face": InputConfig(size=(32, 32))}
        for name in manifest.splits:
            dataset = CellDataset(SplitShards(root, name, manifest), inputs, 0, augment=True)  # type: ignore[arg-type]
            for place in range(len(dataset)):
                try:
                    dataset[0, place]
                except ShardError:
                    continue
                count += 1
        return count

    return act


@pytest.mark.parametrize("name", ["train-000000.tar", "test-000001.tar", "val.index.npy", "manifest.json"])
def test_damaged_shards_are_found_and_never_crash_the_loader(name: str, built: Path, tmp_path: Path) -> None:
    for seed in cases(3, 50):
        copy = shutil.copytree(built, tmp_path / str(seed))
        path = copy / name
        path.write_bytes(mutated(path.read_bytes(), random.Random(f"{name}-{seed}"), name.endswith(".json")))
        found = run(verified(copy))
        sound(found, f"{name} {seed}")
        assert found.kind == "refused" or found.value, f"{name} {seed}: the damage was not found"
        sound(run(loaded(copy)), f"{name} {seed}")
        shutil.rmtree(copy)


def resolved(path: Path) -> Callable[[], object]:
    return lambda: resolve.resolve(yaml_config.read_yaml(path), str(path)).name


def planned(path: Path) -> Callable[[], object]:
    return lambda: len(grids.resolve_cells(grids.load_grid(path), str(path), {}))


def carded(path: Path) -> Callable[[], object]:
    return lambda: cards.load(str(path)).title


SETTINGS: dict[str, tuple[str, Callable[[Path], Callable[[], object]]]] = {
    "card": ("shards/emotic.yaml", carded),
    "card of a demo": ("shards/caer_s_demo.yaml", carded),
    "cell": ("configs/train.yaml", resolved),
    "grid": ("configs/grids/ablations.yaml", planned),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_damaged_settings_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    shipped, action = SETTINGS[kind]
    data = yaml_config.resource(shipped).read_bytes()
    path = tmp_path / Path(shipped).name
    for seed in cases(3, 40):
        path.write_bytes(mutated(data, random.Random(f"{kind}-{seed}"), text=True))
        sound(run(action(path)), f"{kind} {seed}")
