"""How hard the demo sets are, for plain small networks: `python tests/probes/demo_difficulty.py [--seeds 0 1]`.

Three probes read the subject's crops, the frame with the subject's box black, or both. They are no backbones or methods
of the toolkit and do not use its dataset readers, so errors there cannot hide here. It takes minutes on a laptop. The
numbers in docs/demo-data.md come from this command.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.io import loadmat
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[2]))

from clef.demo import STRENGTH, generate
from clef.demo.world import CATEGORIES, EMOTIONS, MOODS

SIZES = {"face": 48, "body": 64, "context": 64}
PROBES = {"subject": ("face", "body"), "context": ("context",), "joint": ("face", "body", "context")}
FOLDERS = [{"Anger": "Angry"}.get(name, name) for name in EMOTIONS]
ALIASES = {"Disquitement": "Disquietment", "Disconnect": "Disconnection", "Doubt Confusion": "Doubt/Confusion"}


@dataclass
class Samples:
    """A split in memory: pictures N,3,H,W of 0-1 by input, the class N (emotion or mood), and categories N,26."""

    inputs: dict[str, Tensor]
    label: Tensor
    categories: Tensor


def load_caer_s(root: Path, split: str) -> Samples:
    """Return the frames with their boxes, read from the box lists."""
    rows = [line.split(",") for line in (root / f"{split}.txt").read_text().splitlines()]
    bodies = [line.split(",") for line in (root / f"{split}_person.txt").read_text().splitlines()]
    pictures, labels = [], []
    for face, body in zip(rows, bodies, strict=True):
        frame = _open(root / split / "/".join(face[0].split("/")[-2:]))
        if frame is not None:
            pictures.append(_inputs(frame, [int(v) for v in face[2:]], [int(v) for v in body[2:]]))
            labels.append(int(face[1]))
    return _stack(pictures, labels, [()] * len(labels))


def load_emotic(root: Path, split: str) -> Samples:
    """Return the people with their boxes and categories, read from the annotation file."""
    faces = {row["id"]: [int(row[k]) for k in ("x1", "y1", "x2", "y2")] for row in _rows(root / "faces.csv")}
    moods = {row["id"]: list(MOODS).index(row["mood"]) for row in _rows(root / "moods.csv")}
    annotations = loadmat(root / "Annotations/Annotations.mat", squeeze_me=True, struct_as_record=False)
    pictures, labels, categories = [], [], []
    for image in np.atleast_1d(annotations[split]):
        frame = _open(root / "emotic" / image.folder / image.filename)
        for i, person in enumerate(np.atleast_1d(image.person) if frame is not None else ()):
            name = f"{image.folder}/{image.filename}#{i}"
            x1, y1, x2, y2 = np.rint(person.body_bbox).astype(int).tolist()
            pictures.append(_inputs(frame, faces.get(name, [0, 0, 0, 0]), [x1 - 1, y1 - 1, x2, y2]))
            labels.append(moods[name])
            named = person.annotations_categories.categories if split == "train" else person.combined_categories
            categories.append([CATEGORIES.index(ALIASES.get(c, c)) for c in np.atleast_1d(named)])
    return _stack(pictures, labels, categories)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _open(path: Path) -> Image.Image | None:
    try:
        return Image.open(path).convert("RGB")
    except OSError:  # missing or truncated, on purpose
        return None


def _inputs(frame: Image.Image, face: list[int], body: list[int]) -> dict[str, np.ndarray]:
    masked = frame.copy()
    masked.paste((0, 0, 0), (body[0], body[1], max(body[2], body[0]), max(body[3], body[1])))
    pictures = {"face": frame.crop(face), "body": frame.crop(body), "context": masked}
    return {name: _array(picture, SIZES[name]) for name, picture in pictures.items()}


def _array(picture: Image.Image, size: int) -> np.ndarray:
    if 0 in picture.size:
        return np.zeros((3, size, size), np.float32)
    small = picture.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32).transpose(2, 0, 1) / 255


def _stack(pictures: list[dict[str, np.ndarray]], labels: list[int], categories: list[Any]) -> Samples:
    many = torch.zeros(len(labels), len(CATEGORIES))
    for row, named in enumerate(categories):
        many[row, list(named)] = 1
    inputs = {name: torch.from_numpy(np.stack([p[name] for p in pictures])) for name in SIZES}
    return Samples(inputs, torch.tensor(labels), many)


class Probe(nn.Module):
    """Four convolutions for each input, their means side by side, and a linear head for class and categories."""

    def __init__(self, names: tuple[str, ...], classes: int) -> None:
        super().__init__()
        self.names = names
        self.streams = nn.ModuleDict({name: _stream() for name in names})
        self.head = nn.Linear(192 * len(names), classes + len(CATEGORIES))

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.head(torch.cat([self.streams[name](inputs[name] - 0.5) for name in self.names], 1))


def _stream() -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in ((3, 24), (24, 32), (32, 48), (48, 48)):
        stride, pool = (2, nn.Identity()) if before == 3 else (1, nn.MaxPool2d(2))
        layers += [nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ReLU(), pool]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2))


def train_probe(names: tuple[str, ...], train: Samples, classes: int, seed: int, epochs: int) -> Probe:
    """Return a probe trained for `epochs` with Adam and a one-cycle learning rate."""
    torch.manual_seed(seed)
    probe = Probe(names, classes).train()
    steps = epochs * (len(train.label) // 32)
    optimizer = torch.optim.Adam(probe.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps + epochs)
    for _ in range(epochs):
        for pick in torch.randperm(len(train.label)).split(32):
            if len(pick) < 32:
                continue
            out = probe({name: train.inputs[name][pick] for name in names})
            loss = functional.cross_entropy(out[:, :classes], train.label[pick])
            if train.categories.any():
                many = train.categories[pick]
                loss = loss + 3 * functional.binary_cross_entropy_with_logits(out[:, classes:], many)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return probe.eval()


@torch.no_grad()
def score_probe(probe: Probe, samples: Samples, classes: int) -> tuple[float, float]:
    """Return accuracy, and mAP over the categories, in percent."""
    parts = torch.arange(len(samples.label)).split(256)
    out = torch.cat([probe({n: samples.inputs[n][part] for n in probe.names}) for part in parts])
    accuracy = (out[:, :classes].argmax(1) == samples.label).float().mean().item()
    scores, truth = out[:, classes:].numpy(), samples.categories.numpy()
    precisions = [_average_precision(scores[:, k], truth[:, k]) for k in range(len(CATEGORIES)) if truth[:, k].any()]
    return 100 * accuracy, 100 * float(np.mean(precisions)) if precisions else float("nan")


def _average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    ranked = truth[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked == 1].mean())


def measure(name: str, root: Path, seeds: list[int], epochs: int) -> None:
    """Print a row for each probe: means over the seeds, on test and on the shifted test."""
    load, classes = (load_caer_s, len(EMOTIONS)) if name == "caer_s_demo" else (load_emotic, len(MOODS))
    train, test, shift = load(root / "main", "train"), load(root / "main", "test"), load(root / "shift", "test")
    print(f"\n{name}: {len(train.label)} train, {len(test.label)} test, {len(shift.label)} shifted", flush=True)
    print("| probe | accuracy, test | accuracy, shift | mAP, test | mAP, shift |\n| --- | --- | --- | --- | --- |")
    for title, names in PROBES.items():
        probes = [train_probe(names, train, classes, seed, epochs) for seed in seeds]
        figures = np.mean([score_probe(p, test, classes) + score_probe(p, shift, classes) for p in probes], 0)
        print("| {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} |".format(title, *figures[[0, 2, 1, 3]]), flush=True)
    for title, samples in (("test", test), ("shift", shift)):
        if samples.categories.any():
            print(
                f"mean prevalence in {title}: {100 * samples.categories.mean().item():.1f}; "
                f"fewest positives of a category: {int(samples.categories.sum(0).min())}"
            )


def main() -> None:
    """Generate the sets (or take those under --root) and measure them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder with the sets, generated if absent (default: temporary)")
    parser.add_argument("--sets", nargs="+", default=["caer_s_demo", "emotic_demo"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="of the probes (default: 0 1)")
    parser.add_argument("--data-seed", type=int, default=0, help="of the sets (default: 0)")
    parser.add_argument("--strength", type=float, default=STRENGTH, help=f"of the bias (default: {STRENGTH})")
    parser.add_argument("--epochs", type=int, default=9, help="of a probe (default: 9)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.sets:
            root = (args.root or Path(temporary)) / name
            generate(name, root, seed=args.data_seed, strength=args.strength)
            measure(name, root, args.seeds, args.epochs)


if __name__ == "__main__":
    main()
