"""Measurements as tables on the terminal and as JSON on disk."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from benchmarks import common
from benchmarks.common import Spread, ratio, spread
from benchmarks.peers import CACHE, JPEG, Rates, Verdict
from clef import io
from clef.console import out

STYLES = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}


def show_machine(host: Mapping[str, Any]) -> None:
    """Processor, cores and versions."""
    versions = ", ".join(f"{name} {number}" for name, number in host["versions"].items())
    text = f"{host['cpu']}, {host['cores']} cores, {host['memory_gb']} GB; Python {host['python']}, {versions}"
    out.print(f"{host['date']}: {text}", markup=False)
    if warning := common.busy(host):
        out.print(warning, style="yellow")


def show_facts(facts: Mapping[str, Any]) -> None:
    """What the rates rest on, in a few lines."""
    data, setting = facts["data"], facts["setting"]
    show_machine(facts["machine"])
    members = ", ".join(f"{kind} {size / 1024:.1f} KB" for kind, size in data["bytes_per_member"].items())
    workers = setting["workers"]
    source, stored = ("x".join(map(str, data[name])) for name in ("source_image", "stored_frame"))
    lines = [
        f"{data['title']}: {data['people']} people read; images {source}, stored {stored}; {members}; page cache warm",
        f"{setting['cell']}: {', '.join(setting['inputs'])}; batches of {setting['batch']}; {workers} workers",
    ]
    if left_out := setting["inputs_left_out"]:
        lines.append(f"not colour images, so left out: {', '.join(left_out)}")
    for line in lines:
        out.print(line, markup=False)


def rates_table(title: str, rates: Rates, more: Mapping[str, Mapping[str, str]]) -> Table:
    """A row a contender: the median of its passes, and between what they lie. `more`: columns, and what rows say."""
    table = Table(title=escape(title), title_justify="left")
    table.add_column("in turns")
    for column in ("people/s", "min–max", *more):
        table.add_column(column, justify="right")
    for name, values in rates.items():
        found = spread(values)
        others = [column.get(name, "") for column in more.values()]
        table.add_row(name, f"{found.median:,.0f}", f"{found.low:,.0f}–{found.high:,.0f}", *others)
    return table


def loaders_table(rates: Rates, images: Mapping[str, float], workers: int) -> Table:
    """Also the JPEGs that are decoded a second (`images`: for each person), and how ours from JPEG compares."""
    jpegs = {name: f"{spread(rates[name]).median * count:,.0f}" for name, count in images.items()}
    others = [name for name in rates if name not in (JPEG, CACHE)]
    times = {name: f"{_number(ratio(rates, JPEG, name).median)}×" for name in others}
    return rates_table(f"whole loaders, {workers} workers", rates, {"JPEGs/s": jpegs, f"{JPEG} is": times})


def stages_table(one: Mapping[str, float], every: Mapping[str, float], workers: int) -> Table:
    """A row a stage: its rate alone in one process, and in all of them at once."""
    table = Table(title="stages alone, people/s", title_justify="left")
    table.add_column("stage")
    for column in ("1 process", f"{workers} processes (ceiling)"):
        table.add_column(column, justify="right")
    for name in every:
        table.add_row(name, f"{one[name]:,.0f}" if name in one else "", f"{every[name]:,.0f}")
    return table


def verdicts_table(verdicts: Sequence[Verdict]) -> Table:
    """A row a ratio: its median over the rounds, between what it lies, and whether the median meets the target."""
    table = Table(title="ratios within a round", title_justify="left")
    table.add_column("ratio")
    for column in ("median", "min–max", "target", ""):
        table.add_column(column, justify="right" if column else "left")
    for verdict in verdicts:
        low, high = _number(verdict.value.low), _number(verdict.value.high)
        target = "" if verdict.bar is None else f"{'>' if verdict.above else '≥'} {verdict.bar:g}"
        row = (verdict.what, _number(verdict.value.median), f"{low}–{high}", target, STYLES[verdict.met])
        table.add_row(*row)
    return table


def steps_table(loops: Mapping[str, Spread], overhead: Spread, bar: float) -> Table:
    """A row a loop, in microseconds a step, and what ours takes longer within a round."""
    table = Table(title="step loops, microseconds a step", title_justify="left")
    for column in ("loop", "median", "min–max", "target", ""):
        table.add_column(column, justify="left" if column == "loop" else "right")
    for name, found in loops.items():
        table.add_row(name, f"{found.median:,.0f}", f"{found.low:,.0f}–{found.high:,.0f}", "", "")
    met = STYLES[overhead.median <= bar]
    low, high = f"{overhead.low:,.0f}", f"{overhead.high:,.0f}"
    table.add_row("ours − bare", f"{overhead.median:,.0f}", f"{low}–{high}", f"≤ {bar:,.0f}", met)
    return table


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def as_json(rates: Rates, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Rates of every pass, what they come to, and the verdicts."""
    return {
        "passes": {name: {"rates": values, **asdict(spread(values))} for name, values in rates.items()},
        "verdicts": [asdict(verdict) | {"met": verdict.met} for verdict in verdicts],
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """The JSON file."""
    io.write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    out.print(f"written: {path}", markup=False, soft_wrap=True)
