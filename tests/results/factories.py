"""Results and grids on disk as trained cells leave them, written without training."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from clef.cells import audits
from clef.cells.audits import AuditRow
from clef.cells.plan_file import PlannedRun, write_plan
from clef.config.methods import METHODS
from clef.config.resolve import resolve, to_yaml
from clef.datasets import cards
from clef.results.collect import gather
from clef.results.formats import Table
from clef.results.frame import FILES, GridResults
from clef.results.tables import all_tables


def split_data(samples: int = 100, left_out: dict | None = None, notes: dict | None = None) -> dict[str, Any]:
    left = left_out or {}
    return {"listed": samples + sum(left.values()), "samples": samples, "left_out": left, "notes": notes or {}}


@cache
def _policies(protocol: str) -> dict[str, str]:
    return cards.load("emotic", protocol).policies.model_dump()


def data(protocol: str = "leak_free", policies: dict | None = None, **splits: Any) -> dict[str, Any]:
    """What a result says of its data; every split holds 100 people unless `splits` says otherwise."""
    stated = _policies(protocol) | (policies or {})
    plain = {name: split_data() for name in ("train", "val", "test", "test_shift")}
    return {"protocol": protocol, "policies": stated, "shards": "f" * 64, "splits": plain | splits}


def result(value: float, **changes: Any) -> dict[str, Any]:
    code = {"commit": changes.pop("commit", "abc"), "dirty": changes.pop("dirty", False)}
    split = {"value": value, "chance": 17.0, "samples": 100, "per_class": {}, "variants": changes.pop("variants", {})}
    shift = {**split, "value": value - 10}
    return {
        "metric": "mAP", "signature": "0" * 16, "random_init": [], "splits": {"test": split, "test_shift": shift},
        "data": data(), "environment": {"code": code, "dtype": "float32", "ranks": 1}, **changes,
    }  # fmt: skip


@cache
def config_text(dataset: str, protocol: str, method: str) -> str:
    """The config.yaml of a cell."""
    name = method if method in METHODS else "vanilla"
    settings = {"dataset": dataset, "protocol": protocol, "backbone": "emot_net", "method": name}
    return to_yaml(resolve(settings | ({"selection": "last"} if protocol == "lists" else {})))


def write_audit(folder: Path, weights: str, rows: list[AuditRow], draws: int = 5) -> None:
    """The audit of a cell, as `python -m clef.audit` leaves it, as far as a gathered grid reads it."""
    facts = {"version": audits.VERSION, "weights": weights, "draws": draws, "draws_seed": 3, "code": {"commit": "def"}}
    audits.write_audit(folder, audits.Audit(facts, rows))


def assert_same_results(first: GridResults, second: GridResults) -> None:
    """All of two grids is equal, numbers to the last bit."""
    for name in FILES:
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name), check_exact=True)
    for name in ("grid", "runs", "missing", "data", "cards"):
        assert getattr(first, name) == getattr(second, name)


class Grid:
    """A grid's folder, filled cell by cell."""

    def __init__(self, out: Path) -> None:
        self.out, self.runs = out, list[PlannedRun]()

    def add(
        self, dataset: str, backbone: str, method: str, seed: int, content: dict | None, state: str = "", **run: Any
    ) -> None:
        protocol = content["data"]["protocol"] if content and "data" in content else "leak_free"
        part = dataset if protocol == "leak_free" else f"{dataset}-{protocol}"
        name = f"{part}-{backbone}-{method}-s{seed}"
        folder = self.out / "g" / name
        folder.mkdir(parents=True)
        if content:
            metric = "mAP" if dataset.startswith("emotic") else "accuracy"
            content = content | ({"metric": metric} if "metric" in content else {})
            (folder / "result.json").write_text(json.dumps(content))
            (folder / "config.yaml").write_text(config_text(dataset, protocol, method))
        if state:
            (folder / "state.json").write_text(json.dumps({"state": "failed", "reason": state, "step": 3, "steps": 9}))
        self.runs.append(PlannedRun(name, dataset, backbone, method, seed, name, protocol=protocol, **run))

    def plan(self) -> Path:
        return write_plan(self.out, "g", self.runs)

    def tables(self) -> list[Table]:
        """The main ones, without the comparisons."""
        return [t for t in all_tables(gather(self.plan())) if t.main and "method minus" not in t.title]

    def by_title(self) -> dict[str, Table]:
        """All of them; no two are called alike."""
        found = all_tables(gather(self.plan()))
        assert len({table.title for table in found}) == len(found)
        return {table.title: table for table in found}
