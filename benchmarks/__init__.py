"""Benchmarks of loading, sharding, training and planning (docs/benchmarks.md): `python -m benchmarks`."""
