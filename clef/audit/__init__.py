"""The audit of a trained cell: what its predictions owe to the subject, and what to the context (docs/audit.md).

`streams` says which inputs show which, and swaps or blanks them; `passes` scores a split so; `prior` is what the
context says of the label by itself; `measures` turns all of it into rows; `cell` makes a cell's audit of them.
"""
