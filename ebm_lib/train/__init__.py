"""The course's one training loop: from a line on a page to several machines, unchanged."""

from ebm_lib.train.history import History
from ebm_lib.train.loop import fit

__all__ = ["History", "fit"]
