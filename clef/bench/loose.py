"""Images as earlier reproductions read them: whole files from a folder, masked, cropped and resized for each person."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clef.bench.peers import options
from clef.bench.setting import Batches, Setting
from clef.bench.shipped import finished
from clef.cards import Card
from clef.config import InputConfig, InputName
from clef.cues.boxes import extended_face
from clef.datasets import Box, Person, open_reader

SHARE = 0.25
"""Of the others' people in a pass: each takes several times as long."""


def people(setting: Setting, card: Card, source: Path) -> list[Person]:
    """Those whom the others read, by place. DataError when the dataset isn't in `source`."""
    part = card.splits[setting.shards.name]
    listed = open_reader(card, source / part.root).read(part.split).people
    return [listed[int(setting.shards.key(place))] for place in range(setting.places)]


def stream(setting: Setting, people: list[Person]) -> Batches:
    """Shuffled, as ours."""
    data = _Loose(setting.inputs, people)
    batches: Batches = DataLoader(data, batch_sampler=setting.order(SHARE), **options(setting))
    return batches


@dataclass(frozen=True)
class _Loose(Dataset[dict[str, Tensor]]):
    inputs: Mapping[InputName, InputConfig]
    people: list[Person]

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Tensor]:
        person = self.people[item[1]]
        frame = Image.open(person.image).convert("RGB")
        mirrored = bool(torch.rand(()) < 0.5)
        return {name: _input(frame, name, person, config, mirrored) for name, config in self.inputs.items()}


def _input(frame: Image.Image, name: InputName, person: Person, config: InputConfig, mirrored: bool) -> Tensor:
    body = person.box or (0, 0, *frame.size)
    if name in ("body", "face"):
        box = body if name == "body" else person.face
        frame = frame.crop(_whole(box)) if box else Image.new("RGB", (8, 8))
    elif black := _black(name, person, body):
        frame = frame.copy()
        frame.paste((0, 0, 0), _whole(black))
    return finished(frame, None, frame.size, config, mirrored)


def _whole(box: Box) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = map(round, box)
    return x1, y1, x2, y2


def _black(name: InputName, person: Person, body: Box) -> Box | None:
    boxes = {
        "context": body,
        "scene_without_face": person.face,
        "scene_without_extended_face": extended_face(person.face) if person.face else body,
        "scene_without_person": person.cues.person or body,
    }
    return boxes.get(name)
