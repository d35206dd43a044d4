"""Zero-shot classification by text prompts (Radford et al., ICML 2021): nothing is trained.

The logits of a stream are scale * cos(image, class) + bias: the image's embedding and the mean of the embeddings of the
class's prompts, both of length 1, with the scale (and bias, where it has one) that the open_clip model was trained
with. Streams that are there are averaged. So the head is one fixed matrix, and the text encoder runs once for it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clef.config import EncoderConfig
from clef.errors import SetupError
from clef.models.backbone import WeightLoader
from clef.models.named import build_open_clip


class UnitFeatures(nn.Module):
    """The streams' features of length 1 side by side, each times its weight in the mean, and then these weights."""

    def forward(self, features: list[Tensor], valid: Tensor) -> Tensor:
        """Return B,sum(d_i)+streams of features B,d_i and `valid` B,streams bool; zeros where nothing is there."""
        weights = valid / valid.sum(1, keepdim=True).clamp(min=1)
        units = [F.normalize(torch.where(valid[:, i, None], feature, 0)) for i, feature in enumerate(features)]
        return torch.cat([*(unit * weights[:, i, None] for i, unit in enumerate(units)), weights], dim=1)


class TextClassifier(nn.Module):
    """Logits B,K of `UnitFeatures`. Its weight is no parameter, and is zero until `set_classes`."""

    weight: Tensor
    """K,sum(d_i)+streams: for each stream the scaled class embeddings, K,d_i; then each stream's bias, K,1."""

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, features))

    def set_classes(self, streams: list[Tensor]) -> None:
        """Take what `embed_classes` gives for each stream, K,d_i+1."""
        scaled, biases = [stream[:, :-1] for stream in streams], [stream[:, -1:] for stream in streams]
        self.weight.copy_(torch.cat([*scaled, *biases], dim=1))

    def forward(self, feature: Tensor) -> Tensor:
        """Return logits, B,K, in float32: in bfloat16, scaled cosines would tie."""
        with torch.autocast(feature.device.type, enabled=False):
            return feature.float() @ self.weight.T


@torch.no_grad()
def embed_classes(config: EncoderConfig, role: str, texts: list[list[str]], load: WeightLoader, seed: int) -> Tensor:
    """Return the scaled embeddings of K classes, each of its texts, and their biases, K,d+1.

    `role`: the encoder's name in `clef.weights`. `seed`: gives random weights, as those of the image encoder. Raises
    SetupError where the model's tokenizer is not on this machine.
    """
    tokenize = _tokenizer(config.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_open_clip(_model_of(config.network)).eval()
    load(role, model)
    means = [F.normalize(model.encode_text(tokenize(each), normalize=True).mean(0), dim=0) for each in texts]
    bias = getattr(model, "logit_bias", None)
    biases = torch.full((len(texts), 1), 0.0 if bias is None else float(bias))
    return torch.cat([model.logit_scale.exp() * torch.stack(means), biases], dim=1).float()


def _tokenizer(network: str) -> Callable[[list[str]], Tensor]:
    """Return what turns texts into numbers for an open_clip model; that of CLIP's own is part of the package."""
    import open_clip

    try:
        tokenizer: Callable[[list[str]], Tensor] = open_clip.get_tokenizer(_model_of(network).partition("/")[0])
    except (ImportError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SetupError(
            f"{network}: its tokenizer is one of Hugging Face's, which needs the package transformers and, at first, "
            f"the internet ({reason:.150}); run it once where there is, or name a model with CLIP's tokenizer, such "
            "as open_clip:ViT-B-16/openai"
        ) from None
    return tokenizer


def _model_of(network: str) -> str:
    """Return NAME/PRETRAINED of open_clip:NAME/PRETRAINED."""
    return network.partition(":")[2]
