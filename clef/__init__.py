"""Counterfactual emotion inference for context-aware emotion recognition, and the grid around it."""

__version__ = "0.1.0"
