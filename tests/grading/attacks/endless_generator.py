"""Returns generators that never end, and a tensor that grows each time. Against loops over results."""

ANSWERS = {
    "q3": """
def fit(well, samples, steps, rate):
    def losses():
        while True:
            yield 1.0
    return losses()

class Endless:
    __len__ = lambda self: 1 << 40
    __getitem__ = lambda self, k: 1.0

def lowest(energy, grid):
    energy(grid)
    return Endless()
"""
}
DESERVED = {"q3_a": 0, "q3_b": 0}
