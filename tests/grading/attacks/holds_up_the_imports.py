"""A cell before the given ones, after which an import lasts for ever. Against the time that given cells have."""

from nbformat.v4 import new_code_cell


def notebook(world):
    """Return right answers, and before everything a cell that replaces the import."""
    nb = world.answered({})
    source = "import builtins, time\nreal = builtins.__import__\n"
    source += "def slow(name, *args, **kwargs):\n    time.sleep(1000) if name == 'torch' else 0\n"
    source += "    return real(name, *args, **kwargs)\nbuiltins.__import__ = slow\n"
    nb.cells.insert(0, new_code_cell(source, id="first"))
    return nb


AT_MOST = True  # nothing after it can be relied on
DESERVED = {"q2_a": 0, "q2_b": 0}
