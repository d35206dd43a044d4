"""The results of a grid as one HTML page: its tables, figures and examples. Imports no torch."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass

from clef.results.formats import Table
from clef.results.frame import GridResults
from clef.results.notes import WARNING
from clef.results.tables import tables_by_dataset
from clef.templates import render_page


@dataclass(frozen=True)
class Image:
    """A picture on the page, as PNG."""

    about: str
    """The dataset that it shows, as tables call it; empty where it shows several."""
    name: str
    caption: str
    png: bytes
    width: int | None = None
    """Pixels on the page; None: as it is."""

    @property
    def uri(self) -> str:
        """Return the picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Section:
    """What the page shows of a dataset under one protocol."""

    number: int
    title: str
    tables: list[Table]
    figures: list[Image]
    examples: list[Image]

    def short_title(self, table: Table) -> str:
        """Return a table's title without the dataset, for the section's list of contents."""
        return table.title.removeprefix(f"{self.title}: ").removeprefix(f"{self.title}, ")


def render(gathered: GridResults, figures: Iterable[Image], examples: Iterable[Image], remarks: list[str]) -> str:
    """Return the page as HTML. The same numbers and pictures give the same bytes.

    Args:
        gathered: the results of the grid.
        figures: plots, each of one dataset or of several.
        examples: people of a dataset with their predictions.
        remarks: what the page lacks, and why.
    """
    figures, examples = list(figures), list(examples)
    sections = [
        Section(number, title, tables, _of_dataset(figures, title), _of_dataset(examples, title))
        for number, (title, tables) in enumerate(tables_by_dataset(gathered), 1)
    ]
    return render_page(
        "results/page.html.j2",
        grid=gathered.grid,
        done=len(gathered.runs) - len(gathered.missing),
        planned=len(gathered.runs),
        missing=gathered.missing,
        warnings=_collect_warnings(sections),
        remarks=remarks,
        overall=_of_dataset(figures, ""),
        sections=sections,
    )


def _of_dataset(images: list[Image], dataset: str) -> list[Image]:
    return [image for image in images if image.about == dataset]


def _collect_warnings(sections: list[Section]) -> list[str]:
    """Return each warning of the tables once, with the datasets that it concerns."""
    titles: dict[str, list[str]] = {}
    for section in sections:
        notes = (note for table in section.tables for note in table.notes if note.startswith(WARNING))
        for note in dict.fromkeys(notes):
            titles.setdefault(note.removeprefix(WARNING), []).append(section.title)
    return [f"{'; '.join(datasets)}: {warning}" for warning, datasets in titles.items()]
