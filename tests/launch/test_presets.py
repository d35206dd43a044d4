"""Named readings of a method in a grid, and the shipped grids of them: each plans, and trains a step."""

from pathlib import Path
from typing import Any

import pytest

from clef import networks, weights
from clef.cells import records
from clef.cells.identity import NOT_IDENTITY, compute_signature, write_config
from clef.cells.plan_file import read_plan, write_plan
from clef.config import CellConfig, EncoderConfig
from clef.config import grid as grids
from clef.config.grid import Grid
from clef.engine.run import run_cell
from clef.errors import ConfigError
from clef.yaml_config import validate
from launch import plan as plans
from launch.plan import PlannedCell
from tests.conftest import TINY
from tests.launch import tiny_grid

SHIPPED = ("ablations", "ambiguities")


def configs(**changes: Any) -> list[CellConfig]:
    grid = {"datasets": ["caer_s"], "backbones": ["emot_net"], "methods": ["vanilla", "clef"], "seeds": [0]}
    return grids.resolve_cells(validate(Grid, grid | changes, "grid"), "grid", {})


def test_a_preset_is_its_method_with_its_settings_under_its_own_name() -> None:
    [plain, other] = configs(
        methods=["clef", "no_kl"], presets={"no_kl": {"method": "clef", "set": {"method.kl.weight": 0}}}
    )
    assert (plain.method.name, other.method.name) == ("clef", "clef")
    assert (plain.method_label, other.method_label) == ("clef", "no_kl")
    assert other.name == "caer_s-emot_net-no_kl-s0"
    assert (plain.method.kl.weight, other.method.kl.weight) == (1, 0)


def test_overrides_of_a_method_reach_its_presets_which_go_before_them() -> None:
    made = configs(
        methods=["clef", "thin", "wide"],
        presets={
            "thin": {"method": "clef", "set": {"method.context_branch.width": 0.5}},
            "wide": {"method": "clef", "set": {"method.context_branch.width": 2}},
        },
        overrides=[
            {"where": {"method": "clef"}, "set": {"method.context_branch": {"network": "resnet18", "width": 1.5}}},
            {"where": {"method": "wide"}, "set": {"epochs": 3}},
        ],
    )
    branches = [(c.method.context_branch.network, c.method.context_branch.width, c.epochs) for c in made]
    assert branches == [("resnet18", 1.5, 21), ("resnet18", 0.5, 21), ("resnet18", 2, 3)]


def test_a_longer_control_stretches_its_schedule() -> None:
    [plain, long] = configs(methods=["vanilla", "long"], presets={"long": {"method": "vanilla", "epochs_times": 2}})
    assert (plain.epochs, plain.schedule.step_size) == (21, 7)
    assert (long.epochs, long.schedule.step_size) == (42, 14)


def test_what_a_preset_is_compared_with_goes_into_the_plan_and_not_into_the_signature(tmp_path: Path) -> None:
    presets = {
        "long": {"method": "vanilla", "epochs_times": 2, "against": None},
        "other": {"method": "clef", "against": "long", "set": {"epochs": 5}},
    }
    made = configs(methods=["vanilla", "clef", "long", "other"], presets=presets)
    runs = [PlannedCell(config, None, "new").as_run() for config in made]
    stated = {"vanilla": "vanilla", "clef": "vanilla", "long": None, "other": "long"}
    assert {run.method: run.against for run in runs} == stated
    assert {run.method: run.preset_of for run in runs if run.preset_of} == {"long": "vanilla", "other": "clef"}
    assert [run.method for run in runs if run.is_clef] == ["clef", "other"]
    assert read_plan(write_plan(tmp_path, "g", runs))[1] == runs
    assert len({compute_signature(made[0].model_copy(update={"against": one}), {}, {}) for one in (None, "long")}) == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"methods": ["vanilla", "x"], "presets": {"x": {"method": "clef", "against": "vanila"}}},
            "presets.x.against: 'vanila': unknown (did you mean vanilla?)",
        ),
        ({"methods": ["x"], "presets": {"x": {"method": "clef", "against": "x"}}}, "presets.x.against: 'x'"),
        ({"presets": {"clef": {"method": "clef"}}}, "presets.clef: another name is expected"),
        ({"presets": {"later": {"method": "clef"}}}, "presets.later: not among the grid's methods"),
        ({"methods": ["x"], "presets": {"x": {"method": "clf"}}}, "'clf': unknown (did you mean clef?)"),
        ({"methods": ["clef", "cleff"]}, "'cleff': unknown (did you mean clef?)"),
        (
            {"backbones": ["x"], "presets": {"x": {"backbone": "cear_net"}}},
            "'cear_net': unknown (did you mean caer_net?)",
        ),
        ({"methods": ["x"], "presets": {"x": {"backbone": "caer_net"}}}, "presets.x: not among the grid's backbones"),
        ({"methods": ["x"], "presets": {"x": {}}}, "presets.x: the method or the backbone that it is a reading of"),
        (
            {"backbones": ["x"], "presets": {"x": {"backbone": "caer_net", "against": None}}},
            "presets.x: against: only a preset of a method has it",
        ),
        (
            {"backbones": ["x"], "presets": {"x": {"backbone": "caer_net", "set": {"backbone.name": "cd_net"}}}},
            "backbone=cd_net: backbone is an axis",
        ),
        (
            {"methods": ["x"], "presets": {"x": {"method": "clef", "set": {"method.name": "vanilla"}}}},
            "method=vanilla: method is an axis",
        ),
        (
            {"methods": ["x"], "presets": {"x": {"method": "clef", "set": {"method.start_from": "@vanilla"}}}},
            "a vanilla method of this grid is expected (it has none)",
        ),
        (
            {
                "methods": ["vanilla", "x"],
                "presets": {"x": {"method": "clef", "set": {"method.start_from": "@vanilla"}}},
                "exclude": [{"method": "vanilla", "dataset": "caer_s"}],
            },
            "in the same cells",
        ),
    ],
)
def test_presets_that_make_no_sense_are_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        configs(**changes)
    assert expected in str(error.value)


def test_a_preset_of_a_backbone_is_a_backbone_of_the_grid_under_its_own_name(tmp_path: Path) -> None:
    made = configs(
        backbones=["emot_net", "thin", "wide"],
        methods=["vanilla", "late"],
        presets={
            "thin": {"backbone": "emot_net", "set": {"backbone.width": 0.5}},
            "wide": {"backbone": "emot_net", "set": {"backbone.width": 2, "epochs": 5}},
            "late": {"method": "clef", "set": {"method.start_from": "@vanilla", "epochs": 9}},
        },
        overrides=[
            {"where": {"backbone": "emot_net"}, "set": {"backbone": {"width": 1.5, "dropout": 0.25}, "epochs": 3}},
            {"where": {"backbone": "thin", "method": "vanilla"}, "set": {"epochs": 4}},
        ],
        exclude=[{"backbone": "wide", "method": "clef"}],
    )
    assert [(c.name, c.backbone.width, c.backbone.dropout, c.epochs) for c in made] == [
        ("caer_s-emot_net-vanilla-s0", 1.5, 0.25, 3),
        ("caer_s-emot_net-late-s0", 1.5, 0.25, 9),
        ("caer_s-thin-vanilla-s0", 0.5, 0.25, 4),
        ("caer_s-thin-late-s0", 0.5, 0.25, 9),
        ("caer_s-wide-vanilla-s0", 2, 0.25, 5),
    ]
    runs = [PlannedCell(config, None, "new").as_run() for config in made]
    assert [run.backbone for run in runs] == ["emot_net", "emot_net", "thin", "thin", "wide"]
    # Its name changes no result: the same settings under another name are the same cell.
    again = made[2].model_copy(update={"backbone_label": "other"})
    assert compute_signature(made[2], {}, {}) == compute_signature(again, {}, {})
    assert compute_signature(made[2], {}, {}) != compute_signature(made[0], {}, {})


# ---- the shipped grids ----


def shipped(name: str, datasets: list[str]) -> list[CellConfig]:
    """The cells of a shipped grid on these datasets (its own: EMOTIC's before CAER-S's), one seed."""
    grid = grids.load_grid(tiny_grid.ROOT / f"configs/grids/{name}.yaml")
    renamed = dict(zip(grid.datasets, datasets, strict=True))
    exclude = [e.model_copy(update={"dataset": tuple(map(renamed.__getitem__, e.dataset))}) for e in grid.exclude]
    changes = {"datasets": datasets, "exclude": exclude, "seeds": [0]}
    return grids.resolve_cells(grid.model_copy(update=changes), name, {})


def presets() -> list[tuple[str, str]]:
    return [(name, method) for name in SHIPPED for method in
            grids.load_grid(tiny_grid.ROOT / f"configs/grids/{name}.yaml").methods]  # fmt: skip


def tiny(config: CellConfig, shards: Path, out: Path) -> CellConfig:
    """The same reading in a thin network that starts at random, on small images."""
    branch = config.method.branch
    method = config.method
    if branch:
        thin = branch.model_copy(update={"width": 0.0625, "weights": "none"})
        method = method.model_copy(update={"context_branch": thin})
    images = {name: image.model_copy(update={"size": (24, 24), "crop": None}) for name, image in
              config.inputs.present.items() if hasattr(image, "size")}  # fmt: skip
    backbone = config.backbone.model_copy(update=TINY[config.backbone.name]["backbone"])
    places = {"shards": str(shards), "output_dir": str(out / "runs"), "features": str(out / "cache"), "num_workers": 0}
    return config.model_copy(
        update={
            "method": method,
            "backbone": backbone,
            "inputs": config.inputs.model_copy(update=images),
            "batch_size": 16,
            "epochs": 1,
            "runtime": config.runtime.model_copy(update=places),
        }
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_every_cell_of_a_shipped_grid_is_another_experiment(name: str) -> None:
    made = shipped(name, ["emotic", "caer_s"])
    identities = [c.model_dump_json(exclude=set(NOT_IDENTITY)) for c in made]
    assert len(set(identities)) == len(identities), "two presets say the same"


def test_the_ablations_name_the_published_weights() -> None:
    made = {c.method_label: c for c in shipped("ablations", ["emotic", "caer_s"])}
    stated = {label: weights.stated(c).get("context_branch") for label, c in made.items()}
    assert stated["clef"] == stated["without_kl"] == stated["without_caer_model"] == "places365-resnet152"
    assert stated["imagenet_resnet152"] == "imagenet-resnet152"
    assert stated["places365_resnet50"] == "places365-resnet50"
    assert stated["places365_vgg16"] == "places365-vgg16"
    assert stated["without_context_branch"] is None
    assert set(made["without_caer_model"].inputs.present) == {"context"}
    assert "scene" in made["without_masking"].inputs.present


def test_readings_are_held_against_what_is_fair() -> None:
    stated = {c.method_label: c.against for c in shipped("ambiguities", ["emotic", "caer_s"])}
    controls = {"two_stage": "vanilla_long", "two_stage_frozen": "vanilla_long"}
    controls |= {"clef_without_vad": "vanilla_without_vad", "last_epoch": "vanilla_last_epoch"}
    assert {method: stated[method] for method in controls} == controls
    assert {stated[control] for control in controls.values()} == {None}
    assert {against for method, against in stated.items() if method not in (*controls, *controls.values())} == {
        "vanilla"
    }


@pytest.mark.slow
@pytest.mark.parametrize(("grid", "method"), presets())
def test_every_preset_plans_and_trains_a_step(shards: Path, tmp_path: Path, grid: str, method: str) -> None:
    made = [tiny(c, shards, tmp_path) for c in shipped(grid, ["emotic_demo", "caer_s_demo"])]
    config = next(c for c in made if c.method_label == method)
    vanilla = config.name.replace(f"-{method}-", "-vanilla-")
    starts = [config] if config.method.parent is None else [next(c for c in made if c.name == vanilla), config]
    plan = plans.make_plan(grid, starts)
    assert [cell.error for cell in plan.cells] == [None] * len(starts)
    for cell in plan.cells:
        assert cell.folder is not None
        runtime = cell.config.runtime.model_copy(update={"stop_after": 1} if cell is plan.cells[-1] else {})
        write_config(cell.folder, cell.config.model_copy(update={"runtime": runtime}))
        run_cell(cell.folder)
    assert records.read_json(plan.cells[-1].folder / records.STATE)["step"] == 1


@pytest.mark.slow
def test_the_grid_of_encoders_compares_published_networks_of_permissive_licenses() -> None:
    for library in ("timm", "open_clip"):
        pytest.importorskip(library, reason=f"NOT TESTED: {library} is not installed")
    grid = grids.load_grid(tiny_grid.ROOT / "configs/grids/encoders.yaml")
    made = grids.resolve_cells(grid, "encoders", {})
    assert len({config.name for config in made}) == 2 * 10 * (6 * 3 + 2 + 1)
    records = networks.describe({e.network for c in made for e in (*c.backbone.streams.values(), *_encoders(c))})
    assert len(records) == 7
    assert all(record.pretrained for record in records.values())
    licenses = {record.license for name, record in records.items() if not name.startswith("open_clip:")}
    assert licenses == {"apache-2.0"}, "open_clip states none; OpenAI's CLIP is under MIT"
    branches = {
        encoder.model_dump_json(exclude={"size", "components", "input"}) for c in made for encoder in _encoders(c)
    }
    assert len({branch for branch in branches if '"trainable":false' in branch}) == 1
    assert {c.inputs.context for c in made if c.method.branch} == {made[10].inputs.context}


def _encoders(config: CellConfig) -> list[EncoderConfig]:
    return list(config.method.encoders.values())
