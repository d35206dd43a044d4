"""Cues: what extractors find in an image besides what the dataset annotates. Found once, before sharding.

`files` holds the format they are kept in, `points` names landmarks and joints. Imports no torch.
"""
