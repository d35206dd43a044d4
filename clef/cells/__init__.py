"""A cell on disk: its folder, and what is recorded there. Imports no torch, so that plans and status are quick."""
