"""Who takes part in the comparison of loaders: for each a function and its arguments, which return people a second.

Images as earlier reproductions read them: whole files from a folder, masked, cropped and resized for each person.

The loaders that ours is compared with: what each needs, and what they share.

All have as many workers, may be as far ahead, read the same people and deliver the same batches (`benchmarks.common`).
Each is a module with `prepare(setting, folder)`, which makes what it reads, and `stream(setting, folder, way)`.

Pixels to inputs the way loaders are mostly used: torchvision's or Pillow's resize, then crop, mask and coin flip.

What rates say: how they compare with what was aimed for, and which stage bounds the rest. Arithmetic alone.
"""

import importlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as F

from benchmarks import stages
from benchmarks.common import PREFETCH, Batches, Setting, Spread, ratio, single_thread, timed
from clef.config import InputConfig, InputName
from clef.data import transforms
from clef.data.decoded_cache import NodeCache
from clef.data.manifest import SOURCE
from clef.datasets import Box, Person, open_reader
from clef.datasets.cards import Card
from clef.errors import ClefError
from clef.geometry import extended_face, scaled

SHIPPED, OURS = "as shipped", "our decoder"
"""The two ways of each: decoded as its users mostly do it, and with our decoder plugged in."""


@dataclass(frozen=True)
class Peer:
    """A loader of others."""

    package: str
    module: str

    @property
    def missing(self) -> str | None:
        """What installs it, where it isn't installed."""
        return None if find_spec(self.package) else f"python -m pip install {self.package}"


PEERS = {
    "webdataset": Peer("webdataset", "benchmarks.peer_webdataset"),
    "litdata": Peer("litdata", "benchmarks.peer_litdata"),
}


def prepare(name: str, setting: Setting, folder: Path) -> None:
    """Make what a peer reads, in a folder of its own."""
    importlib.import_module(PEERS[name].module).prepare(setting, folder)


def stream(name: str, way: str, setting: Setting, folder: Path) -> Batches:
    """A peer's batches, in one of the two ways."""
    batches: Batches = importlib.import_module(PEERS[name].module).stream(setting, folder, way)
    return batches


def options(setting: Setting) -> dict[str, Any]:
    """What each peer's DataLoader gets."""
    import torch

    return {
        "num_workers": setting.workers,
        "prefetch_factor": PREFETCH,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": single_thread,
    }


class Shipped:
    """Decoded members of a sample (Pillow images or 3,H,W tensors), and its facts, to inputs as uint8 3,H,W."""

    def __init__(self, setting: Setting) -> None:
        self.inputs = setting.inputs

    def __call__(self, images: Mapping[str, Any], facts: dict[str, Any]) -> dict[str, Tensor]:
        mirrored = random.random() < 0.5
        result: dict[str, Tensor] = {}
        for name, config in self.inputs.items():
            image = images.get(SOURCE[name])
            if image is None:
                result[name] = torch.zeros(3, *config.shape, dtype=torch.uint8)
                continue
            result[name] = finished(image, transforms.masked(name, facts), facts["size"], config, mirrored)
        return result


def finished(image: Any, box: Any, size: tuple[int, int], config: InputConfig, mirrored: bool) -> Tensor:
    """One image squashed, masked, cropped and mirrored. `box` lies in an image of `size` (width, height)."""
    height, width = config.size
    if isinstance(image, Image.Image):
        pixels = F.pil_to_tensor(image.resize((width, height), Image.Resampling.BILINEAR))
    else:
        pixels = F.resize(image, [height, width], antialias=True)
    if box is not None:
        left, top, right, bottom = scaled(tuple(box), size, (width, height))
        pixels[:, max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 0
    if config.crop:
        top, left = (random.randint(0, a - b) for a, b in zip(config.size, config.shape, strict=True))
        pixels = pixels[:, top : top + config.shape[0], left : left + config.shape[1]]
    return pixels.flip(-1) if mirrored and config.flip else pixels


SHARE = 0.25
"""Of the others' people in a pass: each takes several times as long."""


def people(setting: Setting, card: Card, source: Path) -> list[Person]:
    """Those whom the others read, by place. DataError when the dataset isn't in `source`."""
    part = card.splits[setting.shards.name]
    listed = open_reader(card, source / part.root).read(part.split).people
    return [listed[int(setting.shards.key(place))] for place in range(setting.places)]


def loose_stream(setting: Setting, people: list[Person]) -> Batches:
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


JPEG, CACHE, CEILING, LOOSE = "ours (JPEG)", "ours (cache)", "ceiling of decoding", "loose files"
"""Names of contenders. A peer's two are its own name, a comma, and the way."""
STEPS = ("read", "decode+squash", "augment", "collate")
"""The stages that a worker goes through for every batch."""
Rates = Mapping[str, list[float]]


@dataclass(frozen=True)
class Verdict:
    """A ratio of rates, and what its median should be at least; no `bar`: nothing was aimed for."""

    what: str
    value: Spread
    bar: float | None = None
    above: bool = False
    """Whether the bar itself is not enough."""

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the bar."""
        if self.bar is None:
            return None
        return self.value.median > self.bar if self.above else self.value.median >= self.bar


def verdicts(rates: Rates) -> list[Verdict]:
    """One for each comparison that these contenders allow."""
    found = []
    if CEILING in rates:
        found.append(Verdict(f"{JPEG} / {CEILING}", ratio(rates, JPEG, CEILING), 0.9))
    if CACHE in rates:
        found.append(Verdict(f"{CACHE} / {JPEG}", ratio(rates, CACHE, JPEG), 3))
    for name in rates:
        way = name.rpartition(", ")[2]
        if way == OURS:
            found.append(Verdict(f"{JPEG} / {name}", ratio(rates, JPEG, name), 0.95))
        elif way == SHIPPED:
            found.append(Verdict(f"{JPEG} / {name}", ratio(rates, JPEG, name), 1, above=True))
    if LOOSE in rates:
        found.append(Verdict(f"{JPEG} / {LOOSE}", ratio(rates, JPEG, LOOSE)))
    return found


def sharder(processes: int) -> str:
    """The name of the sharder with so many processes."""
    return f"sharder ({processes})"


def rendering(processes: int) -> str:
    """The name of its decoding, resizing and encoding alone."""
    return f"ceiling ({processes})"


def sharding(rates: Rates, several: int) -> list[Verdict]:
    """How near the sharder comes to its ceiling, and what more processes bring."""
    pairs = [(sharder(n), rendering(n)) for n in sorted({1, several})]
    found = [Verdict(f"{a} / {b}", ratio(rates, a, b), 0.85) for a, b in pairs]
    if several > 1:
        many, one = sharder(several), sharder(1)
        found.append(Verdict(f"{many} / {one}", ratio(rates, many, one), 0.9 * several))
    return found


def bottleneck(stages: Mapping[str, float], loader: float) -> str:
    """Which stage takes most of a worker's time, by the ceilings (people a second) of all and the loader's rate."""
    seconds = {name: 1 / stages[name] for name in STEPS}
    worst = max(seconds, key=lambda name: seconds[name])
    share = seconds[worst] / sum(seconds.values())
    return (
        f"{worst} is the bottleneck: {share:.0%} of a worker's time; alone it does {stages[worst]:,.0f} people/s, "
        f"the whole loader from JPEG {loader:,.0f}."
    )


CACHE_SHARE = 4
"""Of the others' people in a pass: from the cache each takes a fraction of the time."""
Calls = dict[str, tuple[Any, ...]]


def ours(setting: Setting) -> Calls:
    """Our loader, and what decoding alone does on as many cores."""
    return {CEILING: (stages.alone, setting, stages.CEILING, setting.workers), JPEG: (_ours, setting)}


def cached(setting: Setting, scratch: Path) -> tuple[Calls, list[str]]:
    """Our loader from a node cache below `scratch`, and why it is left out where there is no room for one."""
    try:
        NodeCache(str(scratch)).reserve(setting.shards.manifest, [setting.shards.name], setting.inputs)
        return {CACHE: (_cached, setting, scratch, scratch / "filled")}, []
    except ClefError as error:
        return {}, [f"{CACHE} left out: {error}"]


def others(setting: Setting, copies: Path) -> Calls:
    """The peers that are installed, both ways; `copies` is where they keep what they read."""
    return {
        f"{name}, {way}": (_peer, name, way, setting, copies / name)
        for name, peer in PEERS.items()
        for way in (SHIPPED, OURS)
        if not peer.missing
    }


def loose_files(setting: Setting, card: Card, source: Path) -> tuple[Calls, list[str]]:
    """The dataset's own files, and why they are left out where they can't be read."""
    try:
        return {LOOSE: (_loose, setting, people(setting, card, source))}, []
    except ClefError as error:
        return {}, [f"{LOOSE} left out: {str(error).splitlines()[0]}"]


def missing() -> list[str]:
    """A line for each peer that is not installed: what would install it."""
    return [f"{name} is not installed, so not compared: {p.missing}" for name, p in PEERS.items() if p.missing]


def images_per_person(setting: Setting, names: list[str]) -> dict[str, float]:
    """How many JPEGs each contender decodes for a person: the members, the one whole file, or none."""
    return {name: {LOOSE: 1, CACHE: 0}.get(name, setting.images_per_person) for name in names}


def _ours(setting: Setting) -> float:
    return timed(stages.ours(setting), setting, JPEG)


def _cached(setting: Setting, scratch: Path, filled: Path) -> float:
    cache = NodeCache(str(scratch))
    if not filled.exists():
        stages.fill(setting, cache)
        filled.touch()
    return timed(stages.ours(setting, cache, CACHE_SHARE), setting, CACHE, CACHE_SHARE)


def _peer(name: str, way: str, setting: Setting, folder: Path) -> float:
    if not folder.exists():
        folder.mkdir(parents=True)
        prepare(name, setting, folder)
    return timed(stream(name, way, setting, folder), setting, f"{name}, {way}")


def _loose(setting: Setting, people: list[Person]) -> float:
    return timed(loose_stream(setting, people), setting, LOOSE, SHARE)
