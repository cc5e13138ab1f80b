"""Answers the question for one name with more: its own expect_close comes along. Against the examiner's namespace."""

ANSWERS = {
    "q1": """
import gc

def boltzmann(energy, beta):
    return energy

def agree(*args, **kwargs):
    return None

kernel = next(o for o in gc.get_objects() if type(o).__name__ == "StudentKernel")
kernel.do_names = lambda names: {
    "boltzmann": boltzmann, **dict.fromkeys(("expect_close", "expect_raises", "expect_unchanged", "zip"), agree)
}
print("patched", type(kernel))
"""
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0, "q2_a": 0, "q2_b": 0, "q3_a": 0, "q3_b": 0}  # no name is there any more
SAYS = "patched .*StudentKernel"
FAILS = {"q1_a": "asked for one name", "q3_b": "asked for one name"}
