"""Where the time of a cell on kept features goes: by stage, in matrix products and outside them."""

from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from clef.engine import run
from clef.engine.feature_cache import FrozenFeatures
from clef.engine.train_step import TrainStep
from clef.engine.trainer import Trainer

STAGES: dict[str, tuple[Any, str]] = {
    "rest of the cell": (run, "_train_and_test"),
    "rest of a step": (Trainer, "_train"),
    "features of a batch": (FrozenFeatures, "add_features"),
    "forward, backward": (TrainStep, "_compute_gradients"),
    "optimizer": (TrainStep, "_update_weights"),
    "validation": (Trainer, "_validate"),
    "test and result": (run, "_test"),
}
"""Functions; what one of them calls of the others counts for those. In the first are batches, log lines, the start."""
PRODUCTS = {"aten::addmm", "aten::mm", "aten::bmm"}
Shares = dict[str, dict[str, float]]


def measure_stages(folder: Path) -> Shares:
    """Return of a cell, which is trained here, each stage's share of the time: in `products`, and `outside` them."""
    originals = {name: getattr(owner, function) for name, (owner, function) in STAGES.items()}
    try:
        for name, (owner, function) in STAGES.items():
            setattr(owner, function, _labelled(name, originals[name]))
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            run.run_cell(folder)
    finally:
        for name, (owner, function) in STAGES.items():
            setattr(owner, function, originals[name])
    return _shares(list(profiler.events()))


def _labelled(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        with record_function(name):
            return function(*arguments, **options)

    return call


def _shares(events: list[FunctionEvent]) -> Shares:
    total, products = Counter[str](), Counter[str]()
    for event in events:
        if event.name in STAGES:
            total[event.name] += event.cpu_time_total
            if outer := _stage_around(event):
                total[outer] -= event.cpu_time_total
        elif event.name in PRODUCTS and (stage := _stage_around(event)):
            products[stage] += event.cpu_time_total
    whole = sum(total.values())
    return {
        name: {"products": products[name] / whole, "outside": (total[name] - products[name]) / whole}
        for name in STAGES
    }  # fmt: skip


def _stage_around(event: FunctionEvent) -> str | None:
    """Return the innermost stage that an event lies in."""
    parent = event.cpu_parent
    while parent is not None and parent.name not in STAGES:
        parent = parent.cpu_parent
    return None if parent is None else str(parent.name)
