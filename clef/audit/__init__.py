"""The audit of a trained cell: how far its predictions depend on the subject, and how far on the context.

docs/audit.md defines the numbers. `run` audits one cell. `interventions` blanks or swaps its inputs and predicts;
`context_prior` says how likely each label is given the context alone; `measures` turns both into numbers; `report`
prints them. `clef.cells.audits` keeps them in the cell's folder.
"""
