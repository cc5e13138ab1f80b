"""Changes arguments, globals and closures of the check, and the function that it lent. Against aliasing."""

ANSWERS = {
    "q1": """
def boltzmann(energy, beta):
    if not beta > 0:
        raise ValueError("beta must be positive")
    energy.zero_()
    energy.data = torch.zeros(1)
    return energy
""",
    "q2": """
class Well(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(dim, dtype=torch.float64))
        self.width = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, y):
        y.data.zero_()
        self.centre.data.zero_()
        return ((y - self.centre) ** 2).sum(-1) / self.width**2
""",
    "q3": """@RIGHT@
def lowest(energy, grid):
    energy.function = lambda y: y
    for name in ("__closure__", "__globals__", "__code__", "__self__"):
        for part in getattr(energy, name, None) or ():
            part.cell_contents.clear()
    calls = [401]
    energy(grid)
    energy(grid)
    grid.fill_(-1.04)
    return grid[0]
""",
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0, "q2_a": 0, "q2_b": 0, "q3_a": 0, "q3_b": 0}
