"""Ends its kernel in the middle of a check, in each way there is. Against what a death may cost: only that check."""

ANSWERS = {
    "q1": """
import ctypes, os, signal, sys

deaths = [lambda: os._exit(0), lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: ctypes.string_at(0)]

def boltzmann(energy, beta):
    deaths[energy.ndim + (energy.numel() == 2)]()
""",
    "q3": """
def fit(well, samples, steps, rate):
    sys.setrecursionlimit(10**9)
    return eval("(" * 0 + "fit(well, samples, steps, rate)")

@RIGHT@
def fit(well, samples, steps, rate):
    os.abort()
""",
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0, "q3_a": 0}
