"""Region proposals of an image: what Faster R-CNN's region proposal network takes for things.

torchvision's Faster R-CNN, ResNet-50 with a feature pyramid, as its published weights want it. Imports torch.

A detector's box of the subject: Faster R-CNN's person that overlaps the annotated box, or hangs from the face.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from clef.cues.extractor import Extractor, Weights
from clef.datasets.person import Box
from clef.errors import SetupError
from clef.geometry import best_person
from clef.weights.files import CUES, FILES, FOLDER, command

FASTER_RCNN = Weights(FILES[CUES].file, f"{FILES[CUES].url}, which {command(CUES, Path(FOLDER))} fetches")


class FasterRcnn(Extractor):
    """What reads torchvision's Faster R-CNN (Ren et al., 2015)."""

    name = "faster_rcnn"
    package = "torchvision"
    install = "pip install -e ."
    weights = FASTER_RCNN

    def setup(self) -> None:
        """Load the network."""

        self._device = device(self.settings.device)
        self._network: Any = load(self.weights_file).to(self._device)


class FasterRcnnRegions(FasterRcnn):
    """The best proposals, whatever they show."""

    cue = "regions"
    COUNT = 50
    OVERLAP = 0.7
    """Of two boxes that overlap by more, the better stays; torchvision does so level by level, this does among all."""

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> tuple[Box, ...] | None:
        """Boxes, the best first."""
        import torch
        from torchvision.models.detection.transform import resize_boxes
        from torchvision.ops import nms

        with torch.inference_mode():
            images, _ = self._network.transform([tensor(frame, self._device)])
            proposals, _ = self._network.rpn(images, self._network.backbone(images.tensors))
            found = proposals[0]  # N,4 in the resized image, the best first
            order = torch.arange(len(found), 0, -1, dtype=found.dtype, device=found.device)
            kept = found[nms(found, order, self.OVERLAP)[: self.COUNT]]
            boxes = resize_boxes(kept, list(images.image_sizes[0]), list(frame.shape[:2])).cpu().tolist()
        return tuple(tuple(one) for one in boxes if one[0] < one[2] and one[1] < one[3]) or None


CLASSES = 91
"""COCO's category numbers, with gaps, and the background."""


def load(path: Path) -> FasterRCNN:
    """The network with the weights at `path`, in torchvision's format, to evaluate. Raises SetupError."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=0)
        network = FasterRCNN(backbone, CLASSES)
        network.load_state_dict(state)
    except Exception as error:  # unpickling raises a dozen kinds for a file that is none
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise SetupError(f"{path}: not torchvision's fasterrcnn_resnet50_fpn (its state dict): {reason}") from None
    for module in network.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0  # what the published weights were trained with
    return network.eval()


def device(name: str) -> torch.device:
    """cpu, or for auto a GPU where there is one."""
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else "cpu")


def tensor(frame: np.ndarray, where: torch.device) -> Tensor:
    """H,W,3 uint8 as 3,H,W of 0-1."""
    return torch.from_numpy(np.array(frame)).to(where).permute(2, 0, 1).float() / 255


class FasterRcnnPerson(FasterRcnn):
    """The people that the network finds in the whole frame; found once for all subjects of an image."""

    cue = "person"
    PERSON = 1
    """COCO's category."""
    SCORE = 0.5

    def setup(self) -> None:
        """Load the network."""
        super().setup()
        self._last: tuple[np.ndarray | None, list[Box]] = (None, [])

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Box | None:
        """x1, y1, x2, y2."""
        if self._last[0] is not frame:
            self._last = (frame, self.people(frame))
        return best_person(self._last[1], box, face)

    def people(self, frame: np.ndarray) -> list[Box]:
        """Everyone whom the network is sure enough of."""
        import torch

        with torch.inference_mode():
            found = self._network([tensor(frame, self._device)])[0]
        people = (found["labels"] == self.PERSON) & (found["scores"] >= self.SCORE)
        return [tuple(one) for one in found["boxes"][people].cpu().tolist()]
