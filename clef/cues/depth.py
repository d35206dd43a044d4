"""Depth maps: a MiDaS network in ONNX, by onnxruntime."""

from typing import Any

import numpy as np
from PIL import Image

from clef.cues.extractor import Extractor, Weights
from clef.datasets.person import Box
from clef.errors import SetupError

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
"""ImageNet's, which MiDaS was trained with."""


class Midas(Extractor):
    """MiDaS v2.1 small (Ranftl et al., 2020), or any network that takes 1,3,H,W and gives inverse depth, H,W.

    The frame is squashed to the network's size. What comes out is known up to a scale and a shift for each image: the
    farthest becomes 0, the nearest 255.
    """

    cue = "depth"
    name = "midas"
    package = "onnxruntime"
    install = "pip install -e '.[depth]'"
    weights = Weights("model-small.onnx", "https://github.com/isl-org/MiDaS/releases/download/v2_1/model-small.onnx")
    SIZE = 256
    """For networks that take any size."""

    def setup(self) -> None:
        """Open the file and see what it takes."""
        import onnxruntime

        wanted = ["CUDAExecutionProvider"] if self.settings.device == "auto" else []
        providers = [one for one in wanted if one in onnxruntime.get_available_providers()] + ["CPUExecutionProvider"]
        onnxruntime.set_default_logger_severity(3)
        try:
            self._session: Any = onnxruntime.InferenceSession(str(self.weights_file), providers=providers)
        except Exception as error:  # onnxruntime's own kinds share no base class
            raise SetupError(f"{self.weights_file}: not a network in ONNX: {str(error).splitlines()[0]}") from None
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3:
            raise SetupError(f"{self.weights_file}: takes {shape}; one input of 1,3,height,width is expected")
        self._input = inputs[0].name
        self._size = tuple(side if isinstance(side, int) else self.SIZE for side in shape[2:])

    def find(self, frame: np.ndarray, box: Box, face: Box | None) -> np.ndarray | None:
        """H,W uint8 of the network's size: 0 far to 255 near."""
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
