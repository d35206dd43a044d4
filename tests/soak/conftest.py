"""The cluster that disturbed grids run on."""

from tests.slurm.conftest import slurm as slurm
