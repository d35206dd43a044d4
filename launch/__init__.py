"""The launcher: plans, submits and shows grids. It never imports torch; `grid.py` says what each file is for."""
