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
from typing import Any

import torch
from torch import nn

from clef import registry
from clef.errors import ConfigError, SetupError
from clef.networks import NetworkRecord, version

Size = tuple[int, int]


def build_named(name: str, size: Size | None = None) -> nn.Module:
    """Return the network of a name, with random weights; `size`: height and width of its images, where not its own.

    Raises ConfigError for a name that does not exist, or whose network takes no images of that size, and SetupError
    where the library is not installed.
    """
    library, _, model = name.partition(":")
    if library not in _BUILD:
        network = registry.find("network", name, {})()
        if not isinstance(network, nn.Module):
            raise ConfigError(f"{name}: gives no torch.nn.Module, but a {type(network).__name__}")
        return network
    version(library)
    try:
        return _BUILD[library](model, size)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:  # what libraries raise for what they lack
        reason = " ".join(str(error).split())
        raise ConfigError(f"{name}: {library} can't build it{f' for images of {size}' if size else ''}: {reason:.300}"
                          ) from None  # fmt: skip


def _build_timm(model: str, size: Size | None) -> nn.Module:
    import timm

    own = tuple(timm.get_pretrained_cfg(model).input_size[1:]) if timm.is_model(model.partition(".")[0]) else size
    # A network of fixed size is a transformer with a table of positions, which this argument has it interpolate.
    other = size not in (None, own) and timm.get_pretrained_cfg(model).fixed_input_size
    network: nn.Module = timm.create_model(
        model, pretrained=False, num_classes=0, **({"dynamic_img_size": True} if other else {})
    )
    return network


def _build_open_clip(model: str, size: Size | None) -> nn.Module:
    visual: nn.Module = build_open_clip(model, size).visual  # type: ignore[assignment]
    visual.output_tokens = False  # CoCa's tower would return those besides the pooled feature
    return visual


def build_open_clip(model: str, size: Size | None = None) -> nn.Module:
    """Return a whole open_clip model NAME/PRETRAINED, encoders of images and of texts, with random weights."""
    import open_clip

    architecture, _, tag = model.partition("/")
    quick = (open_clip.get_pretrained_cfg(architecture, tag) or {}).get("quick_gelu", False)
    whole: nn.Module = open_clip.create_model(
        architecture,
        force_quick_gelu=quick,
        force_image_size=size,
        device=torch.get_default_device(),  # open_clip would move it to the CPU
        pretrained_image=False,
        pretrained_text=False,
    )
    return whole


def _build_torchvision(model: str, size: Size | None) -> nn.Module:
    from torchvision import models

    network: nn.Module = models.get_model(model.partition("/")[0], weights=None)
    heads = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise ValueError("it has no linear classifier to leave out")
    network.set_submodule(heads[-1], nn.Identity())
    return network


_BUILD: dict[str, Callable[[str, Size | None], nn.Module]] = {
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
    config = timm.get_pretrained_cfg(model)
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
    published = open_clip.get_pretrained_cfg(architecture, tag)
    data = merge_preprocess_dict(asdict(PreprocessCfg()), published)
    size = open_clip.get_model_config(architecture)["vision_cfg"]["image_size"]
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
    weights = models.get_model_weights(architecture)
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


def main(names: list[str]) -> None:
    """Print one line of JSON: by name, the record, or `error` and why there is none."""
    answers: dict[str, Any] = {}
    for name in names:
        try:
            answers[name] = asdict(record_of(name))
        except (ConfigError, SetupError) as error:
            text = str(error)
            answers[name] = {"error": text if text.startswith(name) else f"{name}: {text}"}
    print(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1:])
