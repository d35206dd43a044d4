"""torchvision's Faster R-CNN as an extractor: region proposals of an image, and a detector's box of the subject.

The network has a ResNet-50 with a feature pyramid. torch is imported only when an extractor is set up, because
extractors are listed in environments without it too.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clef.cues.extractor import Extractor, ExtractorWeights
from clef.errors import SetupError, raise_if_system_error
from clef.geometry import Box, best_person
from clef.weights.files import CUES, FILES, FOLDER, fetch_command

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torchvision.models.detection import FasterRCNN

FASTER_RCNN_WEIGHTS = ExtractorWeights(
    FILES[CUES].file, f"{FILES[CUES].url}, which {fetch_command(CUES, Path(FOLDER))} fetches"
)
COCO_CLASSES = 91
"""COCO's category numbers, which have gaps, and the background."""


class FasterRcnn(Extractor):
    """Base of the extractors that use Faster R-CNN (Ren et al., 2015)."""

    name = "faster_rcnn"
    package = "torchvision"
    install = "pip install -e ."
    weights = FASTER_RCNN_WEIGHTS

    def setup(self) -> None:
        """Load the network. Raises SetupError for a weights file that is not its own."""
        self._device = select_device(self.settings.device)
        self._network: Any = load_faster_rcnn(self.weights_file).to(self._device)


class FasterRcnnRegions(FasterRcnn):
    """The best region proposals of an image, whatever they show."""

    cue = "regions"
    COUNT = 50
    OVERLAP = 0.7
    """Of two boxes that overlap by more, the better stays. torchvision compares only boxes of one level of the pyramid;
    here all are compared."""

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> tuple[Box, ...] | None:
        """Return the boxes, the best first; None where there is none."""
        import torch
        from torchvision.models.detection.transform import resize_boxes
        from torchvision.ops import nms

        with torch.inference_mode():
            images, _ = self._network.transform([to_tensor(frame, self._device)])
            per_image, _ = self._network.rpn(images, self._network.backbone(images.tensors))
            proposals = per_image[0]  # N,4 in pixels of the resized image, the best first
            # The scores are not given out; any falling numbers keep the order.
            order = torch.arange(len(proposals), 0, -1, dtype=proposals.dtype, device=proposals.device)
            best = proposals[nms(proposals, order, self.OVERLAP)[: self.COUNT]]
            boxes = resize_boxes(best, list(images.image_sizes[0]), list(frame.shape[:2])).cpu().tolist()
        return tuple(tuple(box) for box in boxes if box[0] < box[2] and box[1] < box[3]) or None


class FasterRcnnPerson(FasterRcnn):
    """The detected person that is the subject: the one that overlaps the subject's box, or whose head is at the face.

    The people of a frame are detected once for all its subjects.
    """

    cue = "person"
    PERSON = 1
    """COCO's category."""
    SCORE = 0.5
    """Detections with a lower score are dropped."""

    def setup(self) -> None:
        """Load the network."""
        super().setup()
        self._last: tuple[np.ndarray | None, list[Box]] = (None, [])

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Box | None:
        """Return the subject's box x1, y1, x2, y2, or None."""
        if self._last[0] is not frame:
            self._last = (frame, self.find_people(frame))
        return best_person(self._last[1], box, face)

    def find_people(self, frame: np.ndarray) -> list[Box]:
        """Return the boxes of all people whom the network detects with a score of `SCORE` or more."""
        import torch

        with torch.inference_mode():
            detections = self._network([to_tensor(frame, self._device)])[0]
        people = (detections["labels"] == self.PERSON) & (detections["scores"] >= self.SCORE)
        return [tuple(box) for box in detections["boxes"][people].cpu().tolist()]


def load_faster_rcnn(path: Path) -> "FasterRCNN":
    """Return the network in evaluation mode with the weights at `path`, in torchvision's format. Raises SetupError."""
    import torch
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=0)
        network = FasterRCNN(backbone, COCO_CLASSES)
        network.load_state_dict(state)
    except Exception as error:  # unpickling another kind of file raises a dozen kinds of errors
        raise_if_system_error(error, path)
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise SetupError(f"{path}: not torchvision's fasterrcnn_resnet50_fpn (its state dict): {reason}") from None
    for module in network.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0  # the published weights were trained with this
    return network.eval()


def select_device(name: str) -> "torch.device":
    """Return the CPU for `cpu`; for `auto` a GPU where there is one."""
    import torch

    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else "cpu")


def to_tensor(frame: np.ndarray, device: "torch.device") -> "Tensor":
    """Return a frame, H,W,3 uint8, as a tensor 3,H,W of 0-1."""
    import torch

    return torch.from_numpy(np.array(frame)).to(device).permute(2, 0, 1).float() / 255
