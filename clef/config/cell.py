"""The typed config of one cell: one backbone x dataset x method x seed run.

A cell is resolved from layers (`clef.config.resolve.resolve`): the defaults below < `configs/methods/<name>.yaml` <
`configs/backbones/<name>.yaml` (the paper's recipe) < a cell file or the grid's overrides < `a.b=c` on the command
line. What comes out is complete: it is written to the cell's `config.yaml`, and its signature is computed from it
(`clef.cells.identity`).
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

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
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Micro-batches that a rank's share of a global batch goes through in, for batches that memory does not hold."""


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

    nodes: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[int, Field(ge=0)] = 1
    """GPUs on each node, and a task for each of them: a rank. 0: one task a node, on CPUs."""
    cpus: Annotated[int, Field(ge=1)] = 8
    """CPUs for each task."""
    memory_gb: Annotated[int, Field(ge=1)] = 32
    """Of each node."""
    hours: Annotated[float, Field(gt=0)] = 24


class FaultConfig(Strict):
    """A fault that is meant: what a run does when it strikes is tested, and can be tried by anyone."""

    kind: Literal["kill", "hang", "nan", "slow", "io_error", "disk_full"]
    step: Annotated[int, Field(ge=1)]
    """The step in which it strikes (from 1)."""
    rank: Annotated[int, Field(ge=0)] = 0
    where: Literal["step", "validation", "checkpoint"] = "step"
    """At the start of the step; or in the first validation or checkpoint at or after it, half-way through."""
    signal: Literal["KILL", "TERM", "USR1", "USR2", "INT"] = "KILL"
    """kill: the signal that the process sends itself."""
    seconds: Annotated[float, Field(ge=0)] = 1.0
    """slow: how long."""

    @model_validator(mode="after")
    def _fits(self) -> "FaultConfig":
        if self.kind == "nan" and self.where != "step":
            raise ValueError("nan: a loss is spoilt in a step alone; leave out `where`")
        if self.kind == "disk_full" and self.where != "checkpoint":
            raise ValueError("disk_full: it is a checkpoint that fills the disk; say where: checkpoint")
        return self


class RequeueConfig(Strict):
    """How often a job may start again after each end that is not the cell's fault. Beyond that, the cell has failed."""

    preempted: Annotated[int, Field(ge=0)] = 50
    timeout: Annotated[int, Field(ge=0)] = 20
    """At the time limit."""
    lost: Annotated[int, Field(ge=0)] = 3
    """Without a word: the node failed, or all its processes were killed."""


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
    tensorboard: bool = False
    """Write the log for TensorBoard too, into the cell's folder."""
    checkpoint_every: Annotated[int, Field(ge=0)] = 0
    """Steps between two checkpoints, besides the one after every epoch; 0: no count of steps asks for one."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 15.0
    """Minutes between two checkpoints, looked at when a log line is due; 0: the clock asks for none."""
    keep_checkpoints: bool = False
    """Of a cell that is done, keep the checkpoints too, not just the best weights."""
    grace: Annotated[float, Field(gt=0)] = 60.0
    """Seconds from the signal that asks a run to stop until it is gone, saved or not."""
    watchdog: Annotated[float, Field(ge=0)] = 1800.0
    """Seconds without a step, a scored batch or a checkpoint after which a run counts as hung; 0: never."""
    requeue: RequeueConfig = RequeueConfig()
    lock_minutes: Annotated[float, Field(ge=0)] = 45.0
    """How long a job waits while another process trains its cell, one that outlived its node's slurmd say. Ranks wait
    an hour for each other.
    """
    deterministic: bool = False
    """Refuse kernels that may not give the same bits twice (torch.use_deterministic_algorithms); slower on GPUs."""
    faults: tuple[FaultConfig, ...] = ()
    """Faults to inject, for tests of what survives them."""
    stop_after: Annotated[int, Field(ge=0)] | None = None
    """Save and leave after this many steps in all, to go on with `--resume`."""


class CellConfig(Strict):
    """One cell, resolved."""

    dataset: str
    """A card in `shards/` (emotic, caer_s, a demo twin), or the path of one of your own (NAME.yaml)."""
    protocol: str = "leak_free"
    """How the set is cut into splits and counted: a protocol of the card."""
    backbone: AnyBackboneConfig
    method: MethodConfig
    label: str | None = None
    """What tables call this reading of the method, where a grid has several."""
    against: str | None = "vanilla"
    """The method of the same grid, as tables call it, that they compare this one with; null: none."""
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
    tf32: bool = False
    """Let GPUs round the factors of float32 products to 10 bits, which is faster."""
    sync_batch_norm: bool = False
    """Batch statistics over all ranks (GPUs only), not for each rank."""
    resources: ResourcesConfig = ResourcesConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _no_is_fp32(cls, value: Any) -> Any:
        # YAML reads a bare `no` (accelerate's word) as false.
        return "fp32" if value in (False, "no") else value

    @model_validator(mode="after")
    def _micro_batches_fit(self) -> "CellConfig":
        parts = self.optimizer.accumulate
        if self.batch_size % parts or self.batch_size < 2 * parts:
            raise ValueError(f"optimizer.accumulate={parts} micro-batches of 2 or more must make up batch_size")
        if parts > 1 and self.loss.categories == "weighted_l2" and self.loss.class_weights == "dynamic":
            raise ValueError(
                "optimizer.accumulate: loss.class_weights=dynamic counts the positives of a whole global batch, which "
                "no micro-batch sees; say class_weights=static"
            )
        return self

    @property
    def shards(self) -> Path:
        """The folder of the dataset's shards."""
        return Path(self.runtime.shards) / self.dataset_name

    @property
    def dataset_name(self) -> str:
        """The dataset, and the protocol unless that is the usual one: a folder of shards, a part of a cell's name."""
        name = Path(self.dataset).stem
        return name if self.protocol == "leak_free" else f"{name}-{self.protocol}"

    @property
    def name(self) -> str:
        """The cell's name within its grid: dataset, backbone, method and seed."""
        backbone = self.backbone.name.rpartition(":")[2]
        return f"{self.dataset_name}-{backbone}-{self.method_label}-s{self.seed}"

    @property
    def method_label(self) -> str:
        """The method, or the name of its reading."""
        return self.label or self.method.name.rpartition(":")[2]
