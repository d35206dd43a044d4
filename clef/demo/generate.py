"""Generates a demo set: plan it, draw it with a few processes, and put it in place in one step."""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress

from clef.demo import caer_s, emotic
from clef.demo.cues import Findings, write_of_images
from clef.demo.world import VERSION
from clef.errors import DataError

Name = Literal["emotic_demo", "caer_s_demo"]

STRENGTH = 0.65
"""How strongly the scene goes with the label, in train, val and main's test."""
FEWEST = 60
"""With fewer people in train, the faults that belong into a set would have no room."""
MARK = "demo.json"

LAYOUTS: dict[str, Any] = {"emotic_demo": emotic, "caer_s_demo": caer_s}


class DemoError(DataError, ValueError):
    """A demo set cannot be generated as asked."""


def generate(
    name: Name, root: Path, *, seed: int = 0, strength: float = STRENGTH, people: int | None = None, workers: int = 2
) -> None:
    """Write the set under `root`: `main/` in the official layout, and `shift/`, where the test's scenes are random.

    `people` is the number in train; the other splits keep their proportion. A set that is there already,
    made with the same arguments, is left as it is. The bytes do not depend on `workers`.
    """
    if name not in LAYOUTS:
        raise DemoError(f"unknown demo set {name!r}; known: {', '.join(LAYOUTS)}")
    people = LAYOUTS[name].PEOPLE if people is None else people
    if people < FEWEST or not 0 <= strength <= 1 or seed < 0 or workers < 1:
        raise DemoError(
            f"people must be at least {FEWEST}, strength 0-1, seed at least 0 and workers at least 1; "
            f"got people={people}, strength={strength}, seed={seed}, workers={workers}"
        )
    facts = {"generator": name, "version": VERSION, "seed": seed, "strength": float(strength), "people": people}
    root = Path(root)
    if _is_complete(root, facts):
        return
    with _arriving_at(root, facts) as partial:
        layout = LAYOUTS[name]
        write_of_images(_draw(layout.draw, layout.plan(partial, seed, strength, people), workers, name))
        (partial / MARK).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _is_complete(root: Path, facts: dict[str, Any]) -> bool:
    """Whether the set is there; something else in its place is an error."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        there = json.loads((root / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DemoError(
            f"{root}: is there, but is no complete demo set (no readable {MARK}); remove it first"
        ) from None
    if there != facts:
        raise DemoError(f"{root}: holds another demo set ({there}, not {facts}); remove the folder to generate it anew")
    return True


@contextmanager
def _arriving_at(root: Path, facts: dict[str, Any]) -> Iterator[Path]:
    """A folder beside `root` that takes its place when all went well, and goes away when not."""
    partial = root.parent / f".{root.name}.{uuid.uuid4().hex[:8]}.partial"
    partial.mkdir(parents=True)
    try:
        yield partial
        try:
            os.replace(partial, root)
        except OSError:
            if not _is_complete(root, facts):  # else another process was faster with the same set
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _draw(draw: Callable[[Any], list[Findings]], jobs: Sequence[Any], workers: int, name: str) -> list[Findings]:
    """Draw the jobs' images; what there is to find in each, in the jobs' order."""
    findings = []
    console = Console(stderr=True)
    with Progress(console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(f"drawing {name}", total=len(jobs))
        for found in _each(draw, jobs, workers):
            findings += found
            progress.advance(task)
    return findings


def _each(draw: Callable[[Any], list[Findings]], jobs: Sequence[Any], workers: int) -> Iterator[list[Findings]]:
    """Run the jobs; results come in their order. Processes are spawned, not forked: the caller may hold threads."""
    if workers == 1:
        yield from map(draw, jobs)
        return
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(draw, jobs, chunksize=8)
