"""Blanking and exchanging the context of a batch: images, boxes, kept features, and what says who has them."""

from typing import Any

import pytest
import torch

from clef.config import CONTEXT
from clef.data.batch_memory import FEATURES
from clef.data.interventions import blank, blank_context_of, exchange_context, swap_context


def batch(seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(5, *shape, generator=generator) + 1

    return {
        "index": torch.arange(5),
        "target": torch.arange(5),
        "body": draw(3, 4, 4),
        "scene": draw(3, 4, 4),
        "regions": draw(2, 4),
        "valid": {name: torch.arange(5) != 2 for name in ("body", "scene", "regions", "context")},
        FEATURES: {"context": draw(7), "body": draw(7)},
        "without_subject": {"scene": draw(3, 4, 4)},
    }  # fmt: skip


def flat(content: dict[str, Any]) -> dict[Any, torch.Tensor]:
    parts = {
        (key, name): value for key, inner in content.items() if isinstance(inner, dict) for name, value in inner.items()
    }
    return parts | {key: value for key, value in content.items() if not isinstance(value, dict)}


SHOWING = {"scene", "regions", ("valid", "scene"), ("valid", "regions"), ("valid", "context"), (FEATURES, "context")}
SHOWING |= {("without_subject", "scene")}


def test_exchange_moves_every_context_and_nothing_else() -> None:
    before, donors = flat(batch()), torch.tensor([0, 3, 1, 4, 4])
    after = flat(exchange_context(batch(), donors))
    assert before.keys() == after.keys()
    for key, values in before.items():
        assert torch.equal(after[key], values[donors] if key in SHOWING else values), key


def test_swap_takes_the_donors_contexts() -> None:
    before, donors, after = flat(batch()), flat(batch(1)), flat(swap_context(batch(), batch(1)))
    for key, values in before.items():
        assert torch.equal(after[key], donors[key] if key in SHOWING else values), key


@pytest.mark.parametrize("chosen", [[1, 0, 0, 1, 0], [0] * 5, [1] * 5])
def test_blanked_contexts_are_zeros_that_nobody_has(chosen: list[int]) -> None:
    before, mask = flat(batch()), torch.tensor(chosen, dtype=torch.bool)
    after = flat(blank_context_of(batch(), mask))
    for key, values in before.items():
        assert torch.equal(after[key][~mask], values[~mask]), key
        assert after[key][mask].any().item() == (key not in SHOWING and bool(mask.any())), key
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            flat(blank(batch(), CONTEXT)).values(),
            flat(blank_context_of(batch(), torch.ones(5, dtype=torch.bool))).values(),
            strict=True,
        )
    )
