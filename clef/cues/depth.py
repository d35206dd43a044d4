"""Depth maps by a MiDaS network in ONNX format, run with onnxruntime."""

from typing import Any

import numpy as np
from PIL import Image

from clef.cues.extractor import Extractor, ExtractorWeights
from clef.errors import SetupError
from clef.geometry import Box

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
"""Mean and standard deviation of ImageNet's colours, with which MiDaS was trained."""


class Midas(Extractor):
    """MiDaS v2.1 small (Ranftl et al., 2020), or any network that takes 1,3,H,W and gives inverse depth, H,W.

    The frame is squashed to the network's input size. MiDaS gives depth up to an unknown scale and shift in each image,
    so each map is stretched: the farthest point becomes 0, the nearest 255.
    """

    cue = "depth"
    name = "midas"
    package = "onnxruntime"
    install = "pip install -e '.[depth]'"
    weights = ExtractorWeights(
        "model-small.onnx", "https://github.com/isl-org/MiDaS/releases/download/v2_1/model-small.onnx"
    )
    SIZE = 256
    """The input size for networks that take any."""

    def setup(self) -> None:
        """Load the network and read its input size. Raises SetupError for a file that is no such network."""
        import onnxruntime

        wanted = ["CUDAExecutionProvider"] if self.settings.device == "auto" else []
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()] + [
            "CPUExecutionProvider"
        ]
        onnxruntime.set_default_logger_severity(3)
        try:
            self._session: Any = onnxruntime.InferenceSession(str(self.weights_file), providers=providers)
        except Exception as error:  # onnxruntime's own errors share no base class
            raise SetupError(f"{self.weights_file}: not a network in ONNX: {str(error).splitlines()[0]}") from None
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3:
            raise SetupError(f"{self.weights_file}: takes {shape}; one input of 1,3,height,width is expected")
        self._input = inputs[0].name
        self._size = tuple(side if isinstance(side, int) else self.SIZE for side in shape[2:])

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> np.ndarray | None:
        """Return the map, H,W uint8 of the network's size, from 0 (far) to 255 (near); None if all is equally far."""
        height, width = self._size
        pixels = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255
        batch = ((pixels - MEAN) / STD).transpose(2, 0, 1)[None]
        inverse = np.asarray(self._session.run(None, {self._input: batch})[0], np.float64).squeeze()
        if inverse.ndim != 2 or not np.isfinite(inverse).all():
            raise SetupError(f"{self.weights_file}: gives {inverse.shape}, or no numbers; a map of H,W is expected")
        low, high = inverse.min(), inverse.max()
        if high <= low:
            return None
        return np.rint((inverse - low) / (high - low) * 255).astype(np.uint8)
