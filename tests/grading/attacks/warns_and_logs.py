"""Writes to stderr, warns and logs in right answers. Not an attack: it must cost nothing."""

ANSWERS = {
    "q1": """
import logging, sys, warnings

def boltzmann(energy, beta):
    warnings.warn("energies are large")
    print("working", file=sys.stderr)
    logging.error("still working")
    torch.tensor([0.0]).numpy()
    if not beta > 0:
        raise ValueError("beta must be positive")
    return torch.softmax(-beta * energy, -1)

warnings.warn("at the top")
sys.stderr.write("and here")
""",
}
