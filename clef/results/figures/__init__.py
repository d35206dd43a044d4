"""The figures of a grid, for print: pure functions of its long form. They need the extra `figures` (matplotlib)."""
