"""Recurses without a limit, in its own functions, in printing and in comparing. Against the kernel and the examiner."""

ANSWERS = {
    "q2": """
import sys

sys.setrecursionlimit(10**9)

class Well(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(dim, dtype=torch.float64))

    def forward(self, y):
        return self.forward(y)

class Deep:
    def __repr__(self):
        return repr(self)
""",
    "q3": "@RIGHT@\nDeep()\n",
}
DESERVED = {"q2_a": 0, "q2_b": 0, "q3_a": 0, "q3_b": 0}
