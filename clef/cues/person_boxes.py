"""A detector's box of the subject: Faster R-CNN's person that overlaps the annotated box, or hangs from the face."""

from typing import Any

import numpy as np

from clef.cues.boxes import best_person
from clef.cues.extractor import Extractor
from clef.cues.regions import FASTER_RCNN
from clef.datasets.person import Box


class FasterRcnnPerson(Extractor):
    """The people that torchvision's Faster R-CNN finds in the whole frame; found once for all subjects of an image."""

    cue = "person"
    name = "faster_rcnn"
    package = "torchvision"
    install = "pip install -e ."
    weights = FASTER_RCNN
    PERSON = 1
    """COCO's category."""
    SCORE = 0.5

    def setup(self) -> None:
        """Load the network."""
        from clef.cues import faster_rcnn

        self._device = faster_rcnn.device(self.settings.device)
        self._network: Any = faster_rcnn.load(self.weights_file).to(self._device)
        self._last: tuple[np.ndarray | None, list[Box]] = (None, [])

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Box | None:
        """x1, y1, x2, y2."""
        if self._last[0] is not frame:
            self._last = (frame, self._people(frame))
        return best_person(self._last[1], box, face)

    def _people(self, frame: np.ndarray) -> list[Box]:
        import torch

        from clef.cues.faster_rcnn import tensor

        with torch.inference_mode():
            found = self._network([tensor(frame, self._device)])[0]
        people = (found["labels"] == self.PERSON) & (found["scores"] >= self.SCORE)
        return [tuple(one) for one in found["boxes"][people].cpu().tolist()]
