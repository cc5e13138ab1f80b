"""NaN wherever a number belongs. Against comparisons that are false for NaN."""

ANSWERS = {
    "q1": """
def boltzmann(energy, beta):
    return torch.full_like(energy, float("nan"))
""",
    "q2": """@RIGHT@
    def forward(self, y):
        return (y - self.centre).sum(-1) * float("nan") * self.width
""",
    "q3": """
def fit(well, samples, steps, rate):
    with torch.no_grad():
        well.centre.fill_(float("nan"))
    return [float("nan")] * steps

def lowest(energy, grid):
    return energy(grid)[0] * float("nan")
""",
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0, "q2_a": 0, "q2_b": 0, "q3_a": 0, "q3_b": 0}
