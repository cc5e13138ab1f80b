"""Values that change each time they are read: containers, numbers, properties. Against checking and using apart."""

ANSWERS = {
    "q1": """
class Shifting(torch.Tensor):
    reads = 0

    @property
    def shape(self):
        Shifting.reads += 1
        return torch.Size([3 if Shifting.reads % 2 else 0])

    def __len__(self):
        return 3

def boltzmann(energy, beta):
    return torch.zeros(0, dtype=torch.float64).as_subclass(Shifting)
""",
    "q3": """
class Shifting(list):
    turn = 0

    def __iter__(self):
        Shifting.turn += 1
        return iter([7.0, 3.25, 2.3125] if Shifting.turn > 1 else [])

    def __len__(self):
        Shifting.turn += 1
        return 3 * Shifting.turn

def fit(well, samples, steps, rate):
    return Shifting([0.0, 0.0, 0.0])

class Text(str):
    __str__ = lambda self: "-1.04"
    __float__ = lambda self: -1.04

def lowest(energy, grid):
    energy(grid)
    return Text("x")
""",
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0, "q3_a": 0, "q3_b": 0}
