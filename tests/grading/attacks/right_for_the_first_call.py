"""Right when it is called first, wrong after. Against checks that look once and use later."""

ANSWERS = {
    "q1": """
calls = []

def boltzmann(energy, beta):
    calls.append(beta)
    if not beta > 0:
        raise ValueError("beta must be positive")
    return torch.softmax(-beta * energy, -1) if len(calls) == 1 else energy * 0
"""
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0}
