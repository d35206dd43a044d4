"""Measurements of the toolkit on this machine: `python -m clef.bench`."""
