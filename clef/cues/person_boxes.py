"""A detector's box of the subject: Faster R-CNN's person that overlaps the annotated box, or hangs from the face."""

import numpy as np

from clef.cues.regions import FasterRcnn
from clef.datasets.person import Box
from clef.geometry import best_person


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

        from clef.cues.faster_rcnn import tensor

        with torch.inference_mode():
            found = self._network([tensor(frame, self._device)])[0]
        people = (found["labels"] == self.PERSON) & (found["scores"] >= self.SCORE)
        return [tuple(one) for one in found["boxes"][people].cpu().tolist()]
