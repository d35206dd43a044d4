"""A grid as one HTML page that needs no other file and no network: its tables, figures and examples. No torch."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from clef.results.formats import Table
from clef.results.frame import Gathered
from clef.results.notes import WARNING
from clef.results.tables import by_set


@dataclass(frozen=True)
class Image:
    """A picture of a page, in PNG; `about`: its dataset as tables call it, empty where it is about several."""

    about: str
    name: str
    caption: str
    png: bytes
    width: int | None = None
    """Pixels on the page; None: as it is."""

    @property
    def uri(self) -> str:
        """As a page holds it."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Section:
    """What a page shows of a dataset, as one protocol has it."""

    number: int
    title: str
    tables: list[Table]
    figures: list[Image]
    examples: list[Image]


def render(gathered: Gathered, figures: Iterable[Image], examples: Iterable[Image], remarks: list[str]) -> str:
    """The page. `remarks`: what it lacks, and why. The same numbers and pictures give the same bytes."""
    figures, examples = list(figures), list(examples)
    sections = [
        Section(number, name, tables, _about(figures, name), _about(examples, name))
        for number, (name, tables) in enumerate(by_set(gathered), 1)
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        grid=gathered.grid,
        done=len(gathered.runs) - len(gathered.missing),
        planned=len(gathered.runs),
        missing=gathered.missing,
        warnings=_warnings(sections),
        remarks=remarks,
        overall=_about(figures, ""),
        sections=sections,
    )


def _about(images: list[Image], name: str) -> list[Image]:
    return [image for image in images if image.about == name]


def _warnings(sections: list[Section]) -> list[str]:
    """All that tables warn of, once, and of which datasets."""
    found: dict[str, list[str]] = {}
    for part in sections:
        for note in dict.fromkeys(note for table in part.tables for note in table.notes if note.startswith(WARNING)):
            found.setdefault(note.removeprefix(WARNING), []).append(part.title)
    return [f"{'; '.join(titles)}: {warning}" for warning, titles in found.items()]
