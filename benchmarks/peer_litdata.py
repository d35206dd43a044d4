"""litdata over an optimised copy that holds the same JPEG bytes. It is read front to back, as litdata is fastest."""

import io
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from benchmarks.common import Batches, Setting
from benchmarks.peers import SHIPPED, Shipped, options
from benchmarks.stages import OurDecoder, collated


def prepare(setting: Setting, folder: Path) -> None:
    """The copy. It is as long as the stream, because litdata's workers stop between two epochs."""
    os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = str(folder / "cache")  # else it stays in the temporary folder
    import litdata

    litdata.optimize(
        fn=partial(_item, setting),
        inputs=[i % setting.places for i in range(setting.stream() * setting.batch)],
        output_dir=str(folder / "copy"),
        chunk_bytes="64MB",
        num_workers=1,
        verbose=False,
    )


def _item(setting: Setting, place: int) -> dict[str, Any]:
    from litdata.types import Jpeg

    # A member that a person lacks is a small black one: litdata's samples all have the same fields.
    images = {kind: setting.shards.read(place, kind) or _black() for kind in setting.kinds}
    members = {kind: Jpeg(bytes=content, max_quality=None) for kind, content in images.items()}
    return {"place": place, "meta.json": setting.shards.read(place, "meta.json"), **members}


def _black() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    return buffer.getvalue()


def stream(setting: Setting, folder: Path, way: str) -> Batches:
    """As shipped, its JPEG serializer makes tensors (by torchvision), which are then squashed.

    With our decoder, a serializer that hands the bytes over takes that one's place.
    """
    import litdata
    from litdata.streaming.serializers import BytesSerializer, JPEGSerializer

    if way == SHIPPED:
        finish, jpeg, collate = partial(_shipped, Shipped(setting)), JPEGSerializer(), None
    else:
        finish, jpeg, collate = partial(_ours, OurDecoder(setting)), BytesSerializer(), collated
    data = litdata.StreamingDataset(str(folder / "copy"), transform=finish, serializers={"jpeg": jpeg})
    batches: Batches = litdata.StreamingDataLoader(
        data, batch_size=setting.batch, collate_fn=collate, **options(setting)
    )
    return batches


def _shipped(finish: Shipped, sample: dict[str, Any]) -> dict[str, Tensor]:
    return finish(sample, json.loads(bytes(sample["meta.json"])))


def _ours(decoder: OurDecoder, sample: dict[str, Any]) -> dict[str, Tensor]:
    place = int(sample.pop("place"))
    return decoder({kind: bytes(content) for kind, content in sample.items()}, place)
