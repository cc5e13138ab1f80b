"""Score matching of zeros and ones, against enumeration and Boltzmann machines of known parameters."""

import itertools
import math

import pytest
import torch

from ebm_lib import score as sc
from ebm_lib.energy import gibbs

F64 = torch.float64


def points(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def states(dim):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=dim)), dtype=F64)


class Boltzmann(torch.nn.Module):
    """F(y) = −½ y'Wy − b'y with W symmetric and its diagonal zero, from its free parameters."""

    def __init__(self, dim, seed, scale):
        super().__init__()
        self.upper = torch.triu_indices(dim, dim, 1)
        self.w = torch.nn.Parameter(points(self.upper.shape[1], seed=seed) * scale)
        self.b = torch.nn.Parameter(points(dim, seed=seed + 100) * scale)

    def forward(self, y):
        w = torch.zeros(len(self.b), len(self.b), dtype=F64).index_put(tuple(self.upper), self.w)
        return -((y @ w) * y).sum(-1) - y @ self.b


@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 3, 6)])
def test_binary_losses_by_enumerating_the_flips(shape):
    energy = Boltzmann(6, 0, 1.0)
    y = (points(*shape, seed=8) > 0).double()
    ratio, flow = sc.ratio_matching(energy, y), sc.minimum_probability_flow(energy, y)
    assert ratio.shape == flow.shape == shape[:-1]
    for here, r, f in zip(y.reshape(-1, 6), ratio.reshape(-1), flow.reshape(-1), strict=True):
        terms = []
        for i in range(6):
            there = here.clone()
            there[i] = 1 - there[i]
            terms.append((energy(here) - energy(there)).item())
        # P(y)/P(flipped) = exp(F(flipped) - F(y))
        assert r.item() == pytest.approx(sum((1 / (1 + math.exp(-d))) ** 2 for d in terms), rel=1e-12)
        assert f.item() == pytest.approx(sum(math.exp(d / 2) for d in terms), rel=1e-12)


@pytest.mark.parametrize("loss", [sc.ratio_matching, sc.minimum_probability_flow])
def test_their_minimum_is_at_the_true_parameters_of_a_boltzmann_machine_of_twelve_units(loss):
    y = states(12)
    truth = Boltzmann(12, 1, 0.7)
    with torch.no_grad():
        probability = gibbs(truth(y))

    def slope(model):
        return torch.cat(torch.autograd.grad((probability * loss(model, y)).sum(), list(model.parameters())))

    assert slope(truth).abs().max() < 1e-12
    learner = Boltzmann(12, 2, 0.3)
    assert slope(learner).abs().max() > 1e-2
    optimizer = torch.optim.LBFGS(
        learner.parameters(), max_iter=150, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        total = (probability * loss(learner, y)).sum()
        total.backward()
        return total

    optimizer.step(closure)
    torch.testing.assert_close(learner.w.detach(), truth.w.detach(), rtol=0, atol=1e-4)
    torch.testing.assert_close(learner.b.detach(), truth.b.detach(), rtol=0, atol=1e-4)


def test_ratio_matching_is_the_squared_error_of_the_ratios_up_to_a_constant():
    # Hyvärinen's definition: ½ Σ_y P_data Σ_i [(g(r_data) - g(r_model))² + the same with both ratios inverted]
    y = states(5)
    data = torch.softmax(points(32, seed=3), 0)

    def definition(model):
        p, total = torch.softmax(-model(y), 0), 0.0
        for i in range(5):
            there = y.clone()
            there[:, i] = 1 - there[:, i]
            j = (there @ (2.0 ** torch.arange(4, -1, -1, dtype=F64))).long()
            g = lambda u: 1 / (1 + u)
            forward = (g(data / data[j]) - g(p / p[j])).square()
            backward = (g(data[j] / data) - g(p[j] / p)).square()
            total = total + (data * (forward + backward)).sum() / 2
        return total.item()

    gaps = []
    for seed in range(4):
        model = Boltzmann(5, seed, 1.0)
        gaps.append((data * sc.ratio_matching(model, y)).sum().item() - definition(model))
    assert max(gaps) - min(gaps) < 1e-12


def test_binary_losses_at_impossible_and_extreme_neighbours():
    y = torch.tensor([[0.0, 0.0]], dtype=F64)
    barred = lambda y: torch.where(y[..., 0] > 0, math.inf, 3 * y[..., 1])
    assert sc.ratio_matching(barred, y).item() == pytest.approx((1 / (1 + math.exp(3))) ** 2)
    assert sc.minimum_probability_flow(barred, y).item() == pytest.approx(math.exp(-1.5))
    steep = lambda y: -1e6 * y[..., 0]
    assert sc.ratio_matching(steep, y).item() == pytest.approx(1.25)  # one flip certain, one even: 1 + ¼
    with pytest.raises(FloatingPointError, match=r"overflowed: a flip lowers the energy of a data point by 1e\+06"):
        sc.minimum_probability_flow(steep, y)
