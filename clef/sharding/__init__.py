"""Writing: from a dataset on disk to shards, and tools that check, copy and describe them. Imports no torch."""
