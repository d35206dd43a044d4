"""The loaders that ours is compared with: webdataset, litdata, and whole files in a folder.

All have as many workers, may be as far ahead, read the same people and deliver the same batches
(benchmarks/setting.py). webdataset and litdata come in two ways: decoded as their users mostly do it (`SHIPPED`), and
with our decoder in its place (`OURS`). They read front to back, which is their fastest way.
"""

import io
import json
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms.v2 import functional as F

from benchmarks.setting import PREFETCH, Batches, Setting, single_thread
from benchmarks.stages import META, OurDecoder, collate
from clef.config import InputConfig, InputName
from clef.data import transforms
from clef.data.manifest import MEMBER_OF_INPUT
from clef.datasets import Person, open_reader
from clef.datasets.cards import Card
from clef.geometry import Box, Size, extended_face, rescale

SHIPPED, OURS = "as shipped", "our decoder"


def install_hint(package: str) -> str | None:
    """Return the command that installs a package, or None where it is installed."""
    return None if find_spec(package) else f"python -m pip install {package}"


def _options(setting: Setting) -> dict[str, Any]:
    """Return what each other loader's DataLoader gets."""
    return {
        "num_workers": setting.workers,
        "prefetch_factor": PREFETCH,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": single_thread,
    }


class ShippedDecoder:
    """Makes inputs the way loaders are mostly used: the library decodes, torchvision or Pillow resizes.

    Called with the decoded members of a sample (Pillow images or 3,H,W tensors) and its facts.
    """

    def __init__(self, setting: Setting) -> None:
        self.inputs = setting.inputs

    def __call__(self, images: Mapping[str, Any], facts: dict[str, Any]) -> dict[str, Tensor]:
        """Return one sample's inputs, each uint8 3,H,W; all zeros for one that the sample lacks."""
        mirrored = random.random() < 0.5
        result: dict[str, Tensor] = {}
        for name, config in self.inputs.items():
            image = images.get(MEMBER_OF_INPUT[name])
            if image is None:
                result[name] = torch.zeros(3, *config.shape, dtype=torch.uint8)
            else:
                result[name] = _squash(
                    image, transforms.mask_box(name, facts), transforms.frame_size(facts), config, mirrored
                )
        return result


def _squash(image: Any, box: Any, frame: Size, config: InputConfig, mirrored: bool) -> Tensor:
    """Return an image resized, masked, cropped and mirrored. `box` lies in an image of size `frame` (height, width)."""
    height, width = config.size
    if isinstance(image, Image.Image):
        pixels = F.pil_to_tensor(image.resize((width, height), Image.Resampling.BILINEAR))
    else:
        pixels = F.resize(image, [height, width], antialias=True)
    if box is not None:
        left, top, right, bottom = rescale(tuple(box), frame, config.size)
        pixels[:, max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 0
    if config.crop:
        top, left = (random.randint(0, a - b) for a, b in zip(config.size, config.shape, strict=True))
        pixels = pixels[:, top : top + config.shape[0], left : left + config.shape[1]]
    return pixels.flip(-1) if mirrored and config.flip else pixels


def webdataset_loader(setting: Setting, _folder: Path, way: str) -> Batches:
    """Return stock webdataset over our own tars; only the needed members are decoded."""
    import webdataset

    shards = setting.shards
    tars = [str(shards.root / shard.name) for shard in shards.split.shards[: setting.tars]]
    # The list is repeated instead of the loader: at the end of a list it would drop a batch that isn't full.
    repeats = -(-setting.all_batches() * setting.batch_size // setting.people) + setting.workers
    needed = partial(_is_needed, (*setting.members, META))
    data = webdataset.WebDataset(tars * repeats, shardshuffle=False, select_files=needed)
    if way == SHIPPED:
        data, collation = data.decode("pil").map(partial(_webdataset_shipped, ShippedDecoder(setting))), default_collate
    else:
        data, collation = data.map(partial(_webdataset_ours, OurDecoder(setting), setting)), collate
    # A worker delivers only its share of the batches: what comes after it is not measured.
    batches_per_worker = -(-setting.all_batches() // setting.workers)
    data = data.batched(setting.batch_size, collation_fn=collation, partial=False).slice(batches_per_worker)
    batches: Batches = webdataset.WebLoader(data, batch_size=None, **_options(setting))
    return batches


def _is_needed(kinds: tuple[str, ...], name: str) -> bool:
    return name.partition(".")[2] in kinds


def _webdataset_shipped(decoder: ShippedDecoder, sample: dict[str, Any]) -> dict[str, Tensor]:
    return decoder(sample, sample[META])


def _webdataset_ours(decoder: OurDecoder, setting: Setting, sample: dict[str, Any]) -> dict[str, Tensor]:
    return decoder(sample, setting.index_of(int(sample["__key__"])))


def litdata_loader(setting: Setting, folder: Path, way: str) -> Batches:
    """Return litdata over an optimized copy of the same JPEG bytes in `folder`, which the first call makes.

    As shipped, its JPEG serializer decodes (by torchvision). With our decoder, a serializer that hands the bytes over
    takes its place.
    """
    os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = str(folder / "cache")  # otherwise it stays in the temporary folder
    import litdata
    from litdata.streaming.serializers import BytesSerializer, JPEGSerializer

    if not (folder / "copy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        # As long as the stream, because litdata's workers stop between two epochs.
        indices = [i % setting.people for i in range(setting.all_batches() * setting.batch_size)]
        copy, item = str(folder / "copy"), partial(_litdata_item, setting)
        litdata.optimize(fn=item, inputs=indices, output_dir=copy, chunk_bytes="64MB", num_workers=1, verbose=False)
    if way == SHIPPED:
        finish, jpeg, collation = partial(_litdata_shipped, ShippedDecoder(setting)), JPEGSerializer(), None
    else:
        finish, jpeg, collation = partial(_litdata_ours, OurDecoder(setting)), BytesSerializer(), collate
    data = litdata.StreamingDataset(str(folder / "copy"), transform=finish, serializers={"jpeg": jpeg})
    batches: Batches = litdata.StreamingDataLoader(
        data, batch_size=setting.batch_size, collate_fn=collation, **_options(setting)
    )
    return batches


def _litdata_item(setting: Setting, index: int) -> dict[str, Any]:
    from litdata.types import Jpeg

    # A member that a person lacks is a small black image: litdata's samples must all have the same fields.
    images = {kind: setting.shards.read(index, kind) or _black_jpeg() for kind in setting.members}
    members = {kind: Jpeg(bytes=content, max_quality=None) for kind, content in images.items()}
    return {"index": index, META: setting.shards.read(index, META), **members}


def _black_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    return buffer.getvalue()


def _litdata_shipped(decoder: ShippedDecoder, sample: dict[str, Any]) -> dict[str, Tensor]:
    return decoder(sample, json.loads(bytes(sample[META])))


def _litdata_ours(decoder: OurDecoder, sample: dict[str, Any]) -> dict[str, Tensor]:
    index = int(sample.pop("index"))
    return decoder({kind: bytes(content) for kind, content in sample.items()}, index)


PEERS: dict[str, Callable[[Setting, Path, str], Batches]] = {
    "webdataset": webdataset_loader,
    "litdata": litdata_loader,
}
"""Other loaders by the name of their package. Called with the setting, a folder of their own, and the way."""

LOOSE_SHARE = 0.25
"""How much of a pass is timed for loose files: they take several times as long as other loaders."""


def list_people(setting: Setting, card: Card, source: Path) -> list[Person]:
    """Return the people who are read, by index. Raises DataError when the dataset isn't in `source`."""
    part = card.splits[setting.shards.name]
    people = open_reader(card, source / part.root).read(part.split).people
    return [people[int(setting.shards.key(index))] for index in range(setting.people)]


def loose_loader(setting: Setting, people: list[Person]) -> Batches:
    """Return a loader of the dataset's own files, shuffled as ours.

    This is how earlier reproductions read images: whole, then masked, cropped and resized for each person.
    """
    data = _LooseFiles(setting.inputs, people)
    batches: Batches = DataLoader(data, batch_sampler=setting.order(LOOSE_SHARE), **_options(setting))
    return batches


@dataclass(frozen=True)
class _LooseFiles(Dataset[dict[str, Tensor]]):
    inputs: Mapping[InputName, InputConfig]
    people: list[Person]

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Tensor]:
        person = self.people[item[1]]
        frame = Image.open(person.image).convert("RGB")
        mirrored = bool(torch.rand(()) < 0.5)
        return {name: _loose_input(frame, name, person, config, mirrored) for name, config in self.inputs.items()}


def _loose_input(frame: Image.Image, name: InputName, person: Person, config: InputConfig, mirrored: bool) -> Tensor:
    body = person.box or (0, 0, *frame.size)
    if name in ("body", "face"):
        box = body if name == "body" else person.face
        frame = frame.crop(_round(box)) if box else Image.new("RGB", (8, 8))
    elif masked := _masked_box(name, person, body):
        frame = frame.copy()
        frame.paste((0, 0, 0), _round(masked))
    return _squash(frame, None, (frame.height, frame.width), config, mirrored)


def _masked_box(name: InputName, person: Person, body: Box) -> Box | None:
    boxes = {
        "context": body,
        "scene_without_face": person.face,
        "scene_without_extended_face": extended_face(person.face) if person.face else body,
        "scene_without_person": person.cues.person or body,
    }
    return boxes.get(name)


def _round(box: Box) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = map(round, box)
    return x1, y1, x2, y2
