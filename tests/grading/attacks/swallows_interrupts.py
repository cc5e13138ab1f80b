"""Catches the interrupt and says that all is well, in its cell and in a call. Against limits of time."""

ANSWERS = {
    "q3": """@RIGHT@
import time

def patient(seconds):
    until = time.time() + seconds
    while time.time() < until:
        try:
            time.sleep(seconds)
        except BaseException:
            return

patient(100)
old = lowest

def lowest(energy, grid):
    patient(100)
    return old(energy, grid)
"""
}
DESERVED = {"q3_b": 0}
