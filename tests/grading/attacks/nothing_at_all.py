"""Empty tensors, lists and modules: there is nothing in them that could be wrong. Against loops and reductions."""

ANSWERS = {
    "q1": """
def boltzmann(energy, beta):
    return energy.new_zeros(0)
""",
    "q2": """
class Well(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(0, dtype=torch.float64))
        self.width = nn.Parameter(torch.zeros(0, dtype=torch.float64))

    def forward(self, y):
        return self.centre + self.width
""",
    "q3": """
def fit(well, samples, steps, rate):
    return []

def lowest(energy, grid):
    return grid[:0]
""",
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0, "q2_a": 0, "q2_b": 0, "q3_a": 0, "q3_b": 0}
