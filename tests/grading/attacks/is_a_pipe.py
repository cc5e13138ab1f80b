"""Hands in a pipe, whose reader would wait for ever. Against the run."""

import os

REFUSED = "pipe"


def place(folder, world):
    """Put the pipe in place."""
    os.mkfifo(folder / "ps91.ipynb")
