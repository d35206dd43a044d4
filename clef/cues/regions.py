"""Region proposals of an image: what Faster R-CNN's region proposal network takes for things."""

from pathlib import Path
from typing import Any

import numpy as np

from clef.cues.extractor import Extractor, Weights
from clef.datasets.person import Box
from clef.weights.names import CUES, FILES, FOLDER, command

FASTER_RCNN = Weights(FILES[CUES].file, f"{FILES[CUES].url}, which {command(CUES, Path(FOLDER))} fetches")


class FasterRcnn(Extractor):
    """What reads torchvision's Faster R-CNN (Ren et al., 2015)."""

    name = "faster_rcnn"
    package = "torchvision"
    install = "pip install -e ."
    weights = FASTER_RCNN

    def setup(self) -> None:
        """Load the network."""
        from clef.cues import faster_rcnn

        self._device = faster_rcnn.device(self.settings.device)
        self._network: Any = faster_rcnn.load(self.weights_file).to(self._device)


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

        from clef.cues.faster_rcnn import tensor

        with torch.inference_mode():
            images, _ = self._network.transform([tensor(frame, self._device)])
            proposals, _ = self._network.rpn(images, self._network.backbone(images.tensors))
            found = proposals[0]  # N,4 in the resized image, the best first
            order = torch.arange(len(found), 0, -1, dtype=found.dtype, device=found.device)
            kept = found[nms(found, order, self.OVERLAP)[: self.COUNT]]
            boxes = resize_boxes(kept, list(images.image_sizes[0]), list(frame.shape[:2])).cpu().tolist()
        return tuple(tuple(one) for one in boxes if one[0] < one[2] and one[1] < one[3]) or None
