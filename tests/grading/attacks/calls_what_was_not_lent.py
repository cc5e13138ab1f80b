"""Calls functions of the examiner by numbers that were never lent. Against the table of functions."""

ANSWERS = {
    "q3": """@RIGHT@
import gc

kernel = next(o for o in gc.get_objects() if type(o).__name__ == "StudentKernel")

def lowest(energy, grid):
    for number in (-1, True, 7, "0", None, 10**18, [0]):
        kernel.call_back(number, (grid,), {})
    return grid[104]
"""
}
DESERVED = {"q3_b": 0}
