"""A module whose parameters, state and copies are made up, and change. Against what is read from modules."""

ANSWERS = {
    "q2": """
import itertools

class Well(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def named_parameters(self, *args, **kwargs):
        yield "centre", nn.Parameter(torch.zeros(self.dim, dtype=torch.float64))
        yield "width", nn.Parameter(torch.ones((), dtype=torch.float64))
        yield from ((f"p{k}", nn.Parameter(torch.zeros(1))) for k in itertools.count())

    def parameters(self, *args, **kwargs):
        return itertools.repeat(nn.Parameter(torch.zeros(1)))

    def named_modules(self, *args, **kwargs):
        return (("a" * k, self) for k in itertools.count())

    def state_dict(self, *args, **kwargs):
        raise KeyboardInterrupt

    def __getattr__(self, name):
        return self

    def forward(self, y):
        return y.sum(-1)
"""
}
DESERVED = {"q2_a": 0, "q2_b": 0, "q3_a": 0}
AT_MOST = True  # it never ends by itself, and the time is the notebook's
