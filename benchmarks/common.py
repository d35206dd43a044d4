"""What all benchmarks share: options, facts about the machine, rounds, contenders in processes, tables and JSON.

Rates change from minute to minute with whatever else the machine does. So contenders take turns (A B C A B C ...), and
ratios are taken within a round, where such changes hit all of them alike. Each contender runs in a process of its own:
none inherits another's libraries, threads or memory.

This module does not import torch: the grid benchmark measures processes without it.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context, get_start_method, parent_process, set_start_method
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from clef import io, process
from clef.console import Progress, add_force_option, check_outputs, out
from clef.errors import SetupError

IMAGE_SIZE = "1280x853"
"""The size of many photographs in EMOTIC."""
PACKAGES = (
    "clef-caer", "torch", "torchvision", "numpy", "pillow", "simplejpeg", "opencv-python-headless", "webdataset",
    "litdata",
)  # fmt: skip
BUSY_LOAD = 0.3
"""The load for each core above which the report says that rates are not those of the machine."""
Run = Callable[[], float]
"""One measured pass; returns a rate or a duration."""
Calls = dict[str, tuple[Any, ...]]
"""For each contender a function and its arguments, all of which can be pickled; the function is a `Run` of them."""
Rates = Mapping[str, list[float]]
"""What each contender's passes returned, one value a round."""


def add_dataset_options(parser: argparse.ArgumentParser, people: int) -> None:
    """Add the options of the dataset that is made when no other is named."""
    parser.add_argument("--people", type=positive, default=people, help=f"people in it (default: {people})")
    text = f"its images (default: {IMAGE_SIZE})"
    parser.add_argument("--image-size", type=_image_size, default=IMAGE_SIZE, metavar="WxH", help=text)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make it in DIR and keep it for the next time")


def add_report_options(parser: argparse.ArgumentParser, command: str, rounds: int) -> None:
    """Add the number of rounds, and where the JSON file goes."""
    parser.add_argument("--rounds", type=positive, default=rounds, help=f"medians are over so many (default: {rounds})")
    path = Path(f"results/bench/{command}.json")
    parser.add_argument("--json", type=Path, default=path, metavar="PATH", help=f"default: {path}")
    add_force_option(parser)


def parse(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Parse the arguments; refuse a file for --json that is there already, unless it is the default."""
    args = parser.parse_args(arguments)
    check_outputs({"--json": args.json if args.json != parser.get_default("json") else None}, [], args.force)
    return args


def positive(text: str) -> int:
    """Parse a whole number of 1 or more, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: at least 1 is expected")
    return value


def _image_size(text: str) -> tuple[int, int]:
    width, by, height = text.partition("x")
    if not (by and width.isdecimal() and height.isdecimal() and min(int(width), int(height)) >= 64):
        message = f"{text!r}: WIDTHxHEIGHT is expected, such as {IMAGE_SIZE}, 64 pixels at least"
        raise argparse.ArgumentTypeError(message)
    return int(width), int(height)


@contextmanager
def work_folder(keep: Path | None = None) -> Iterator[Path]:
    """Yield `keep`, or a temporary folder that is removed afterwards."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="clef-bench-") as temporary:
            yield Path(temporary)
        return
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.resolve()


def machine() -> dict[str, Any]:
    """Return what rates depend on. `load`: the average number of processes that wanted a core in the last minute."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": process.cores(),
        "load": round(os.getloadavg()[0], 1),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: number for name in PACKAGES if (number := _version(name))},
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def busy_warning(host: Mapping[str, Any]) -> str | None:
    """Return a warning if the machine had other work when the benchmark began."""
    if host["load"] <= BUSY_LOAD * host["cores"]:
        return None
    return f"this machine is busy (load {host['load']} on {host['cores']} cores): these are not its rates"


def show_machine(host: Mapping[str, Any]) -> None:
    """Print processor, cores and versions, and the warning of a busy machine."""
    versions = ", ".join(f"{name} {number}" for name, number in host["versions"].items())
    text = f"{host['cpu']}, {host['cores']} cores, {host['memory_gb']} GB; Python {host['python']}, {versions}"
    out.print(f"{host['date']}: {text}", markup=False)
    if warning := busy_warning(host):
        out.print(warning, style="yellow")


def interleaved(runs: Mapping[str, Run], rounds: int, progress: Progress) -> dict[str, list[float]]:
    """Let the runs take turns and return their values, one a round.

    A first round, which warms caches of all kinds and makes copies, is not counted.
    """
    rates: dict[str, list[float]] = {name: [] for name in runs}
    done, total = 0, len(runs) * (rounds + 1)
    for number in range(rounds + 1):
        for name, run in runs.items():
            rate = run()
            if number:
                rates[name].append(rate)
            done += 1
            progress("measured", done, total)
    return rates


@contextmanager
def in_processes(calls: Calls) -> Iterator[dict[str, Run]]:
    """Yield a `Run` for each call, which makes it in a process of its own; the processes end with the context."""
    with ExitStack() as stack:
        yield {name: _in_process(stack, name, *call) for name, call in calls.items()}


def _in_process(stack: ExitStack, name: str, function: Callable[..., float], *arguments: object) -> Run:
    # Spawned, because a fork would hold what this process has imported.
    pool = ProcessPoolExecutor(1, get_context("spawn"), _start_process, (get_start_method(),))
    stack.enter_context(pool)

    def run() -> float:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise SetupError(f"{name}: its process was killed; is there enough memory?") from None

    return run


def _start_process(method: str) -> None:
    """Set the platform's own start method for further processes: spawned ones take seconds to start."""
    ignore_interrupts()
    set_start_method(method, force=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the command, which ends this process, so that one message is printed and not several."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_with_parent() -> None:
    """End this process when its parent has died: a killed command can't do it."""
    if parent := parent_process():
        parent.join()
    os._exit(1)


@dataclass(frozen=True)
class Spread:
    """A median, and the smallest and the largest of its values."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median, the smallest and the largest of some values."""
    return Spread(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Verdict:
    """A ratio of rates, and its target; no `target`: the ratio is only reported."""

    what: str
    ratio: Spread
    target: float | None = None
    strictly: bool = False
    """Whether the median must be above the target and not just at it."""

    @property
    def met(self) -> bool | None:
        """Return whether the median reaches the target."""
        if self.target is None:
            return None
        return self.ratio.median > self.target if self.strictly else self.ratio.median >= self.target


def compare(rates: Rates, over: str, under: str, target: float | None = None, strictly: bool = False) -> Verdict:
    """Return the verdict on the ratio of two contenders' rates, taken round by round."""
    ratios = [a / b for a, b in zip(rates[over], rates[under], strict=True)]
    return Verdict(f"{over} / {under}", spread(ratios), target, strictly)


def format_number(value: float) -> str:
    """Return three digits or more: 0.95, 12.3, 1,203."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def spread_cells(value: Spread) -> list[str]:
    """Return a spread as two cells of a table: median, and min–max."""
    low, high = format_number(value.low), format_number(value.high)
    return [format_number(value.median), f"{low}–{high}"]


def mark(met: bool | None) -> str:
    """Return "met", "missed" or nothing, for a table."""
    return {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[met]


def make_table(title: str, first: str, *columns: str) -> Table:
    """Return an empty table whose first column is text and whose others are numbers."""
    table = Table(title=escape(title), title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def rates_table(title: str, rates: Rates, more: Mapping[str, Mapping[str, str]]) -> Table:
    """Return a table with a row a contender. `more`: further columns, and for each the text by contender."""
    table = make_table(title, "in turns", "people/s", "min–max", *more)
    for name, values in rates.items():
        table.add_row(name, *spread_cells(spread(values)), *(column.get(name, "") for column in more.values()))
    return table


def verdicts_table(verdicts: Sequence[Verdict]) -> Table:
    """Return a table with a row a ratio, and whether its median meets the target."""
    table = make_table("ratios within a round", "ratio", "median", "min–max", "target", "")
    for verdict in verdicts:
        target = "" if verdict.target is None else f"{'>' if verdict.strictly else '≥'} {verdict.target:g}"
        table.add_row(verdict.what, *spread_cells(verdict.ratio), target, mark(verdict.met))
    return table


def write_report(path: Path, content: Mapping[str, Any]) -> None:
    """Write the JSON file and print its path."""
    io.write(path, json.dumps(content, indent=1, ensure_ascii=False, default=_to_json) + "\n")
    out.print(f"written: {path}", markup=False, soft_wrap=True)


def _to_json(value: object) -> dict[str, Any]:
    """Return a spread or a verdict as JSON holds it."""
    met = {"met": value.met} if isinstance(value, Verdict) else {}
    return vars(value) | met


def passes(rates: Rates) -> dict[str, dict[str, Any]]:
    """Return every pass of every contender and what they come to, for the JSON file."""
    return {name: {"rates": values, **vars(spread(values))} for name, values in rates.items()}
