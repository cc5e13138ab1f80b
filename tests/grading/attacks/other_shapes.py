"""Right values in shapes and dtypes that broadcast or cast to the expected ones. Against careless comparison."""

ANSWERS = {
    "q1": """
def boltzmann(energy, beta):
    return torch.softmax(-beta * energy.double(), -1).float()[None]
""",
    "q2": """
class Well(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(dim, dtype=torch.float64))
        self.width = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, y):
        return ((y - self.centre) ** 2).sum(-1, keepdim=True).to(torch.complex128) / self.width**2
""",
    "q3": """
import numpy as np

def fit(well, samples, steps, rate):
    with torch.no_grad():
        well.centre += 1.75
    return np.array([7.0, 3.25, 2.3125], dtype="datetime64[s]") if False else {7.0, 3.25, 2.3125}

def lowest(energy, grid):
    return np.float64(grid[energy(grid).argmin()])
""",
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0, "q2_a": 0, "q2_b": 0, "q3_a": 0, "q3_b": 0}
