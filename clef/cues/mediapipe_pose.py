"""The base of all MediaPipe extractors, and body joints by MediaPipe's pose, reduced to the 17 keypoints of COCO.

MediaPipe 0.10.21 ships its models and 1.x ships none, so a version of 0.10 is required.
"""

import os
from typing import Any

import numpy as np

from clef.cues.extractor import DEFAULT_SETTINGS, Extractor, ExtractorSettings, package_version
from clef.cues.view import crop_view
from clef.geometry import Box, body_box, bounding_box, center, clip, contains, expand

VERSION_PREFIX = "0.10."
"""How the version must begin."""
INSTALL = "it needs its own environment (docs/cues.md): make .venv-cues, then .venv-cues/bin/python -m clef.cues"


class MediaPipeExtractor(Extractor):
    """Base of the extractors that run one of `mediapipe.solutions` on single images."""

    name = "mediapipe"
    package = "mediapipe"
    install = INSTALL

    @classmethod
    def missing(cls, settings: ExtractorSettings = DEFAULT_SETTINGS) -> str:
        """Return what is missing; another version of MediaPipe lacks the models."""
        if fault := super().missing(settings):
            return fault
        version = package_version(cls.package)
        return (
            ""
            if version.startswith(VERSION_PREFIX)
            else f"mediapipe {version} ships no models, 0.10.21 does: {INSTALL}"
        )

    def setup(self) -> None:
        """Load the subclass's model, without MediaPipe's log messages."""
        os.environ.setdefault("GLOG_minloglevel", "2")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from mediapipe.python import solutions

        self._solution = self.solution(solutions)

    def solution(self, solutions: Any) -> Any:
        """Return the solution, ready to process single images."""
        raise NotImplementedError

    def process(self, pixels: np.ndarray) -> Any:
        """Return what the solution finds in pixels h,w,3 uint8 RGB."""
        return self._solution.process(pixels)


Joints = tuple[tuple[float, float, float], ...]
BLAZEPOSE_INDEX_OF_JOINT = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
"""Joint i of COCO is point BLAZEPOSE_INDEX_OF_JOINT[i] of MediaPipe's 33."""
HEAD_JOINTS = 5
"""How many joints, the first ones, belong to the head: nose, eyes and ears."""
MIN_CONFIDENCE = 0.5
"""Joints with less confidence are not used to tell whose body it is."""


class MediaPipePose(MediaPipeExtractor):
    """BlazePose, the full model (Bazarevsky et al., 2020), which finds one person in the subject's box.

    A pose counts only if it is the subject's: its head must lie on the face where that is known, else the middle of its
    joints must lie in the box.
    """

    cue = "pose"

    def solution(self, solutions: Any) -> Any:
        """Return the pose model, the only one that the package ships."""
        return solutions.pose.Pose(static_image_mode=True, model_complexity=1, min_detection_confidence=0.5)

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Joints | None:
        """Return 17 joints x, y, confidence, or None; a joint that lies beyond the frame has confidence 0."""
        height, width = frame.shape[:2]
        where = clip(body_box(box, face), (height, width))
        part = crop_view(frame, where) if where else None
        found = self.process(part.pixels).pose_landmarks if part else None
        if part is None or found is None:
            return None
        joints = []
        for point in (found.landmark[i] for i in BLAZEPOSE_INDEX_OF_JOINT):
            x, y = part.point(point.x * part.width, point.y * part.height)
            seen = contains((0, 0, width, height), (x, y))
            joints.append((x, y, min(max(float(point.visibility), 0.0), 1.0) if seen else 0.0))
        return tuple(joints) if _is_of_subject(joints, box, face) else None


def _is_of_subject(joints: list[tuple[float, float, float]], box: Box, face: Box | None) -> bool:
    if face is not None:
        return contains(expand(face, 0.5), center(bounding_box(joints[:HEAD_JOINTS])))
    seen = [joint for joint in joints if joint[2] >= MIN_CONFIDENCE]
    return bool(seen) and contains(box, center(bounding_box(seen)))
