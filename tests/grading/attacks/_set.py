"""Problem set ps91, for which the attacks are handed in: checks as a careful author writes them, 12 points and 2."""

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HIDDEN = "rowanberry"  # stands in every hidden test, and in nothing that a student may see
FORBIDDEN = ["ebm_lib.energy:gibbs", "ebm_lib.free_energy"]
POINTS = {"q1_a": 2.0, "q1_b": 2.0, "q1_c": 1.0, "q2_a": 2.0, "q2_b": 2.0, "q3_a": 2.0, "q3_b": 1.0}

RIGHT = {
    "q1": """def boltzmann(energy, beta):
    if not beta > 0:
        raise ValueError("beta must be positive")
    return torch.softmax(-beta * energy, -1)
""",
    "q2": """class Well(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(dim, dtype=torch.float64))
        self.width = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, y):
        return ((y - self.centre) ** 2).sum(-1) / self.width**2
""",
    "q3": """def fit(well, samples, steps, rate):
    losses = []
    for _ in range(steps):
        loss = well(samples).mean()
        (slope,) = torch.autograd.grad(loss, well.centre)
        with torch.no_grad():
            well.centre -= rate * slope
        losses.append(loss.item())
    return losses


def lowest(energy, grid):
    return grid[energy(grid).argmin()]
""",
}

_GIVEN = """import torch
from torch import nn

from ebm_lib.check import expect_close, expect_raises, expect_unchanged, student


def double_well(y):
    return (y**2 - 1.0) ** 2 + 0.3 * y
"""

_CHECKS = {
    "q1_a": f"""# The weights of three states
energy = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
by_hand = torch.tensor([0.6652409557748219, 0.24472847105479767, 0.09003057317038046], dtype=torch.float64)
expect_close(boltzmann(energy, 1.0), by_hand, name="boltzmann([0, 1, 2], 1)", hint="Low energy is likely.")
### BEGIN HIDDEN TESTS
{HIDDEN} = torch.tensor([[0.0, 3.0, 1.5], [2.0, -1.0, 0.25]], dtype=torch.float64)
expected = torch.exp(-2.0 * {HIDDEN}) / torch.exp(-2.0 * {HIDDEN}).sum(-1, keepdim=True)
expect_close(boltzmann({HIDDEN}, 2.0), expected, name="boltzmann of a batch")
### END HIDDEN TESTS
""",
    "q1_b": f"""# Several temperatures, and temperatures that are none
betas = [0.5, 1.0, 2.0]
levels = torch.tensor([0.0, 0.5, -0.5], dtype=torch.float64)
by_hand = [torch.exp(-b * levels) / torch.exp(-b * levels).sum() for b in betas]
for got, want in zip(map(lambda b: boltzmann(levels, b), betas), by_hand):
    expect_close(got, want, name="boltzmann(levels, beta)")
expect_raises(boltzmann, levels, -1.0, name="boltzmann(levels, -1)")
### BEGIN HIDDEN TESTS
{HIDDEN} = levels.to(torch.float32)
expect_close(boltzmann({HIDDEN}, 1.0), by_hand[1].to(torch.float32), name="boltzmann in float32")
### END HIDDEN TESTS
""",
    "q1_c": f"""# The energies stay the caller's
expect_unchanged(boltzmann, torch.tensor([0.0, 1.0], dtype=torch.float64), 1.0, name="boltzmann")
half = boltzmann(torch.zeros(2, dtype=torch.float64), 3.0)
expect_close(half, torch.tensor([0.5, 0.5], dtype=torch.float64), name="boltzmann([0, 0], 3)")
### BEGIN HIDDEN TESTS
{HIDDEN} = boltzmann(torch.tensor([7.0], dtype=torch.float64), 3.0)
expect_close({HIDDEN}, torch.ones(1, dtype=torch.float64), name="boltzmann of one state")
### END HIDDEN TESTS
""",
    "q2_a": f"""# The energy of a well
well = Well(2)
with torch.no_grad():
    well.centre.copy_(torch.tensor([1.0, -2.0]))
points = torch.tensor([[0.0, 0.0], [1.0, -2.0], [2.0, 1.0]], dtype=torch.float64)
expect_close(well(points), torch.tensor([5.0, 0.0, 10.0], dtype=torch.float64), name="Well(2) at three points")
### BEGIN HIDDEN TESTS
with torch.no_grad():
    well.width.fill_(2.0)
{HIDDEN} = torch.tensor([[1.0, 0.0], [4.0, 2.0]], dtype=torch.float64)
expect_close(well({HIDDEN}), torch.tensor([1.0, 6.25], dtype=torch.float64), name="a well of width 2")
### END HIDDEN TESTS
""",
    "q2_b": f"""# Its gradients
well = Well(3)
y = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64, requires_grad=True)
by_y, by_centre = torch.autograd.grad(well(y).sum(), [y, well.centre])
expect_close(by_y, 2 * y.detach(), name="the gradient by y")
expect_close(by_centre, -2 * y.detach()[0], name="the gradient by the centre")
### BEGIN HIDDEN TESTS
{HIDDEN} = torch.autograd.grad(well(3 * y).sum(), [well.width])[0]
expect_close({HIDDEN}, -18 * (y.detach() ** 2).sum(), name="the gradient by the width")
### END HIDDEN TESTS
""",
    "q3_a": f"""# Gradient descent on the mean energy
samples = torch.tensor([[1.0, 0.0], [3.0, 2.0]], dtype=torch.float64)
well = Well(2)
losses = fit(well, samples, 3, 0.25)
expect_close(torch.tensor(losses, dtype=torch.float64), torch.tensor([7.0, 3.25, 2.3125], dtype=torch.float64),
             name="the losses", hint="The loss before each step.")
expect_close(well.centre.detach(), torch.tensor([1.75, 0.875], dtype=torch.float64), name="the centre")
### BEGIN HIDDEN TESTS
{HIDDEN} = Well(2)
fit({HIDDEN}, samples + 1.0, 60, 0.25)
expect_close({HIDDEN}.centre.detach(), torch.tensor([3.0, 2.0], dtype=torch.float64), name="the centre at last")
### END HIDDEN TESTS
""",
    "q3_b": f"""# The lowest point of a grid, with one call of the energy
calls = []


def counted(y):
    calls.append(len(y))
    return double_well(y)


grid = torch.linspace(-2, 2, 401, dtype=torch.float64)
found = lowest(student.opaque(counted), grid)
expect_close(found, torch.tensor(-1.04, dtype=torch.float64), atol=0.006, name="lowest(...)")
assert calls == [401], f"call the energy once, with the whole grid; it was called {{len(calls)}} times."
### BEGIN HIDDEN TESTS
{HIDDEN} = lowest(lambda y: (y - 0.37) ** 2, grid)
expect_close({HIDDEN}, torch.tensor(0.37, dtype=torch.float64), atol=0.006, name="lowest of a parabola")
### END HIDDEN TESTS
""",
}
_TITLES = {"q1": "Weights", "q2": "A well", "q3": "Descent"}


def _mark(cell: NotebookNode, name: str, *, solution: bool = False, points: float | None = None) -> NotebookNode:
    mark = {"grade": points is not None, "grade_id": name, "locked": not solution, "schema_version": 3}
    cell.metadata["nbgrader"] = {**mark, "solution": solution, "task": False} | ({"points": points} if points else {})
    cell.id = name.replace("_", "-")
    return cell


def notebook() -> NotebookNode:
    """Return the instructor's notebook."""
    cells = [_mark(new_markdown_cell("# Attacked"), "intro"), _mark(new_code_cell(_GIVEN), "given")]
    for q, answer in RIGHT.items():
        cells.append(_mark(new_markdown_cell(f"## Question {q[1]}: {_TITLES[q]}"), f"{q}_text"))
        source = f"### BEGIN SOLUTION\n{answer}### END SOLUTION\n"
        cells.append(_mark(new_code_cell(source), q, solution=True))
        cells += [
            _mark(new_code_cell(check), name, points=POINTS[name])
            for name, check in _CHECKS.items()
            if name.startswith(q)
        ]
    cells.append(new_markdown_cell("## Question 4: Say why", id="q4-text"))
    cells.append(_mark(new_markdown_cell("Because $a<b$."), "q4", solution=True, points=2))
    nb = new_notebook(cells=cells)
    nb.metadata["grading"] = {"forbidden": FORBIDDEN}
    return nb
