"""Hands its own functions and modules to a function that it was lent, and goes on. Against the order of messages."""

ANSWERS = {
    "q3": """@RIGHT@
def lowest(energy, grid):
    said = []
    for odd in (lambda y: y, nn.Linear(2, 2), Well, object(), {"a": [Well(1)]}):
        try:
            energy(odd)
        except RuntimeError as e:
            said.append(str(e))
    print(said)
    return grid[104]
""",
}
DESERVED = {"q3_b": 0}
