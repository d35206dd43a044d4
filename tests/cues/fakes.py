"""Fake extractors that compute their answer from the box, for the command: `tests.cues.fakes:Middle`."""

import os
import time
from typing import Any, ClassVar

import numpy as np

from clef.cues.extractor import Extractor
from clef.geometry import Box


class Middle(Extractor):
    """The middle half of the subject's box; slow where the environment says so."""

    cue: ClassVar = "face"
    name = "middle"
    version = os.environ.get("MIDDLE_VERSION", "1")

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Any:
        """A quarter of each side is cut off; None in a frame that is black all over."""
        time.sleep(float(os.environ.get("MIDDLE_SECONDS", "0")))
        x, y = (box[2] - box[0]) / 4, (box[3] - box[1]) / 4
        return np.array([box[0] + x, box[1] + y, box[2] - x, box[3] - y]) if frame.any() else None


class WholeFrame(Extractor):
    """The same face for everyone, whatever their box."""

    cue: ClassVar = "face"
    name = "whole"
    version = "1"

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Any:
        """A box in the frame's left half."""
        return 0, 0, frame.shape[1] / 2, frame.shape[0]


class FaceOf(Extractor):
    """Landmarks that all lie on the face's first corner: tells which face was handed over."""

    cue: ClassVar = "landmarks"
    name = "face_of"
    version = "1"

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Any:
        """68 times the corner, or None without a face."""
        return [face[:2]] * 68 if face else None


class Wrong(Extractor):
    """Gives what is no face."""

    cue: ClassVar = "face"
    name = "wrong"
    version = "1"

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Any:
        """Five numbers."""
        return 1, 2, 3, 4, 5
