"""Answers the question for a name with a list of pairs, which updates a dictionary as well. Against the namespace."""

ANSWERS = {
    "q1": """
import gc

def boltzmann(energy, beta):
    return energy

def agree(*args, **kwargs):
    return None

kernel = next(o for o in gc.get_objects() if type(o).__name__ == "StudentKernel")
honest = kernel.do_names

def names(wanted):
    if wanted != ["boltzmann"]:
        return honest(wanted)
    return [("boltzmann", boltzmann), ("expect_close", agree), ("expect_unchanged", agree), ("expect_raises", agree)]

kernel.do_names = names
"""
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0}
