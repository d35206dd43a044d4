"""The samples of a split as batches: only the inputs that a cell declares are read and decoded."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from clef.config import (
    CONTEXT_SHOWING_SUBJECT,
    AnyInput,
    BoxesConfig,
    CellConfig,
    DepthConfig,
    InputConfig,
    InputName,
    PointsConfig,
)
from clef.config.inputs import Resizing
from clef.data import decode, transforms
from clef.data.batch_memory import Batch, BatchLayout, Field, FieldName
from clef.data.decoded_cache import CacheTable, NodeCache, TableKey
from clef.data.manifest import MEMBER_OF_INPUT
from clef.data.shards import SplitShards
from clef.data.transforms import AugmentationDraws
from clef.errors import ShardError

Metadata = dict[str, Any]
"""The content of a sample's meta.json."""
Arrays = dict[FieldName, np.ndarray]
"""The fields of a batch that is being filled, rows first."""
DrawsByInput = Mapping[InputName, AugmentationDraws]
"""The random draws of one sample, by input; empty in evaluation."""

_REQUIRED_KEYS = {"labels", "vad", *transforms.MASK_KEYS}
"""What is read of a sample's meta.json."""


class CellDataset(Dataset[Batch]):
    """The samples of a split as a cell reads them: a map from (epoch, index) to inputs, target, VAD and index.

    Images and depth maps are uint8, 3,H,W and 1,H,W; points and boxes are float32. `valid` says of each input whether
    the sample has it: an input that it lacks is all zeros, never that of another person. Color jitter is left to the
    device: the factors (`jitter`, 3) and the box to make black again after it (`masked_region`, 4) come
    with the sample. `without_subject` holds every frame and depth map that shows the subject once more, with the box
    black, for a method or an audit that asks for it.
    """

    def __init__(
        self,
        shards: SplitShards,
        inputs: Mapping[InputName, AnyInput],
        seed: int,
        augment: bool,
        cache: NodeCache | None = None,
        mirrored: bool = False,
        without_subject: bool = False,
    ) -> None:
        """Note what to read.

        `mirrored`: without augmentation, mirror every sample in the inputs that flip. `without_subject`: read that.
        """
        self.shards, self.inputs, self.seed, self.augment = shards, inputs, seed, augment
        self._undrawn = dict.fromkeys(inputs, transforms.MIRRORED) if mirrored else {}
        self.manifest = shards.manifest
        self._blanked = frames_showing_subject(inputs) if without_subject else {}
        self.layout = BatchLayout(self._fields())
        self._images = ImageInputs(shards, inputs, cache.tables(shards, inputs) if cache else {})
        frames = {name: config for name, config in self._blanked.items() if isinstance(config, InputConfig)}
        tables: dict[TableKey, CacheTable] = {}
        if cache:
            for config in frames.values():
                tables |= cache.tables(shards, {"context": config})
        self._blanked_images = ImageInputs(shards, frames, tables, without_subject=True)
        self._names = tuple(inputs)
        self._class_index = {name: i for i, name in enumerate(self.manifest.classes)}

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, item: tuple[int, int]) -> Batch:
        buffer = torch.empty(self.layout.size(1), dtype=torch.uint8)
        self.fill(buffer, [item])
        return _first_sample(self.layout.batch(buffer, 1))

    def fill(self, buffer: Tensor, items: Sequence[tuple[int, int]]) -> None:
        """Write the samples of a batch, each (epoch, index), into a buffer that is laid out as in `self.layout`."""
        arrays, indices = self.layout.arrays(buffer, len(items)), [index for _, index in items]
        # Stage by stage for the whole batch, not sample by sample: a small step between two decodings would find the
        # processor's caches full of pixels.
        metas = [self.metadata(index) for index in indices]
        draws = [self._draws(epoch, index) for epoch, index in items]
        arrays["index",][:] = indices
        for row, index in enumerate(indices):
            arrays["target",][row] = self._target(metas[row], index)
            if self.manifest.vad:
                arrays["vad",][row] = _vad(metas[row])
            self._fill_points(arrays, row, index, draws[row])
        for images in (self._images, self._blanked_images):
            images.fill(arrays, indices, metas, draws)
            # Nothing is decoded after this: other processes may use the images. Jitter computes the masked regions a
            # second time, which is cheap and keeps it out of the loop that decodes.
            images.commit()
            images.fill_jitter(arrays, metas, draws)
        if "depth" in self._blanked:
            self._blank_depth(arrays, metas, draws)

    def _blank_depth(self, arrays: Arrays, metas: Sequence[Metadata], draws: Sequence[DrawsByInput]) -> None:
        """Write the depth maps again, with the subject's box at 0, the farthest."""
        config, blanked = self._blanked["depth"], arrays["without_subject", "depth"]
        assert isinstance(config, DepthConfig)
        blanked[:] = arrays["depth",]
        for row, (meta, draw) in enumerate(zip(metas, draws, strict=True)):
            size = transforms.frame_size(meta)
            top, left, bottom, right = transforms.mask_region(meta["box"], size, config, draw.get("depth"))
            blanked[row, top:bottom, left:right] = 0

    def target(self, index: int) -> np.ndarray | int:
        """Return the classes of a sample, K float32 of 0 and 1, or the index of its one class."""
        return self._target(self.metadata(index), index)

    def metadata(self, index: int) -> Metadata:
        """Return the meta.json of a sample. Raises ShardError where that isn't what it should be."""
        try:
            meta: Metadata = json.loads(self.shards.read(index, "meta.json") or b"")
        except ValueError:
            raise ShardError(f"{self._where(index)}: meta.json is not JSON; {self.shards.remedy}") from None
        if lacking := _REQUIRED_KEYS - set(meta if isinstance(meta, dict) else ()):
            raise ShardError(
                f"{self._where(index)}: meta.json lacks {', '.join(sorted(lacking))}; {self.shards.remedy}"
            )
        return meta

    def _fields(self) -> dict[FieldName, Field]:
        multi_label = self.manifest.task == "multi_label"
        target = Field(torch.float32, (len(self.manifest.classes),)) if multi_label else Field(torch.int64)
        fields: dict[FieldName, Field] = {("index",): Field(torch.int64), ("target",): target}
        if self.manifest.vad:
            fields["vad",] = Field(torch.float32, (3,))
        for name, config in self.inputs.items():
            fields[name,] = input_field(name, config)
            fields["valid", name] = Field(torch.bool)
            if self.augment and isinstance(config, InputConfig) and config.jitter:
                fields["jitter", name] = Field(torch.float32, (3,))
                fields["masked_region", name] = Field(torch.int32, (4,))
                if name in self._blanked:
                    fields["subject_region", name] = Field(torch.int32, (4,))
        return fields | {("without_subject", name): input_field(name, config) for name, config in self._blanked.items()}

    def _draws(self, epoch: int, index: int) -> DrawsByInput:
        return transforms.draw_augmentation(self.seed, epoch, index, self._names) if self.augment else self._undrawn

    def _fill_points(self, arrays: Arrays, row: int, index: int, draws: DrawsByInput) -> None:
        """Write the inputs that are points or boxes into a row of the batch."""
        for name, config in self.inputs.items():
            if isinstance(config, PointsConfig):
                values = self._read_points(name, config, index, draws.get(name))
                arrays["valid", name][row] = values is not None
                arrays[name,][row] = 0 if values is None else values

    def _read_points(
        self, name: InputName, config: PointsConfig, index: int, draws: AugmentationDraws | None
    ) -> np.ndarray | None:
        """Return an input that is points or boxes; None where the sample lacks it."""
        data = self.shards.read(index, MEMBER_OF_INPUT[name])
        if data is None:
            return None
        where = f"{self._where(index)} {MEMBER_OF_INPUT[name]}"
        if isinstance(config, BoxesConfig):
            return transforms.read_boxes(data, config, draws, where)
        return transforms.read_points(name, data, config, draws, where)

    def _target(self, meta: Metadata, index: int) -> np.ndarray | int:
        if unknown := [label for label in meta["labels"] if label not in self._class_index]:
            raise ShardError(
                f"{self._where(index)}: label {unknown[0]!r} is no class of this set; {self.shards.remedy}"
            )
        classes = [self._class_index[label] for label in meta["labels"]]
        if self.manifest.task == "multi_label":
            target = np.zeros(len(self.manifest.classes), np.float32)
            target[classes] = 1
            return target
        if len(classes) != 1:
            raise ShardError(f"{self._where(index)}: one label is expected, not {meta['labels']}; {self.shards.remedy}")
        return classes[0]

    def _where(self, index: int) -> str:
        return f"{self.shards.root.name}/{self.shards.name} sample {self.shards.key(index)}"


class ImageInputs:
    """The inputs of a split that are images or depth maps, decoded into the rows of a batch.

    Inputs that come from one member, resized in one way, share its pixels, whatever each does with them afterwards.
    `without_subject`: each frame is replaced by `context` at the frame's size, as the shards store it, so that no pixel
    of the subject was mixed into the rest.
    """

    def __init__(
        self,
        shards: SplitShards,
        inputs: Mapping[InputName, AnyInput],
        tables: Mapping[TableKey, CacheTable],
        without_subject: bool = False,
    ) -> None:
        self.shards, self.tables, self.without_subject = shards, tables, without_subject
        self.inputs = {name: config for name, config in inputs.items() if isinstance(config, InputConfig | DepthConfig)}
        self._names_by_source: dict[TableKey, list[InputName]] = {}
        for name, config in self.inputs.items():
            kind = MEMBER_OF_INPUT["context" if without_subject else name]
            self._names_by_source.setdefault((kind, config.resizing), []).append(name)
        self._scratch: dict[TableKey, np.ndarray] = {}

    def fill(
        self, arrays: Arrays, indices: Sequence[int], metas: Sequence[Metadata], draws: Sequence[DrawsByInput]
    ) -> None:
        """Write the samples at `indices` into the rows of each input; zeros, not valid, where a sample lacks it."""
        for (kind, how), names in self._names_by_source.items():
            for row, index in enumerate(indices):
                outs = [arrays[self._field(name)][row] for name in names]
                # Decode straight into the batch where only one input wants these pixels, and wants all of them.
                direct = len(names) == 1 and outs[0].shape[:2] == how.size
                pixels = outs[0] if direct else self._scratch_array(kind, how, outs[0].shape[2])
                valid = self._decode(index, kind, how, pixels)
                for name, out in zip(names, outs, strict=True):
                    draw = draws[row].get(name)
                    if not self.without_subject:
                        arrays["valid", name][row] = valid
                    if valid:
                        masked_region = self._masked_region(name, metas[row], draw)
                        transforms.augment_image(pixels, masked_region, self.inputs[name], draw, out)
                    else:
                        out[:] = 0

    def fill_jitter(self, arrays: Arrays, metas: Sequence[Metadata], draws: Sequence[DrawsByInput]) -> None:
        """Write, for each input with color jitter, what the device needs: the factors, and the masked region."""
        regions = "subject_region" if self.without_subject else "masked_region"
        for name, config in self.inputs.items():
            if isinstance(config, InputConfig) and ("jitter", name) in arrays:
                for row, (meta, draw) in enumerate(zip(metas, draws, strict=True)):
                    arrays["jitter", name][row] = transforms.jitter_factors(config, draw[name])
                    arrays[regions, name][row] = self._masked_region(name, meta, draw[name]) or 0

    def commit(self) -> None:
        """Let other processes use the images that were decoded since the last commit."""
        for table in self.tables.values():
            table.commit()

    def _masked_region(
        self, name: InputName, meta: Metadata, draw: AugmentationDraws | None
    ) -> transforms.Region | None:
        box = transforms.mask_box("context" if self.without_subject else name, meta)
        if box is None:
            return None
        return transforms.mask_region(box, transforms.frame_size(meta), self.inputs[name], draw)

    def _field(self, name: InputName) -> FieldName:
        return ("without_subject", name) if self.without_subject else (name,)

    def _decode(self, index: int, kind: str, how: Resizing, out: np.ndarray) -> bool:
        """Fill `out` with the member's pixels, resized. Returns False where the sample has no such member."""
        table = self.tables.get((kind, how))
        if table and table.read(index, out):
            return True
        data = self.shards.read(index, kind)
        if data is None:
            return False
        try:
            # JPEG or PNG bytes to uint8 pixels of the size of `out`.
            decode.decode_image(data, out, how)
        except decode.UndecodableImage as error:
            sample = f"{self.shards.root.name}/{self.shards.name} sample {self.shards.key(index)}"
            remedy = "check the set with python -m clef.shard --verify"
            raise ShardError(f"{sample} {kind}: {error}; {remedy}") from None
        if table:
            table.write(index, out)
        return True

    def _scratch_array(self, kind: str, how: Resizing, channels: int) -> np.ndarray:
        if (kind, how) not in self._scratch:
            self._scratch[kind, how] = np.empty((*how.size, channels), np.uint8)
        return self._scratch[kind, how]


def frames_showing_subject(inputs: Mapping[InputName, AnyInput]) -> dict[InputName, InputConfig | DepthConfig]:
    """Return those of the inputs that are frames or depth maps in which something of the subject can be seen."""
    shown = {name: inputs[name] for name in CONTEXT_SHOWING_SUBJECT if name in inputs}
    return {name: config for name, config in shown.items() if isinstance(config, InputConfig | DepthConfig)}


def evaluated_dataset(config: CellConfig, shards: SplitShards) -> CellDataset:
    """Return the samples of a split as a cell sees them after training: all that its backbone and method read."""
    blanks = config.method.blanks_subject(training=False)
    return CellDataset(shards, config.inputs.present, config.seed, augment=False, without_subject=blanks)


def input_field(name: InputName, config: AnyInput) -> Field:
    """Return how an input lies in a batch."""
    if isinstance(config, InputConfig | DepthConfig):
        return Field(torch.uint8, (*config.shape, 3 if isinstance(config, InputConfig) else 1), image=True)
    return Field(torch.float32, (config.count, 4) if isinstance(config, BoxesConfig) else transforms.POINT_SHAPES[name])


def _first_sample(batch: Batch) -> Batch:
    return {key: _first_sample(value) if isinstance(value, dict) else value[0] for key, value in batch.items()}


def _vad(meta: Metadata) -> list[float]:
    """Return valence, arousal and dominance; NaN for what is unknown."""
    return [math.nan if value is None else value for value in meta["vad"] or [None] * 3]


def load_targets(shards: SplitShards) -> np.ndarray:
    """Return the targets of all samples of a split, in order: N,K float32 (multi-label) or N class indices."""
    dataset = CellDataset(shards, {}, seed=0, augment=False)
    return np.stack([dataset.target(index) for index in range(len(shards))])
