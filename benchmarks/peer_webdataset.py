"""Stock webdataset over our own tars. It reads them front to back; only the wanted members are decoded."""

from functools import partial
from pathlib import Path
from typing import Any

import webdataset
from torch import Tensor
from torch.utils.data import default_collate

from benchmarks.common import Batches, Setting
from benchmarks.peers import SHIPPED, Shipped, options
from benchmarks.stages import OurDecoder, collated


def prepare(_setting: Setting, _folder: Path) -> None:
    """It reads the shards themselves."""


def stream(setting: Setting, _folder: Path, way: str) -> Batches:
    """As shipped, members become Pillow images, which are then squashed."""
    shards = setting.shards
    tars = [str(shards.root / shard.name) for shard in shards.split.shards[: setting.tars]]
    # The list comes round instead of the loader: at the end of a list it would drop a batch that isn't full.
    turns = -(-setting.stream() * setting.batch // setting.places) + setting.workers
    wanted = partial(_wanted, (*setting.kinds, "meta.json"))
    data = webdataset.WebDataset(tars * turns, shardshuffle=False, select_files=wanted)
    if way == SHIPPED:
        data, collate = data.decode("pil").map(partial(_shipped, Shipped(setting))), default_collate
    else:
        data, collate = data.map(partial(_ours, OurDecoder(setting), setting)), collated
    # No worker delivers more than its share of the stream: what comes after it is not measured.
    data = data.batched(setting.batch, collation_fn=collate, partial=False).slice(
        -(-setting.stream() // setting.workers)
    )
    batches: Batches = webdataset.WebLoader(data, batch_size=None, **options(setting))
    return batches


def _wanted(kinds: tuple[str, ...], name: str) -> bool:
    return name.partition(".")[2] in kinds


def _shipped(finish: Shipped, sample: dict[str, Any]) -> dict[str, Tensor]:
    return finish(sample, sample["meta.json"])


def _ours(decoder: OurDecoder, setting: Setting, sample: dict[str, Any]) -> dict[str, Tensor]:
    return decoder(sample, setting.place(int(sample["__key__"])))
