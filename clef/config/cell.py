"""The typed config of one cell: one backbone x dataset x method x seed run.

A cell is resolved from layers (`clef.config.resolve.resolve`): the defaults below < `configs/methods/<name>.yaml` <
`configs/backbones/<name>.yaml` (the paper's recipe) < a cell file or the grid's overrides < `a.b=c` on the command
line. What comes out is complete: it is written to the cell's `config.yaml`, and its signature is computed from it
(`clef.cells.identity`).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from clef.config.backbones import AnyBackboneConfig
from clef.config.inputs import Inputs
from clef.config.methods import Activation, AnyMethodConfig
from clef.datasets.cards import Card
from clef.yaml_config import Strict


class LossConfig(Strict):
    """The terms of the loss. Every one is a mean over the batch and a sum over the classes."""

    categories: Literal["weighted_l2", "bce", "soft_margin", "cross_entropy"]
    categories_weight: Annotated[float, Field(gt=0)] = 1.0
    class_weights: Literal["dynamic", "static"] = "dynamic"
    """weighted_l2: a class is weighted by its positives in the global batch, or in the training set."""
    vad_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the valence-arousal-dominance term (on the 1-10 scale); 0 builds no such head."""
    vad: Literal["smooth_l1", "margin_l2"] = "smooth_l1"
    vad_threshold: Annotated[float, Field(gt=0)] = 1.0
    """smooth_l1: where the square turns into a line. margin_l2: smaller errors count nothing."""


OPTIMIZERS = {"sgd": "torch.optim:SGD", "adam": "torch.optim:Adam", "adamw": "torch.optim:AdamW"}
"""The optimizers by name, each used in its fused form; to add another fused one of torch's, add a line."""


class OptimizerConfig(Strict):
    """What updates the weights from the gradients, and how large a step it makes."""

    name: str = "sgd"
    """sgd, adam, adamw, or a `torch.optim.Optimizer` of your own as `module:Class`."""
    options: dict[str, Any] = {}
    """Keyword arguments of an optimizer of your own, besides the parameters and their learning rate."""
    lr: Annotated[float, Field(gt=0)] = 0.01
    head_lr_multiplier: Annotated[float, Field(ge=0)] = 1.0
    """Learning rate of all layers but the encoders (which pre-trained weights exist for), relative to theirs."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradients are scaled down to this 2-norm."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 1
    """Micro-batches into which a rank's share of a global batch is cut, where memory does not hold all of it."""

    @field_validator("name")
    @classmethod
    def _is_known_or_own(cls, name: str) -> str:
        if ":" not in name and name not in OPTIMIZERS:
            raise ValueError(f"{', '.join(OPTIMIZERS)} or module:Class is expected")
        return name

    @field_validator("options")
    @classmethod
    def _has_no_settings_of_groups(cls, options: dict[str, Any]) -> dict[str, Any]:
        if stated := sorted({"params", "lr", "weight_decay"} & set(options)):
            raise ValueError(f"{', '.join(stated)} can't be an option; set optimizer.lr and optimizer.weight_decay")
        return options

    @model_validator(mode="after")
    def _options_are_of_an_own_one(self) -> "OptimizerConfig":
        if self.options and ":" not in self.name:
            raise ValueError(f"options: {self.name} takes none; they are for an optimizer of your own (module:Class)")
        return self


class ScheduleConfig(Strict):
    """The learning rate as a function of the epoch."""

    name: Literal["constant", "step", "cosine"] = "constant"
    step_size: Annotated[int, Field(ge=1)] = 1
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
    """Of a job; with several cells in a task, of all of them."""
    cells_per_task: Annotated[int, Field(ge=1)] = 1
    """Cells that one process trains one after the other, at most: those of seconds should not wait for imports."""
    cells_per_gpu: Annotated[int, Field(ge=1)] = 1
    """Processes that share the cells of a task, and its GPU, side by side."""

    @property
    def tasks_per_node(self) -> int:
        """Return the processes that Slurm starts on each node: ranks, or those that share a GPU."""
        return max(1, self.gpus) * self.cells_per_gpu

    @model_validator(mode="after")
    def _shared_tasks_have_one_rank(self) -> "ResourcesConfig":
        if self.cells_per_task > 1 and self.nodes * max(1, self.gpus) > 1:
            raise ValueError(f"cells_per_task: {self.cells_per_task}: only cells of one rank share a task; set it to 1")
        if self.cells_per_gpu > 1 and (self.cells_per_task == 1 or self.gpus != 1):
            raise ValueError(f"cells_per_gpu: {self.cells_per_gpu}: needs gpus: 1, and cells_per_task above 1")
        return self


class RequeueConfig(Strict):
    """How often a job may start again after each end that is not the cell's fault. Beyond that, the cell has failed."""

    preempted: Annotated[int, Field(ge=0)] = 50
    timeout: Annotated[int, Field(ge=0)] = 20
    """At the time limit."""
    lost: Annotated[int, Field(ge=0)] = 3
    """No end was recorded: the node failed, or all its processes were killed."""


class RuntimeConfig(Strict):
    """What can't change the result; none of it is in the signature."""

    shards: str = "shards"
    """The folder that holds a folder of shards for each dataset."""
    output_dir: str = "runs"
    """Cells are written to `<output_dir>/<grid>/<cell>`."""
    weights: str = Field(default_factory=lambda: os.path.expanduser("~/.cache/clef/weights"))
    """Where pre-trained weights are looked for."""
    features: str = "cache"
    """Where features of frozen networks and CCIM's dictionaries are kept, for all cells to share."""
    cache: Literal["none", "node"] = "none"
    """node: pictures are decoded once, and kept on the node's own disk for all epochs, ranks and jobs there."""
    scratch: str = ""
    """A folder on the node's own disk for that; empty: $SLURM_TMPDIR, else $TMPDIR, else the system's temporary one.
    A variable in it ($SCRATCH/me) is looked up on the node."""
    num_workers: Annotated[int, Field(ge=0)] = 4
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
    checkpoints: bool = True
    """False, for cells of seconds: none is written, so an interrupted run begins anew, and no weights are left to load,
    audit or start from. A cell that is done then has four files at most.
    """
    predictions: Literal["full", "none"] = "full"
    """none: no score of a sample is kept, only the metrics in result.json; intervals over images need the scores."""
    keep_checkpoints: bool = False
    """Of a cell that is done, keep the checkpoints too, not just the best weights."""
    grace: Annotated[float, Field(gt=0)] = 60.0
    """Seconds from the signal that asks a run to stop until it is gone, saved or not."""
    watchdog: Annotated[float, Field(ge=0)] = 1800.0
    """Seconds without a step, a scored batch or a checkpoint after which a run counts as hung; 0: never."""
    requeue: RequeueConfig = RequeueConfig()
    lock_minutes: Annotated[float, Field(ge=0)] = 45.0
    """How long a job waits while another process trains its cell, such as one that outlived its node's slurmd. Ranks
    wait an hour for each other to begin.
    """
    deterministic: bool = False
    """Refuse kernels that may not give the same bits twice (torch.use_deterministic_algorithms); slower on GPUs."""
    stop_after: Annotated[int, Field(ge=0)] | None = None
    """Save and stop after this many steps in all, to continue with `--resume`."""

    @model_validator(mode="after")
    def _asks_for_no_checkpoint_without_any(self) -> "RuntimeConfig":
        for key in ("keep_checkpoints", "checkpoint_every", "stop_after"):
            if not self.checkpoints and getattr(self, key):
                raise ValueError(f"{key}: no checkpoint is written with checkpoints=false; set it to true")
        return self


RENAMED = {
    "optimizer.accumulate": "optimizer.gradient_accumulation_steps",
    "optimizer.clip_norm": "optimizer.max_grad_norm",
    "optimizer.new_lr_multiplier": "optimizer.head_lr_multiplier",
    "schedule.every": "schedule.step_size",
    "runtime.out": "runtime.output_dir",
    "runtime.workers": "runtime.num_workers",
}
"""Former names of keys. They are refused, with the name that replaces each."""


class CellConfig(Strict):
    """One cell, resolved."""

    renamed: ClassVar[Mapping[str, str]] = RENAMED

    dataset: str
    """A card in `shards/` (emotic, caer_s, a demo twin), or the path of one of your own (NAME.yaml)."""
    protocol: str = "leak_free"
    """How the set is cut into splits and counted: a protocol of the card."""
    backbone: AnyBackboneConfig
    method: AnyMethodConfig
    label: str | None = None
    """What tables call this reading of the method, where a grid has several."""
    backbone_label: str | None = None
    """What they call this reading of the backbone."""
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
    card: Card
    """The dataset's card as it was when the cell was planned, with the protocol applied: its classes in order, metric,
    sizes of storage and so on. It is no setting: `clef.config.resolve.resolve` puts it there, and all that works on the
    cell reads this one, so that a card that changes later doesn't change what a trained cell says.
    """

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _no_is_fp32(cls, value: Any) -> Any:
        # YAML reads a bare `no` (accelerate's word) as false.
        return "fp32" if value in (False, "no") else value

    @model_validator(mode="after")
    def _micro_batches_fit(self) -> "CellConfig":
        parts = self.optimizer.gradient_accumulation_steps
        if self.batch_size % parts or self.batch_size < 2 * parts:
            raise ValueError(
                f"optimizer.gradient_accumulation_steps={parts} micro-batches of 2 or more must make up batch_size"
            )
        if parts > 1 and self.loss.categories == "weighted_l2" and self.loss.class_weights == "dynamic":
            raise ValueError(
                "optimizer.gradient_accumulation_steps: loss.class_weights=dynamic counts the positives of a whole "
                "global batch, which no micro-batch sees; set class_weights=static"
            )
        return self

    @property
    def activation(self) -> Activation | None:
        """Return how the method's logits state probabilities; None: they state none."""
        return self.method.activation(single_label=self.loss.categories == "cross_entropy")

    @property
    def shards(self) -> Path:
        """Return the folder of the dataset's shards."""
        return Path(self.runtime.shards) / self.dataset_name

    @property
    def dataset_name(self) -> str:
        """Return the dataset's name, with the protocol unless it is the usual one: that of a folder of shards."""
        name = Path(self.dataset).stem
        return name if self.protocol == "leak_free" else f"{name}-{self.protocol}"

    @property
    def name(self) -> str:
        """Return the cell's name within its grid: dataset, backbone, method and seed."""
        backbone = self.backbone_name.rpartition(":")[2]
        return f"{self.dataset_name}-{backbone}-{self.method_label}-s{self.seed}"

    @property
    def backbone_name(self) -> str:
        """Return the backbone, or the name of its reading."""
        return self.backbone_label or self.backbone.name

    @property
    def method_label(self) -> str:
        """Return the method, or the name of its reading."""
        return self.label or self.method.name.rpartition(":")[2]
