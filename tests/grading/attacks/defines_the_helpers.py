"""Defines names that the checks use themselves: expect_close, torch, student, zip. Against the check's namespace."""

ANSWERS = {
    "q1": """
def expect_close(*args, **kwargs):
    return None

expect_raises = expect_unchanged = expect_close
zip = map = lambda *args: []

class torch:
    tensor = exp = float64 = float32 = staticmethod(lambda *args, **kwargs: 0)

class student:
    opaque = staticmethod(lambda f: f)

def boltzmann(energy, beta):
    return energy
"""
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0, "q2_a": 0, "q2_b": 0, "q3_a": 0}  # torch is gone over there
