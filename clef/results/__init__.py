"""Results of grids: gathered from cells, as DataFrames, tables, figures and a page (docs/results.md).

    from clef import results

    rows = results.rows("results/demo")
    headline = rows[(rows.metric == "mAP") & (rows.part == "score") & (rows.class_name == "")]
    headline.groupby(["backbone", "method", "split"])["value"].agg(["mean", "std"])

pandas is imported at the first call, not with this package.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from clef.results.frame import GridResults


def load(folder: str | Path) -> "GridResults":
    """Return everything that was gathered of a grid, from its folder below `results/`.

    The DataFrames `rows`, `intervals`, `curves` and `audits` hold what the CSV files of the same names hold; `missing`
    says why a cell gave no number, `runs` are the planned cells, `cards` the datasets' cards. Raises CellError where
    the folder holds no gathered grid.
    """
    from clef.results import frame

    return frame.load(folder)


def rows(folder: str | Path) -> "pd.DataFrame":
    """Return the long form of a grid: a row for each number (docs/results.md lists the columns)."""
    return load(folder).rows
