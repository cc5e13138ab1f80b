"""Raises what is a StopIteration besides something else, or says that it is one. Against loops in checks."""

ANSWERS = {
    "q1": """
import gc

class Odd(StopAsyncIteration, StopIteration):
    pass

def boltzmann(energy, beta):
    if not beta > 0:
        raise ValueError("beta must be positive")
    if beta == 0.5:
        raise Odd
    return torch.softmax(-beta * energy, -1)

kernel = next(o for o in gc.get_objects() if type(o).__name__ == "StudentKernel")
honest = kernel._described
kernel._described = lambda e: {**honest(e), "types": ["StopIteration", "Exception"]} if type(e) is Odd else honest(e)
"""
}
DESERVED = {"q1_b": 0}
