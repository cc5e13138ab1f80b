"""Prints nearly a megabyte in each of 200 cells. Against the worker's memory, the notebook and the page."""

from nbformat.v4 import new_code_cell


def notebook(world):
    """Return right answers and cells that print."""
    nb = world.answered({})
    nb.cells += [new_code_cell("print('x' * 900_000)", id=f"print-{k}") for k in range(200)]
    return nb


NOTEBOOK_BYTES = 30_000_000
