"""Errors that are built from anything: groups, exits, the engine's own names, megabytes of text. Against messages."""

ANSWERS = {
    "q1": """
import gc

kernel = next(o for o in gc.get_objects() if type(o).__name__ == "StudentKernel")
turns = iter([
    ["ExceptionGroup", "BaseExceptionGroup", "Exception"], ["SystemExit"], ["GeneratorExit", "BaseException"],
    ["SyntaxError", "Exception"], ["StudentGone", "Exception"], ["NotRun", "Exception"], ["CellTimeoutError"],
    ["object"], [], ["__import__"], ["<script>alert(1)</script>"], ["A" * 100_000], ["UsageError"], ["torch"],
])

def described(e):
    types = next(turns, ["ValueError"])
    text = "\\x1b[31m<script>alert(1)</script>" * 10_000
    return {"types": types, "message": text, "frames": ["Cell In[1] " + "x" * 99] * 999}

def boltzmann(energy, beta):
    raise ValueError

kernel._described = described
""",
    "q3": """
class Odd(Exception):
    def __str__(self):
        raise SystemExit(0)

    __repr__ = __str__

Odd.__name__ = Odd.__qualname__ = "<img src=x onerror=alert(1)>"

def fit(well, samples, steps, rate):
    raise Odd("x")

class StudentGone(Exception):
    pass

def lowest(energy, grid):
    raise StudentGone("x")
""",
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0, "q3_a": 0, "q3_b": 0}
