"""What a network may read of a sample, and how each input reaches it. Sizes are height, width in pixels."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from clef.yaml_config import Strict

FrameName = Literal["context", "scene", "scene_without_face", "scene_without_extended_face", "scene_without_person"]
ImageName = Literal[FrameName, "body", "face"]
"""The inputs that are color images."""
InputName = Literal[
    "context",
    "scene",
    "scene_without_face",
    "body",
    "face",
    "scene_without_extended_face",
    "scene_without_person",
    "depth",
    "landmarks",
    "pose",
    "regions",
    "agents",
]
SUBJECT: tuple[InputName, ...] = ("body", "face", "landmarks", "pose")
"""The inputs that show the subject alone."""
CONTEXT: tuple[InputName, ...] = (
    "context", "scene", "scene_without_face", "scene_without_extended_face", "scene_without_person", "depth",
    "regions", "agents",
)  # fmt: skip
"""The inputs that show the context."""
CONTEXT_SHOWING_SUBJECT: tuple[InputName, ...] = tuple(name for name in CONTEXT if name != "context")
"""Contexts in which something of the subject can be seen. `context` shows only where the subject's box is."""
HeightWidth = tuple[Annotated[int, Field(ge=8, le=1024)], Annotated[int, Field(ge=8, le=1024)]]
"""A size in pixels, the height first, as tensors have it."""
Channels = tuple[float, float, float]
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


Fit = Literal["squash", "letterbox"]
Filter = Literal["area", "bilinear", "bicubic", "lanczos", "nearest"]


class Resizing(NamedTuple):
    """How an image becomes one of another size."""

    size: HeightWidth
    interpolation: Filter = "area"
    fit: Fit = "squash"


class PointsConfig(Strict):
    """How landmarks or joints reach the network: points in an image, no pixels."""

    flip: bool = False
    """Mirror them with the images of the sample that flip; left and right are exchanged."""


class BoxesConfig(PointsConfig):
    """How boxes in the scene reach the network: region proposals, or the people in it."""

    count: Annotated[int, Field(ge=1, le=100)] = 10
    """How many, the best first; where there are fewer, the rest are all zeros."""


class DepthConfig(Strict):
    """How a depth map of the frame reaches the network: one channel, 0 far to 1 near."""

    size: HeightWidth = (224, 224)
    flip: bool = False

    @property
    def shape(self) -> HeightWidth:
        """Return the height and width of what the network gets."""
        return self.size

    @property
    def resizing(self) -> Resizing:
        """Return how the map is resized."""
        return Resizing(self.size)


class InputConfig(Strict):
    """How an image reaches the network."""

    size: HeightWidth = (224, 224)
    """What the image is brought to, by `fit`."""
    fit: Fit = "squash"
    """squash: to the size, whatever its shape; letterbox: as large as fits, in the middle of black bars."""
    interpolation: Filter = "area"
    """How it is resized: area as OpenCV defines it, the others as Pillow does, with antialiasing."""
    crop: HeightWidth | None = None
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
        if self.fit == "letterbox" and self.jitter:
            raise ValueError("fit: letterbox: jitter would color its black bars; set one of the two back")
        return self

    @property
    def shape(self) -> HeightWidth:
        """Return the height and width of what the network gets."""
        return self.crop or self.size

    @property
    def resizing(self) -> Resizing:
        """Return how the image is resized, before it is cropped."""
        return Resizing(self.size, self.interpolation, self.fit)

    @property
    def varies(self) -> bool:
        """Return whether training sees ever new pictures of a sample, and not just that one or its mirror image."""
        return bool(self.jitter or (self.crop and self.crop != self.size))


AnyInput = InputConfig | DepthConfig | PointsConfig | BoxesConfig


class Inputs(Strict):
    """The inputs of a cell: only what its backbone and its method read."""

    context: InputConfig | None = None
    """The frame with the subject's box black, as stored."""
    scene: InputConfig | None = None
    """The whole frame."""
    scene_without_face: InputConfig | None = None
    """The frame with the face black."""
    scene_without_extended_face: InputConfig | None = None
    """The frame with a box around the face black that takes in what hangs on it: three faces wide, five tall."""
    scene_without_person: InputConfig | None = None
    """The frame with a detector's person box black (the cue `person`); without one, the subject's box."""
    body: InputConfig | None = None
    """What the subject's box holds."""
    face: InputConfig | None = None
    """What the face box holds."""
    depth: DepthConfig | None = None
    landmarks: PointsConfig | None = None
    """68 points of the face, 0-1 in the face box."""
    pose: PointsConfig | None = None
    """17 joints, 0-1 in the frame, with confidences."""
    regions: BoxesConfig | None = None
    """Region proposals, 0-1 in the scene."""
    agents: BoxesConfig | None = None
    """The people in the scene whose boxes the source lists, the subject first; 0-1 in the scene."""

    @model_validator(mode="after")
    def _regions_lie_on_the_scene(self) -> "Inputs":
        if self.regions and self.scene:
            if self.scene.fit != "squash":
                raise ValueError(
                    "scene.fit: letterbox can't be combined with regions, which are boxes in the whole scene"
                )
            if self.scene.crop:
                raise ValueError("scene.crop can't be combined with regions, which are boxes in the whole scene")
            if self.scene.flip != self.regions.flip:
                raise ValueError("regions.flip must equal scene.flip: regions are boxes in the scene")
        return self

    @model_serializer(mode="wrap")
    def _only_what_is_read(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}

    @property
    def present(self) -> dict[InputName, AnyInput]:
        """Return the inputs that are read, by name."""
        return {name: value for name in INPUTS if (value := getattr(self, name)) is not None}

    @property
    def images(self) -> dict[InputName, InputConfig]:
        """Return those inputs that are colour images."""
        return {name: value for name, value in self.present.items() if isinstance(value, InputConfig)}

    def without(self, *names: str) -> "Inputs":
        """Return the same without the inputs of these names."""
        return self.model_copy(update=dict.fromkeys(names))


INPUTS: tuple[InputName, ...] = tuple(Inputs.model_fields)  # type: ignore[arg-type]
"""The names of all inputs."""
