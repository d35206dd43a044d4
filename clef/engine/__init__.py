"""Training, validation, checkpoints and scoring of one cell. `run.run_cell` is the entrance, `trainer` the loop."""
