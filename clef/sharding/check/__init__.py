"""Looks at a source before anything is sharded: what is listed, what is wrong with it, what leaks, what would count.

Nothing is written, and no rule stops: one that would stop sharding is reported. Imports no torch.
"""
