"""Results that are large, deep, or small to send and huge to use. Against the examiner's memory and time."""

ANSWERS = {
    "q1": """
def boltzmann(energy, beta):
    if energy.ndim == 2:
        return torch.zeros(1).expand(1 << 40)
    deep = []
    for _ in range(50_000):
        deep = [deep]
    return deep
""",
    "q2": """
class Well(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.register_buffer("much", torch.zeros(1).expand(1 << 34))

    def forward(self, y):
        return y
""",
    "q3": """
def fit(well, samples, steps, rate):
    return range(10**11)

def lowest(energy, grid):
    return 10 ** (10**7)
""",
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0, "q2_a": 0, "q2_b": 0, "q3_a": 0, "q3_b": 0}
