"""What holds for every method: it goes on bit for bit where it was stopped, and trains on two ranks."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clef.cells import records
from clef.cells.identity import write_config
from clef.config import CellConfig
from clef.config.methods import METHODS
from clef.engine.run import run_cell
from tests.assertions import assert_equal
from tests.engine.cell_processes import Runs, everything

Make = Callable[..., CellConfig]
pytestmark = pytest.mark.slow
TRAINED = [name for name, entry in METHODS.items() if not entry.config(name=name).is_fitted]


@pytest.mark.parametrize("method", TRAINED)
def test_it_goes_on_where_it_was_stopped(tiny: Make, tmp_path: Path, method: str) -> None:
    folders = {}
    for name, stop_after in (("whole", None), ("parts", 5)):
        folders[name] = tmp_path / name
        features = {"runtime.features": str(tmp_path / "cache"), "runtime.stop_after": stop_after}
        write_config(folders[name], tiny("emotic_demo", "emot_net", method, epochs=2, **features))
        run_cell(folders[name])
    assert records.state_of(folders["parts"]) == "stopped"
    write_config(
        folders["parts"], tiny("emotic_demo", "emot_net", method, epochs=2, **features | {"runtime.stop_after": None})
    )
    run_cell(folders["parts"])
    assert_equal(everything(folders["parts"]), everything(folders["whole"]))


@pytest.mark.parametrize("method", TRAINED)
def test_it_trains_on_two_ranks(shards: Path, tmp_path: Path, method: str) -> None:
    runs = Runs(tmp_path, shards, method, epochs=1)
    assert runs.run("out", ranks=2) == [0, 0], runs.said("out")
    [result] = (tmp_path / "out").rglob(records.RESULT)
    found = records.read_json(result)
    assert found["environment"]["ranks"] == 2
    assert found["splits"]["test"]["value"] > 0
