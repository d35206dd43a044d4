"""sharding: the sharder beside its own decoding, resizing and encoding, with one process and with more

A set of photograph-like images is drawn for it. docs/benchmarks.md says what each row means. Measure on a machine that
does nothing else.
"""
