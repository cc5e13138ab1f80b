"""Calls a function of the check without end, with everything that it was not made for. Against the examiner's time."""

ANSWERS = {
    "q3": """@RIGHT@
def lowest(energy, grid):
    while True:
        for odd in (grid, 10**3000, "x" * 1000, {"a": grid}, range(10**12), lambda: None, nn.Linear(2, 2), grid[None]):
            try:
                energy(odd)
            except Exception:
                continue
"""
}
DESERVED = {"q3_b": 0}
