"""torchvision's Faster R-CNN, ResNet-50 with a feature pyramid, as its published weights want it. Imports torch."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from clef.errors import SetupError

CLASSES = 91
"""COCO's category numbers, with gaps, and the background."""


def load(path: Path) -> FasterRCNN:
    """The network with the weights at `path`, in torchvision's format, to evaluate. Raises SetupError."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=0)
        network = FasterRCNN(backbone, CLASSES)
        network.load_state_dict(state)
    except Exception as error:  # unpickling raises a dozen kinds for a file that is none
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise SetupError(f"{path}: not torchvision's fasterrcnn_resnet50_fpn (its state dict): {reason}") from None
    for module in network.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0  # what the published weights were trained with
    return network.eval()


def device(name: str) -> torch.device:
    """cpu, or for auto a GPU where there is one."""
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else "cpu")


def tensor(frame: np.ndarray, where: torch.device) -> Tensor:
    """H,W,3 uint8 as 3,H,W of 0-1."""
    return torch.from_numpy(np.array(frame)).to(where).permute(2, 0, 1).float() / 255
