"""The grid of debiasing methods: cells that differ in dataset, backbone, method and seed, and in nothing else."""

from clef.config import CellConfig
from clef.config import grid as grids
from clef.config.methods import METHODS
from clef.datasets import cards
from tests.launch import tiny_grid


def cells() -> list[CellConfig]:
    path = tiny_grid.ROOT / "configs/grids/debiasing.yaml"
    return grids.resolve_cells(grids.load_grid(path), str(path), {})


def test_it_has_every_combination_once() -> None:
    made = cells()
    points = {(c.dataset, c.backbone.name, c.method.name, c.seed) for c in made}
    assert len(points) == len(made) == 3 * 2 * len(METHODS) * 6
    strengths = {name: cards.load(name).generator_options.get("strength", 0.65) for name, *_ in points}
    assert sorted(strengths.values()) == [0.3, 0.65, 0.9]


def test_only_the_bias_sets_the_datasets_apart() -> None:
    plain = {}
    for config in cells():
        content = config.model_dump(exclude={"dataset", "card"})
        plain.setdefault((config.backbone.name, config.method.name, config.seed), []).append(content)
    assert all(one == found[0] for found in plain.values() for one in found)


def test_its_cells_are_small_and_need_no_weights() -> None:
    for config in cells():
        assert config.resources.gpus == 0
        assert set(config.backbone.weights.values()) <= {"none"}
        assert config.method.branch is None or config.method.branch.weights == "none"
