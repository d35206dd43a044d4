"""The trained cells, for the tests here."""

from tests.audit.cells import cells

__all__ = ["cells"]
