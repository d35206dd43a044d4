"""Plans, submits and shows grids. Runs from a checkout and never imports torch."""
