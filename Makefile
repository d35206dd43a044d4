# Two commands do all set-up on a fresh machine: `make demo` (the main job on drawn data) and `make test`.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: demo test lint clean

demo: $(READY)  ## draw and shard the demo sets, train eight small cells, print the tables
	$(BIN)/python launch/grid.py --local --grid configs/grids/demo.yaml

test: $(READY) lint  ## every test, in the same environment
	$(BIN)/python -m pytest -n auto --dist loadgroup

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:  ## remove what was made, but not the environment
	rm -rf data runs results shards/*_demo
