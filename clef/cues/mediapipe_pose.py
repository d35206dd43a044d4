"""Body joints: MediaPipe's pose brought to the 17 keypoints of COCO.

What the extractors on MediaPipe share: 0.10.21 ships its models, 1.x none, so one version is asked for.
"""

import os
from typing import Any

import numpy as np

from clef.cues.extractor import DEFAULTS, Extractor, Settings, package_version
from clef.cues.view import view
from clef.datasets.person import Box
from clef.geometry import around, body, centre, grown, holds, inside

VERSION = "0.10."
"""What the version begins with."""
INSTALL = "it wants an environment of its own (docs/cues.md): make .venv-cues, then .venv-cues/bin/python -m clef.cues"


class MediaPipe(Extractor):
    """Base: one of `mediapipe.solutions`, on single images."""

    name = "mediapipe"
    package = "mediapipe"
    install = INSTALL

    @classmethod
    def missing(cls, settings: Settings = DEFAULTS) -> str:
        """Another version is missing its models."""
        if fault := super().missing(settings):
            return fault
        version = package_version(cls.package)
        return "" if version.startswith(VERSION) else f"mediapipe {version} ships no models, 0.10.21 does: {INSTALL}"

    def setup(self) -> None:
        """Load the model that the subclass names, quietly."""
        os.environ.setdefault("GLOG_minloglevel", "2")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from mediapipe.python import solutions

        self._solution = self.solution(solutions)

    def solution(self, solutions: Any) -> Any:
        """The solution, ready to process single images."""
        raise NotImplementedError

    def process(self, pixels: np.ndarray) -> Any:
        """What it finds in h,w,3 uint8 RGB."""
        return self._solution.process(pixels)


Joints = tuple[tuple[float, float, float], ...]
BLAZE = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
"""Joint i of COCO is point BLAZE[i] of MediaPipe's 33."""
HEAD = 5
"""The first joints are nose, eyes and ears."""
SEEN = 0.5
"""Joints of less confidence say nothing of where a body is."""


class MediaPipePose(MediaPipe):
    """BlazePose, the full model (Bazarevsky et al., 2020). It finds one person in what it is shown: the subject's box.

    With a known face, the joints of the head must lie on it, and without one the middle of the joints in the box: else
    the pose is another person's and counts as not found.
    """

    cue = "pose"

    def solution(self, solutions: Any) -> Any:
        """The one model that the package ships."""
        return solutions.pose.Pose(static_image_mode=True, model_complexity=1, min_detection_confidence=0.5)

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Joints | None:
        """17 joints x, y, confidence; a joint that would lie beyond the frame has confidence 0."""
        height, width = frame.shape[:2]
        where = inside(body(box, face), width, height)
        part = view(frame, where) if where else None
        found = self.process(part.pixels).pose_landmarks if part else None
        if part is None or found is None:
            return None
        joints = []
        for point in (found.landmark[i] for i in BLAZE):
            x, y = part.point(point.x * part.width, point.y * part.height)
            seen = holds((0, 0, width, height), (x, y))
            joints.append((x, y, min(max(float(point.visibility), 0.0), 1.0) if seen else 0.0))
        return tuple(joints) if _is_of(joints, box, face) else None


def _is_of(joints: list[tuple[float, float, float]], box: Box, face: Box | None) -> bool:
    if face is not None:
        return holds(grown(face, 0.5), centre(around(joints[:HEAD])))
    seen = [joint for joint in joints if joint[2] >= SEEN]
    return bool(seen) and holds(box, centre(around(seen)))
