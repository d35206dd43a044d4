"""Networks by name, from timm, open_clip, torchvision or a module of yours: each from images B,3,H,W to features B,dim.

A library's feature is its own pooled one: timm's without the classifier, what open_clip's `encode_image` returns, and
what torchvision's classifier reads. `python -m clef.models.named NAME ...` prints the records that `clef.networks`
keeps, as JSON. The libraries are imported when they are first needed.
"""

import difflib
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from clef import registry
from clef.errors import ConfigError
from clef.networks import NetworkRecord, version


def build_named(name: str) -> nn.Module:
    """Return the network of a name, with random weights.

    Raises ConfigError for a name that does not exist, and SetupError where the library is not installed.
    """
    library, _, model = name.partition(":")
    if library not in _BUILD:
        network = registry.find("network", name, {})()
        if not isinstance(network, nn.Module):
            raise ConfigError(f"{name}: gives no torch.nn.Module, but a {type(network).__name__}")
        return network
    version(library)
    try:
        return _BUILD[library](model)
    except (RuntimeError, ValueError) as error:  # what libraries raise for a name that they lack
        raise ConfigError(f"{name}: {library} can't build it: {' '.join(str(error).split()):.300}") from None


def _build_timm(model: str, **settings: Any) -> Any:
    import timm

    config = timm.get_pretrained_cfg(model)
    try:
        if config and config.fixed_input_size:  # a table of positions, to be interpolated for images of another size
            return timm.create_model(model, num_classes=0, dynamic_img_size=True, **settings)
    except TypeError:  # a network that takes its own size alone
        pass
    return timm.create_model(model, num_classes=0, **settings)


def load_timm(model: str, state: dict[str, Tensor], in_order: bool) -> tuple[nn.Module, list[str]]:
    """Return timm's network with the weights that timm makes of those published, and which of its own are missing.

    `in_order`: the names are others, the order of the network with its classifier is the same (as are all shapes).
    """
    import timm

    if in_order:
        full: Any = timm.create_model(model)
        if len(state) != len(full.state_dict()):
            raise ValueError(f"{len(state)} tensors, where the network has {len(full.state_dict())}")
        full.load_state_dict(timm.models.remap_state_dict(state, full, allow_reshape=False))
        full.reset_classifier(0)
        return full, []
    missing: list[str] = []
    original = nn.Module.load_state_dict

    def load(module: nn.Module, *arguments: Any, **settings: Any) -> Any:
        result = original(module, *arguments, **settings)
        missing.extend(result.missing_keys)
        return result

    with mock.patch.object(nn.Module, "load_state_dict", load):  # timm only logs what is missing
        network = _build_timm(model, pretrained=True, pretrained_cfg_overlay={"state_dict": state})
    return network, missing


def _build_open_clip(model: str) -> Any:
    visual = build_open_clip(model).visual
    visual.output_tokens = False  # CoCa's tower would return those besides the pooled feature
    return visual


def build_open_clip(model: str) -> Any:
    """Return a whole model NAME/PRETRAINED of open_clip, with its encoder of texts, and random weights."""
    import open_clip

    architecture, _, tag = model.partition("/")
    with mock.patch("logging.warning"):  # that it has no weights yet
        return open_clip.create_model(
            architecture,
            force_quick_gelu=(open_clip.get_pretrained_cfg(architecture, tag) or {}).get("quick_gelu", False),
            pretrained_text=False,
            device=torch.get_default_device(),  # open_clip would move it to the CPU
        )


def load_open_clip(model: nn.Module, path: Path) -> list[str]:
    """Load a checkpoint into a whole model of open_clip, as it does itself; return the weights that are missing."""
    import open_clip

    model_any: Any = model
    return list(getattr(open_clip.load_checkpoint(model_any, str(path)), "missing_keys", ()))


def _build_torchvision(model: str) -> Any:
    from torchvision import models

    architecture, _, tag = model.partition("/")
    own: Any = models.get_model_weights(architecture)[tag or "DEFAULT"].meta
    is_transformer = architecture.startswith("vit_")  # whose table of positions has the size that it was trained at
    network: nn.Module = models.get_model(
        architecture, **({"image_size": own["min_size"][0]} if is_transformer else {})
    )
    heads = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise ValueError("it has no linear classifier to leave out")
    network.set_submodule(heads[-1], nn.Identity())
    return network


_BUILD: dict[str, Callable[[str], nn.Module]] = {
    "timm": _build_timm,
    "open_clip": _build_open_clip,
    "torchvision": _build_torchvision,
}


# ---- What the libraries say ----


def record_of(name: str) -> NetworkRecord:
    """Return what its library says of a network. Raises ConfigError for a name that it does not have."""
    library, _, model = name.partition(":")
    version(library)
    facts = _FACTS[library](model)
    with torch.device("meta"):  # shapes without numbers: in a moment, and without memory
        dim = build_named(name).eval()(torch.empty(1, 3, *facts["size"])).shape[1]
    return NetworkRecord(name=name, dim=dim, **facts)


def _timm_facts(model: str) -> dict[str, Any]:
    import timm
    from timm.data import resolve_data_config

    _check("timm", model, {*timm.list_models(), *timm.list_pretrained()})
    config: Any = timm.get_pretrained_cfg(model)
    data = resolve_data_config({}, pretrained_cfg=config.to_dict())
    return {
        "size": data["input_size"][1:],
        "mean": data["mean"],
        "std": data["std"],
        "interpolation": data["interpolation"],
        "license": config.license,
        "hub": config.hf_hub_id,
        "file": config.hf_hub_filename,
        "url": config.url or None,
    }


def _open_clip_facts(model: str) -> dict[str, Any]:
    import open_clip
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    architecture, _, tag = model.partition("/")
    _check("open_clip", architecture, open_clip.list_models())
    _check(f"open_clip's {architecture}", tag, open_clip.list_pretrained_tags_by_model(architecture))
    published: Any = open_clip.get_pretrained_cfg(architecture, tag)
    data = merge_preprocess_dict(asdict(PreprocessCfg()), published)
    size: Any = open_clip.get_model_config(architecture)["vision_cfg"]["image_size"]
    repository, _, file = published.get("hf_hub", "").rpartition("/")
    return {
        "size": (size, size) if isinstance(size, int) else tuple(size),
        "mean": data["mean"],
        "std": data["std"],
        "interpolation": data["interpolation"],
        "hub": repository or None,
        "file": file or None,
        "url": published.get("url") or None,
    }


def _torchvision_facts(model: str) -> dict[str, Any]:
    from torchvision import models

    architecture, _, tag = model.partition("/")
    _check("torchvision", architecture, models.list_models(module=models))
    weights: Any = models.get_model_weights(architecture)
    _check(f"torchvision's {architecture}", tag or "DEFAULT", [*weights.__members__])
    chosen = weights[tag or "DEFAULT"]
    data = chosen.transforms()
    side = data.crop_size[0]
    return {
        "size": (side, side),
        "mean": tuple(data.mean),
        "std": tuple(data.std),
        "interpolation": data.interpolation.value,
        "license": chosen.meta.get("license", "bsd-3-clause"),
        "url": chosen.url,
    }


_FACTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "timm": _timm_facts,
    "open_clip": _open_clip_facts,
    "torchvision": _torchvision_facts,
}


def _check(library: str, name: str, valid: Iterable[str]) -> None:
    """Refuse a name that a library does not have; there are too many to list them."""
    valid = set(valid)
    if name in valid:
        return
    near = difflib.get_close_matches(name, valid, n=3) or sorted(v for v in valid if name.lower() in v.lower())[:3]
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise ConfigError(f"{library} has no {name!r}{hint}")


def answer(names: Iterable[str]) -> dict[str, Any]:
    """Return by name what JSON can hold of its record, or `error` and why there is none."""
    answers: dict[str, Any] = {}
    for name in names:
        try:
            answers[name] = asdict(record_of(name))
        except Exception as error:  # of a library: the other names are answered all the same
            text = " ".join(str(error).split()) or type(error).__name__
            answers[name] = {"error": text if text.startswith(name) else f"{name}: {text:.300}"}
    return answers


if __name__ == "__main__":
    print(json.dumps(answer(sys.argv[1:])))
