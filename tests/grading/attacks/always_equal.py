"""Results that are equal to everything, and pose as tensors and numbers. Against comparisons."""

ANSWERS = {
    "q1": """
class Yes:
    __class__ = torch.Tensor
    shape, dtype, device, requires_grad = (3,), torch.float64, torch.device("cpu"), False

    def __eq__(self, other):
        return True

    __hash__ = object.__hash__
    __ne__ = __lt__ = __gt__ = lambda self, other: False
    __le__ = __ge__ = __eq__
    __bool__ = lambda self: True
    __float__ = lambda self: 0.0
    __array__ = lambda self, *args, **kwargs: torch.zeros(3).numpy()
    __sub__ = __rsub__ = __abs__ = __getitem__ = detach = to = lambda self, *args: self

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return cls()

def boltzmann(energy, beta):
    return Yes()
""",
    "q2": """
class Yes(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return True

class Well(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(dim, dtype=torch.float64))
        self.width = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, y):
        return torch.zeros(y.shape[:-1], dtype=torch.float64).as_subclass(Yes)
""",
    "q3": """
class Yes(float):
    __eq__ = __le__ = __ge__ = lambda self, other: True
    __sub__ = __rsub__ = __abs__ = lambda self, *other: Yes(0.0)
    __hash__ = float.__hash__

class Losses(list):
    __len__ = lambda self: 3
    __iter__ = lambda self: iter([7.0, 3.25, 2.3125])
    __eq__ = lambda self, other: True

def fit(well, samples, steps, rate):
    return Losses([Yes(0.0)] * 5)

def lowest(energy, grid):
    energy(grid)
    return Yes(-1.04)
""",
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0, "q2_a": 0, "q2_b": 0, "q3_a": 0, "q3_b": 0}
