"""JSON that every other program reads."""

import json
import math
from typing import Any

import numpy as np
import pytest

from clef import io


def strictly(text: str) -> Any:
    """What JSON says, NaN and Infinity not being words of it (RFC 8259, section 6)."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("indent", [None, 1])
def test_numbers_without_a_value_are_null(indent: int | None) -> None:
    content = {"a": [1, math.nan, (math.inf, "NaN")], "b": {"c": -math.inf, "d": 0.1}, "e": np.float64("nan")}
    expected = {"a": [1, None, [None, "NaN"]], "b": {"c": None, "d": 0.1}, "e": None}
    assert strictly(io.to_json(content, indent)) == expected


def test_finite_content_is_written_as_json_writes_it() -> None:
    content = {"ü": [0.1, 1e300, None, True]}
    assert io.to_json(content) == json.dumps(content, indent=1, ensure_ascii=False)
