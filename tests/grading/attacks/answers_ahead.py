"""Sends answers before they are asked for, twice, and with other numbers. Against the order of requests."""

ANSWERS = {
    "q1": """
import gc
from grading.kernels import wire

kernel = next(o for o in gc.get_objects() if type(o).__name__ == "StudentKernel")
good = torch.tensor([0.6652409557748219, 0.24472847105479767, 0.09003057317038046], dtype=torch.float64)

def boltzmann(energy, beta):
    tree, made = wire.encode(good, opaque=kernel._opaque)
    for number in (True, None, -1, 10**15, *range(3, 60)):
        kernel.examiner.send({"value": tree, "changed": [], "id": number}, made)
    return good
"""
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0}
