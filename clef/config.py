"""The typed config of one cell: one backbone x dataset x method x seed run.

A cell is resolved from layers (`clef.cell.resolve`): the defaults below < `configs/methods/<name>.yaml` <
`configs/backbones/<name>.yaml` (the paper's recipe) < a cell file or the grid's overrides < `a.b=c` on the command
line. What comes out is complete: it is written to the cell's `config.yaml`, and its signature is computed from it
(`clef.signature`).
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

InputName = Literal["context", "scene", "scene_without_face", "body", "face"]
Size = tuple[Annotated[int, Field(ge=8, le=1024)], Annotated[int, Field(ge=8, le=1024)]]
Channels = tuple[float, float, float]
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


class Strict(BaseModel):
    """Unknown keys are errors, and a config never changes once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class InputConfig(Strict):
    """How one input reaches the network. Sizes are height, width in pixels."""

    size: Size = (224, 224)
    """The image is squashed to this size, whatever its shape."""
    crop: Size | None = None
    """Cut this size out of it: anywhere when training, the centre otherwise."""
    flip: bool = False
    """Mirror half of the training samples. One coin a sample: the inputs that flip, flip together."""
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Training brightness, contrast and saturation each change by a factor of up to 1 +- jitter."""
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD

    @model_validator(mode="after")
    def _crop_fits(self) -> "InputConfig":
        if self.crop and (self.crop[0] > self.size[0] or self.crop[1] > self.size[1]):
            raise ValueError(f"crop {self.crop} is larger than size {self.size}")
        return self

    @property
    def shape(self) -> Size:
        """Height and width of what the network gets."""
        return self.crop or self.size


class BackboneConfig(Strict):
    """A vanilla CAER model."""

    name: str
    """A registered name, or `module:Class` of one of your own."""
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    """Scales every layer's channels; 1 is the published size, less is for demos and tests."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    weights: dict[str, str] = {}
    """What each encoder starts from: places365-resnet18, imagenet-resnet18, ..., a file's path, or none (random)."""


class ContextBranchConfig(Strict):
    """N_C, the extra branch that captures context bias: it reads the masked frame (CLEF section 3.3)."""

    network: Literal["resnet18", "resnet50", "resnet152"] = "resnet50"
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    weights: str = "places365"
    trainable: bool = True
    lr_multiplier: Annotated[float, Field(ge=0)] = 1.0


class VanillaConfig(Strict):
    """The backbone alone."""

    name: Literal["vanilla"] = "vanilla"


class ClefConfig(Strict):
    """Counterfactual emotion inference around the backbone (CLEF, CVPR 2024)."""

    name: Literal["clef"] = "clef"
    context_branch: ContextBranchConfig = ContextBranchConfig()


MethodConfig = Annotated[VanillaConfig | ClefConfig, Field(discriminator="name")]


class LossConfig(Strict):
    """Every term is a mean over the batch and a sum over the classes."""

    categories: Literal["weighted_l2", "bce", "cross_entropy"]
    categories_weight: Annotated[float, Field(gt=0)] = 1.0
    vad_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the valence-arousal-dominance term (smooth L1 on the 1-10 scale); 0 builds no such head."""


class OptimizerConfig(Strict):
    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.01
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
    backbone: BackboneConfig
    method: MethodConfig
    inputs: dict[InputName, InputConfig]
    """Only what the backbone and the method read."""
    loss: LossConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    epochs: Annotated[int, Field(ge=1)] = 20
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Samples in a global batch, over all ranks."""
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
        return f"{Path(self.dataset).stem}-{backbone}-{self.method.name}-s{self.seed}"
