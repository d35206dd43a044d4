"""What the extractors on MediaPipe share: 0.10.21 ships its models, 1.x none, so one version is asked for."""

import os
from typing import Any

import numpy as np

from clef.cues.extractor import DEFAULTS, Extractor, Settings, package_version

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
