# Two commands do all set-up on a fresh machine: `make demo` (the main job on drawn data) and `make test`.
# `make quick` gives a first verdict in about two minutes; `make soak` and `make bench` are for longer evenings.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
CUES := .venv-cues/.installed

.PHONY: demo quick test soak bench lint clean .venv-cues

demo: $(READY)  ## draw and shard the demo sets, train thirty small cells, print the tables
	$(BIN)/python launch/grid.py --local --grid configs/grids/demo.yaml

test: $(READY) $(CUES) lint  ## every test, in the same environment but those of MediaPipe
	$(BIN)/python -m pytest -n auto --dist loadgroup

quick: $(READY) lint  ## two minutes on two cores: lint, types, and the tests without other processes, training or Slurm
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "not slow and not slurm"

soak: $(READY)  ## hundreds of seeded kills, damages and mutations, of which `make test` tries a few
	CLEF_SOAK=1 $(BIN)/python -m pytest -n auto --timeout 3600 tests/soak tests/data/test_order_through_loader.py tests/engine/test_cell_pack.py tests/slurm/test_cell_pack.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## what loading, sharding, training and planning reach on this machine (docs/benchmarks.md)
	$(BIN)/python -m benchmarks loading
	$(BIN)/python -m benchmarks sharding
	$(BIN)/python -m benchmarks training
	$(BIN)/python -m benchmarks grid

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

.venv-cues: $(CUES)  ## the environment of MediaPipe's extractors (docs/cues.md)

# Where it can't be installed, `make test` goes on: the tests that need it are skipped by name, and fail in CI.
$(CUES): requirements-cues.txt
	rm -rf .venv-cues
	(python3 -m venv .venv-cues && .venv-cues/bin/python -m pip install --quiet --requirement $< && \
	  .venv-cues/bin/python -m pip install --quiet --no-deps --editable . && touch $@) || \
	  { rm -rf .venv-cues; echo "MediaPipe can't be installed here; its extractors will not be tested" >&2; }

clean:  ## remove what was made, but not the environment
	rm -rf data runs results cache shards/*_demo shards/*_demo[-_]*/ shards/*_demo*.html
