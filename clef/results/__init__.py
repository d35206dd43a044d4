"""Results of grids: gathered from cells, as DataFrames, tables, figures and a page (docs/results.md).

    from clef import results

    rows = results.rows("results/demo")
    headline = rows[(rows.metric == "mAP") & (rows.part == "score") & (rows.class_name == "")]
    headline.groupby(["backbone", "method", "split"])["value"].agg(["mean", "std"])

`measures` gives the same numbers of any scores, without a grid. pandas is imported at the first call, not with this
package.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def measures(
    scores: Any, target: Any, classes: Sequence[str] | None = None, metric: str | None = None
) -> "pd.DataFrame":
    """Return every metric of scores of your own, a row for each number, as in the long form (docs/results.md).

    Args:
        scores: N,K numbers, the higher the likelier, such as logits or probabilities: an array, a list, a data frame
            or a tensor.
        target: N,K of 0 and 1 (or bool) where people may have several labels: mean average precision by all its
            conventions. Or N indices of classes, 0 to K - 1: accuracy, macro F1 and the confusion matrix.
        classes: The K names; unless given, the columns of data frames, or else the numbers from 0 on.
        metric: Which metric comes first; unless given, the usual one: mAP, or accuracy.

    The columns are `metric`, `class_name` (empty for all classes together), `value` and `chance` in percent, and
    `positives`. A class that nobody has gets no row. Raises ConfigError that says what was expected and what came, and
    CellError where nobody has a label.
    """
    import pandas as pd

    from clef.results import predictions

    arrays, names = predictions.check_own(scores, target, classes, metric)
    numbers = predictions.measures(arrays, names, None, metric)
    columns = {"metric": str, "class_name": str, "value": "float64", "chance": "float64", "positives": "Int64"}
    return pd.DataFrame([vars(number) for number in numbers], columns=list(columns)).astype(columns)
