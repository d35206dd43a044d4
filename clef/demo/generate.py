"""Generates a demo set: plans it, draws it with a few processes, and puts it in place in one step."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress

from clef.demo import caer_s, emotic
from clef.demo.cues import ImageCues, write_image_cues
from clef.demo.world import VERSION
from clef.errors import DataError, raise_if_system_error

DemoName = Literal["emotic_demo", "caer_s_demo"]

STRENGTH = 0.65
"""The probability that the scene is the label's own kind (else it is any kind), in train, val and main's test."""
MIN_PEOPLE = 60
"""With fewer people in train, there is not a picture for each of the faults."""
FACTS_FILE = "demo.json"

LAYOUTS: dict[str, Any] = {"emotic_demo": emotic, "caer_s_demo": caer_s}
"""The module of each set. Its `plan` lays out the files and returns jobs, its `draw` draws the images of one job."""


class DemoError(DataError, ValueError):
    """A demo set can't be generated with these arguments, or at this place."""


def generate(
    name: DemoName,
    root: Path,
    *,
    seed: int = 0,
    strength: float = STRENGTH,
    people: int | None = None,
    workers: int = 2,
) -> None:
    """Write a demo set: `main/` in the official layout, and `shift/` with a test in which scenes are random.

    A set that is there already and was made with the same arguments is left as it is. The bytes do not depend on
    `workers`. Raises DemoError for arguments out of range, and where something else is at `root`.

    Args:
        name: Which set.
        root: The folder to write; it appears when the set is complete.
        seed: The seed of everything that is drawn.
        strength: How strongly the scene goes with the label, 0-1, in `main/`; in `shift/` it is 0.
        people: The number of people in train; the other splits keep their proportion to it.
        workers: How many processes draw.
    """
    if name not in LAYOUTS:
        raise DemoError(f"unknown demo set {name!r}; known: {', '.join(LAYOUTS)}")
    people = LAYOUTS[name].DEFAULT_PEOPLE if people is None else people
    if people < MIN_PEOPLE or not 0 <= strength <= 1 or seed < 0 or workers < 1:
        raise DemoError(
            f"people must be at least {MIN_PEOPLE}, strength 0-1, seed at least 0 and workers at least 1; "
            f"got people={people}, strength={strength}, seed={seed}, workers={workers}"
        )
    facts = {"generator": name, "version": VERSION, "seed": seed, "strength": float(strength), "people": people}
    root = Path(root)
    if _is_complete(root, facts):
        return
    with _atomic_folder(root, facts) as partial:
        layout = LAYOUTS[name]
        jobs = layout.plan(partial, seed, strength, people)
        write_image_cues(_draw_all(layout.draw, jobs, workers, name))
        (partial / FACTS_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _is_complete(root: Path, facts: dict[str, Any]) -> bool:
    """Return whether the set is at `root`. Raises DemoError where something else is there."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        existing = json.loads((root / FACTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise_if_system_error(error, root)
        raise DemoError(
            f"{root}: holds something else than a complete demo set (no readable {FACTS_FILE}); name another folder, "
            f"or move that elsewhere"
        ) from None
    if existing != facts:
        raise DemoError(
            f"{root}: holds another demo set ({existing}, not {facts}); name another folder, or move that elsewhere"
        )
    return True


@contextmanager
def _atomic_folder(root: Path, facts: dict[str, Any]) -> Iterator[Path]:
    """Give a folder beside `root` that is renamed to it when the block ends well, and removed when it does not."""
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


def _draw_all(draw: Callable[[Any], list[ImageCues]], jobs: Sequence[Any], workers: int, name: str) -> list[ImageCues]:
    """Draw the images of all jobs, and return their cues in the jobs' order."""
    image_cues = []
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"drawing {name}", total=len(jobs))
        for cues in _run_in_order(draw, jobs, workers):
            image_cues += cues
            progress.advance(task)
    return image_cues


def _run_in_order(
    draw: Callable[[Any], list[ImageCues]], jobs: Sequence[Any], workers: int
) -> Iterator[list[ImageCues]]:
    """Run the jobs and yield their results in order.

    Processes are spawned, not forked, because the caller may have threads.
    """
    if workers == 1:
        yield from map(draw, jobs)
        return
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(draw, jobs, chunksize=8)
