"""Pre-trained weights: which files a cell starts from, where they lie, and whether they are whole. Imports no torch.

Nothing is fetched at run time: compute nodes often have no internet. `python -m clef.weights --fetch` does it before.
A missing file is an error that names that command; random initialisation happens only where the config says `none`.
"""

from clef.weights.cells import DICTIONARY, check_frozen, frozen, hashes, needed, stated
from clef.weights.files import FILES, RANDOM, path_of

__all__ = ["DICTIONARY", "FILES", "RANDOM", "check_frozen", "frozen", "hashes", "needed", "path_of", "stated"]
