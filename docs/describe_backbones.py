"""`python -m docs.describe_backbones` writes the page on the backbones: sizes, inputs, recipes, what papers state.

`docs/backbones.md` is its output, and a test holds it to that. Everything comes from the recipes and the networks:
those are built of fake tensors, which have shapes but no values, so nothing is trained and no weights are read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from clef import io
from clef.config import AnyInput, BoxesConfig, CellConfig, DepthConfig, InputConfig, InputName, resolve
from clef.config.backbones import BACKBONES
from clef.config.recipes import about_backbone
from clef.console import out
from clef.data.transforms import POINT_SHAPES
from clef.datasets import cards
from clef.errors import argument_parser, run_command
from clef.models import Backbone, build_backbone
from clef.yaml_config import merge, nest

FAKE = FakeTensorMode()


@dataclass(frozen=True)
class Variant:
    """A backbone as its recipe has it, or with `settings` besides."""

    name: str
    label: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def cell(self, dataset: str) -> CellConfig:
        """Return its vanilla cell on a dataset."""
        return resolve.resolve(merge({"dataset": dataset, "backbone": self.name, "method": "vanilla"}, self.settings))

    def network(self, dataset: str) -> Backbone:
        """Return the network of that cell, of fake tensors."""
        config = self.cell(dataset)
        classes, vad = len(cards.load(dataset).classes), config.loss.vad_weight > 0
        with FAKE:
            return build_backbone(config.backbone, classes, vad, lambda encoder, network: None).eval()

    @property
    def title(self) -> str:
        """Return how tables call it."""
        title = f"[{about_backbone(self.name)['title']}](#{self.name})"
        return f"{title}, {self.label}" if self.label else title


def variants() -> list[Variant]:
    """Return every backbone as its recipe has it, each followed by the variants that the recipe names."""
    found = []
    for name in BACKBONES:
        found.append(Variant(name))
        for entry in about_backbone(name).get("variants", []):
            found.append(Variant(name, entry["label"], nest({"backbone.name": name, **entry["set"]})))
    return found


VARIANTS = variants()


def shape(name: InputName, config: AnyInput) -> tuple[int, ...]:
    """Return the shape of one sample of an input."""
    if isinstance(config, InputConfig | DepthConfig):
        return (1 if isinstance(config, DepthConfig) else 3, *config.shape)
    return (config.count, 4) if isinstance(config, BoxesConfig) else POINT_SHAPES[name]


def flops(network: Backbone, config: CellConfig) -> int:
    """Return the floating-point operations of a sample, forward: a multiply-add is two; only products count.

    Those of frozen encoders don't: their features are computed once.
    """
    with FAKE, FlopCounterMode(display=False) as counter, torch.no_grad():
        batch: dict[str, Any] = {"valid": {}, "target": torch.ones(1, network.classes)}
        batch["features"] = {encoder.role: torch.ones(1, encoder.dim) for encoder in network.frozen_encoders()}
        for name in network.reads:
            batch[name] = torch.ones(1, *shape(name, config.inputs.present[name]))
            batch["valid"][name] = torch.ones(1, dtype=torch.bool)
        network(batch)
    return int(counter.get_total_flops())


def document() -> str:
    """Return the whole page as Markdown."""
    parts = [_HEAD, _table(_SIZES, map(_size, VARIANTS)), _SIZES_NOTE]
    recipes = [variant for variant in VARIANTS if not variant.label]
    parts += ["## Recipes", _table(_RECIPES, map(_recipe, recipes)), _RECIPES_NOTE]
    parts += [_section(name) for name in BACKBONES]
    return "\n\n".join(parts) + "\n"


_HEAD = """# The backbones

`python -m docs.describe_backbones --write docs/backbones.md` writes this page.
It takes everything from `configs/backbones/` and from the networks themselves.

## Sizes"""
_SIZES = ("backbone", "inputs", "feature", "parameters, EMOTIC", "parameters, CAER-S", "GFLOPs")
_SIZES_NOTE = "\n".join(
    (
        "Parameters are those of the vanilla model: on EMOTIC with 26 classes (and valence, arousal and dominance where"
        " the recipe trains them), on CAER-S with 7.",
        "GFLOPs are of one sample's forward pass on EMOTIC, and a multiply-add counts as two operations.",
        "Only matrix products and convolutions count, and a complex product counts as a real one.",
        "Frozen encoders are not counted: their features are computed once, for all cells.",
        "`backbone.width` scales all channels, for trials (of `encoders`, the fusion); 1 is the size above.",
    )
)
_RECIPES = ("backbone", "loss on EMOTIC", "optimizer", "learning rate", "epochs", "batch", "weights")
_RECIPES_NOTE = "\n".join(
    (
        "On CAER-S cross-entropy takes the place of the categories' loss, and valence, arousal and dominance are not"
        " trained.",
        "All else is the same.",
    )
)


def _size(variant: Variant) -> tuple[str, ...]:
    emotic = variant.network("emotic")
    config = variant.cell("emotic")
    inputs = ", ".join(f"{name} {_short(name, config.inputs.present[name])}" for name in emotic.reads)
    counts = [sum(p.numel() for p in net.parameters()) for net in (emotic, variant.network("caer_s"))]
    millions = (f"{count / 1e6:.2f} M" for count in counts)
    return variant.title, inputs, str(emotic.feature_dim), *millions, f"{flops(emotic, config) / 1e9:.2f}"


def _short(name: InputName, config: AnyInput) -> str:
    sizes = shape(name, config)
    return "x".join(map(str, sizes[1:] if len(sizes) == 3 else sizes))


def _recipe(variant: Variant) -> tuple[str, ...]:
    config = variant.cell("emotic")
    optimizer, schedule = config.optimizer, config.schedule
    momentum = f" {optimizer.momentum:g}" if optimizer.name == "sgd" else ""
    decay = f", weight decay {optimizer.weight_decay:g}" if optimizer.weight_decay else ""
    course = {"step": f"times {schedule.gamma:g} every {schedule.step_size} epochs"}.get(schedule.name, schedule.name)
    new = optimizer.head_lr_multiplier
    rate = f"{optimizer.lr:g}" + (f" ({optimizer.lr * new:g} new layers)" if new != 1 else "") + f", {course}"
    start = config.backbone.weights | {name: stream.network for name, stream in config.backbone.streams.items()}
    weights = ", ".join(f"{encoder}: {name}" for encoder, name in start.items())
    return (
        variant.title,
        _loss(config),
        f"{optimizer.name}{momentum}{decay}",
        rate,
        str(config.epochs),
        str(config.batch_size),
        weights or "none",
    )


def _loss(config: CellConfig) -> str:
    weight = config.loss.categories_weight
    terms = [f"{weight:g} {config.loss.categories}" if weight != 1 else str(config.loss.categories)]
    if config.loss.vad_weight:
        terms.append(f"{config.loss.vad_weight:g} {config.loss.vad}")
    multiplicative = getattr(config.backbone, "multiplicative_weight", 0)
    if multiplicative:
        terms.append(f"{multiplicative:g} multiplicative" if multiplicative != 1 else "multiplicative")
    return " + ".join(terms)


def _section(name: str) -> str:
    content = about_backbone(name)
    variants = [variant.label for variant in VARIANTS if variant.name == name and variant.label]
    lines = [f'## {content["title"]} <a id="{name}"></a>', "", f"{content['paper']}. `backbone={name}`"]
    lines[-1] += f"; also {', '.join(variants)}." if variants else "."
    for kind, heading in (("stated", "Stated in the paper, or in its code:"), ("chosen", "Chosen here:")):
        if remarks := content.get(kind):
            lines += ["", heading, "", *(f"- {line}" for line in remarks)]
    return "\n".join(lines)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    rule = tuple("---" for _ in head)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def main() -> int:
    """Write the page to the terminal, or where `--write` says."""
    parser = argument_parser("python -m docs.describe_backbones", __doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page there, not to the terminal")
    args = parser.parse_args()
    text = document()
    if args.write:
        io.write(Path(args.write), text)
        out.print(f"{args.write}: written", markup=False)
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    run_command(main)
