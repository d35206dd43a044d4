"""The typed config of one cell: one backbone x dataset x method x seed run.

A cell is resolved from layers (`clef.cell.resolve`): the defaults below < `configs/methods/<name>.yaml` <
`configs/backbones/<name>.yaml` (the paper's recipe) < a cell file or the grid's overrides < `a.b=c` on the command
line. What comes out is complete: it is written to the cell's `config.yaml`, and its signature is computed from it
(`clef.signature`).
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from clef.config.backbones import AnyBackboneConfig
from clef.config.base import Strict
from clef.config.inputs import Inputs
from clef.config.methods import MethodConfig


class LossConfig(Strict):
    """Every term is a mean over the batch and a sum over the classes."""

    categories: Literal["weighted_l2", "bce", "soft_margin", "cross_entropy"]
    categories_weight: Annotated[float, Field(gt=0)] = 1.0
    class_weights: Literal["dynamic", "static"] = "dynamic"
    """weighted_l2: a class weighs by its positives in the global batch, or in the training set."""
    vad_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the valence-arousal-dominance term (on the 1-10 scale); 0 builds no such head."""
    vad: Literal["smooth_l1", "margin_l2"] = "smooth_l1"
    vad_threshold: Annotated[float, Field(gt=0)] = 1.0
    """smooth_l1: where the square turns into a line. margin_l2: smaller errors count nothing."""


class OptimizerConfig(Strict):
    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.01
    new_lr_multiplier: Annotated[float, Field(ge=0)] = 1.0
    """Rate of the layers that no pre-trained weights exist for, relative to the encoders'."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradients are scaled down to this 2-norm."""


class ScheduleConfig(Strict):
    """The learning rate as a function of the epoch."""

    name: Literal["constant", "step", "cosine"] = "constant"
    every: Annotated[int, Field(ge=1)] = 1
    """step: epochs between two drops."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """step: the factor of a drop."""
    warmup: Annotated[float, Field(ge=0)] = 0.0
    """Epochs of linear warm-up."""


class ResourcesConfig(Strict):
    """What one cell asks of Slurm. Cells of the same shape go into one job array."""

    gpus: Annotated[int, Field(ge=0)] = 1
    cpus: Annotated[int, Field(ge=1)] = 8
    """CPUs for each task (a task per GPU, or one)."""
    memory_gb: Annotated[int, Field(ge=1)] = 32
    hours: Annotated[float, Field(gt=0)] = 24


class RuntimeConfig(Strict):
    """What can't change the result; none of it is in the signature."""

    shards: str = "shards"
    """The folder that holds a folder of shards for each dataset."""
    out: str = "runs"
    """Cells are written to `<out>/<grid>/<cell>`."""
    weights: str = "~/.cache/clef/weights"
    """Where pre-trained weights are looked for."""
    features: str = "cache"
    """Where features of frozen networks and CCIM's dictionaries are kept, for all cells to share."""
    cache: Literal["none", "node"] = "none"
    """node: pictures are decoded once, and kept on the node's own disk for all epochs, ranks and jobs there."""
    scratch: str = ""
    """A folder on the node's own disk for that; empty: $SLURM_TMPDIR, else $TMPDIR, else the system's temporary one.
    A variable in it ($SCRATCH/me) is looked up on the node."""
    workers: Annotated[int, Field(ge=0)] = 4
    """Loader processes for each rank."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of each rank; 0 leaves it to torch."""
    device: Literal["auto", "cpu"] = "auto"
    log_every: Annotated[int, Field(ge=1)] = 20
    """Steps between two log lines."""
    checkpoint_every: Annotated[int, Field(ge=0)] = 0
    """Steps between two checkpoints, besides the one after every epoch."""
    stop_after: Annotated[int, Field(ge=0)] | None = None
    """Save and leave after this many steps in all, to go on with `--resume`."""


class CellConfig(Strict):
    """One cell, resolved."""

    dataset: str
    """A card in `shards/` (emotic, caer_s, a demo twin), or the path of one of your own (NAME.yaml)."""
    backbone: AnyBackboneConfig
    method: MethodConfig
    label: str | None = None
    """What tables call this reading of the method, where a grid has several."""
    inputs: Inputs
    """Only what the backbone and the method read."""
    loss: LossConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    epochs: Annotated[int, Field(ge=1)] = 20
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Samples in a global batch, over all ranks."""
    selection: Literal["best", "last"] = "best"
    """Which weights are tested: those of the best epoch on val, or the last."""
    seed: Annotated[int, Field(ge=0)] = 0
    mixed_precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    resources: ResourcesConfig = ResourcesConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _no_is_fp32(cls, value: Any) -> Any:
        # YAML reads a bare `no` (accelerate's word) as false.
        return "fp32" if value in (False, "no") else value

    @property
    def shards(self) -> Path:
        """The folder of the dataset's shards."""
        return Path(self.runtime.shards) / Path(self.dataset).stem

    @property
    def name(self) -> str:
        """The cell's name within its grid: dataset, backbone, method and seed."""
        backbone = self.backbone.name.rpartition(":")[2]
        return f"{Path(self.dataset).stem}-{backbone}-{self.method_label}-s{self.seed}"

    @property
    def method_label(self) -> str:
        """The method, or the name of its reading."""
        return self.label or self.method.name.rpartition(":")[2]
