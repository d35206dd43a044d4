"""HTML pages that need no other file and no network: one base template and one style sheet for all of them.

A page is a template that extends `base.html.j2`. It lies next to the code that renders it.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_ROOT = Path(__file__).parents[1]


def render_page(template: str, **values: Any) -> str:
    """Return a page as text. `template` is its path below `clef/`. The same values give the same bytes."""
    environment = Environment(
        loader=FileSystemLoader(_ROOT), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(**values)
