"""Replaces its functions whenever a check asks for them by name. Against names that are resolved early."""

ANSWERS = {
    "q1": """@RIGHT@
import gc

kernel = next(o for o in gc.get_objects() if type(o).__name__ == "StudentKernel")
right, turn = boltzmann, [0]

def boltzmann(energy, beta):
    turn[0] += 1
    globals()["boltzmann"] = kernel.shell.user_ns["boltzmann"] = [right, None, "x", 3.5, type][turn[0] % 5]
    return right(energy, beta)
"""
}
DESERVED = {"q1_b": 0, "q1_c": 0}
