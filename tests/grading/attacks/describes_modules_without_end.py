"""Answers the question what a module is made of with another module, for ever. Against the examiner's stack."""

ANSWERS = {
    "q2": """
import gc

kernel = next(o for o in gc.get_objects() if type(o).__name__ == "StudentKernel")
kernel.do_module = lambda number: {"parts": nn.Identity(), "tensors": [nn.Identity() for _ in range(100)]}

class Well(nn.Module):
    def __init__(self, dim):
        super().__init__()
"""
}
DESERVED = {"q2_a": 0, "q2_b": 0, "q3_a": 0}
FAILS = {"q2_a": "must give data"}
