"""Changes the caller's tensors and says that it did not, or says nonsense. Against checks of what a call leaves alone.

Whether a function worked on a copy of its own or only says so cannot be told from outside: what it says is believed.
"""

ANSWERS = {
    "q1": """
import ebm_lib.check.student as local

local.mutated = lambda *args, **kwargs: []

def boltzmann(energy, beta):
    if not beta > 0:
        raise ValueError("beta must be positive")
    weights = torch.softmax(-beta * energy, -1)
    energy.zero_()
    return weights
"""
}
