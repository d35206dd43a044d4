"""Face landmarks: MediaPipe's face mesh brought to the 68 points of iBUG 300-W, or dlib with a file of your own."""

from typing import Any

import numpy as np

from clef.cues.extractor import Extractor, Weights
from clef.cues.mediapipe import MediaPipe
from clef.cues.view import view
from clef.datasets.person import Box
from clef.errors import SetupError
from clef.geometry import LANDMARKS, around, best_face, grown

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
