"""Maximum likelihood on a grid and its sampled form, against normal distributions, enumeration and autograd."""

import math

import pytest
import torch

from ebm_lib import losses
from ebm_lib.energy import gibbs, grid

F64 = torch.float64


@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_it_is_the_negative_log_density_of_a_gaussian_in_units_of_energy(beta):
    cells = grid([-14.0, -14.0], [14.0, 14.0], 400, dtype=F64)
    mean, precision = torch.tensor([0.5, -1.0], dtype=F64), torch.tensor([2.0, 0.7], dtype=F64)
    energy = lambda y: (precision * (y - mean).square()).sum(-1) / 2 + 3.0  # the constant must not matter
    y = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    ours = losses.negative_log_likelihood(energy(y), energy(cells.points), beta, log_volume=cells.log_cell)
    theirs = torch.distributions.Normal(mean, (beta * precision).rsqrt()).log_prob(y).sum(-1)
    torch.testing.assert_close(beta * ours, -theirs, rtol=1e-10, atol=1e-10)


def test_its_slopes_are_one_on_the_data_and_minus_the_probability_on_the_grid():
    g = torch.Generator().manual_seed(1)
    p = torch.randn(4, generator=g, dtype=F64, requires_grad=True)
    values = torch.randn(4, 30, generator=g, dtype=F64, requires_grad=True)
    loss = losses.negative_log_likelihood(p, values, 1.7, log_volume=math.log(0.1))
    on_data, on_grid = torch.autograd.grad(loss.sum(), (p, values))
    torch.testing.assert_close(on_data, torch.ones(4, dtype=F64))
    torch.testing.assert_close(on_grid, -torch.softmax(-1.7 * values, -1).detach())


def test_a_grid_shared_by_all_data_or_one_for_each_x():
    g = torch.Generator().manual_seed(2)
    p, values = torch.randn(3, generator=g, dtype=F64), torch.randn(3, 8, generator=g, dtype=F64)
    rows = losses.negative_log_likelihood(p, values, 2.0)
    for i in range(3):
        by_hand = p[i].item() + math.log(sum(math.exp(-2 * v) for v in values[i].tolist())) / 2
        assert rows[i].item() == pytest.approx(by_hand, rel=1e-12)
        shared = losses.negative_log_likelihood(p, values[i], 2.0)
        torch.testing.assert_close(shared[i], rows[i])
        torch.testing.assert_close(shared - p, (rows[i] - p[i]).expand(3))
    barred = torch.cat([values, torch.full((3, 2), math.inf, dtype=F64)], -1)
    torch.testing.assert_close(losses.negative_log_likelihood(p, barred, 2.0), rows)


def test_each_point_of_the_grid_may_have_a_volume_of_its_own():
    g = torch.Generator().manual_seed(4)
    p, values = torch.randn(3, generator=g, dtype=F64), torch.randn(3, 8, generator=g, dtype=F64)
    volume = torch.rand(8, generator=g, dtype=F64)
    rows = losses.negative_log_likelihood(p, values, 2.0, log_volume=volume.log())
    torch.testing.assert_close(rows, p + ((-2 * values).exp() * volume).sum(-1).log() / 2)


def test_on_a_finite_set_it_is_nll():
    g = torch.Generator().manual_seed(3)
    energy, target = torch.randn(5, 4, generator=g, dtype=F64), torch.tensor([0, 3, 1, 2, 2])
    right = energy.gather(-1, target[:, None])[:, 0]
    torch.testing.assert_close(losses.negative_log_likelihood(right, energy, 3.0), losses.nll(energy, target, 3.0))


@pytest.mark.parametrize("beta", [1e-4, 1.0, 1e4])
def test_extremes(beta):
    values = torch.tensor([1e6, -1e6, 0.0], dtype=F64)
    p = torch.tensor([-1e6, 1e6], dtype=F64)
    ours = losses.negative_log_likelihood(p, values, beta)
    log_z = math.log(sum(math.exp(-beta * (v + 1e6)) for v in values.tolist())) / beta
    torch.testing.assert_close(ours, p + 1e6 + log_z, rtol=1e-12, atol=1e-6)


def test_contrastive_divergence_is_a_difference_of_means():
    p = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]], dtype=F64, requires_grad=True)
    n = torch.tensor([[5.0, 7.0], [-1.0, 2.0]], dtype=F64, requires_grad=True)
    value = losses.contrastive_divergence(p, n)
    assert value.tolist() == [-3.0, 0.5]
    up, down = torch.autograd.grad(value.sum(), (p, n))
    torch.testing.assert_close(up, torch.full((2, 3), 1 / 3, dtype=F64))
    torch.testing.assert_close(down, torch.full((2, 2), -0.5, dtype=F64))
    assert losses.contrastive_divergence(p[0], n[0]).shape == ()


def test_with_samples_in_their_true_proportions_its_gradient_is_that_of_the_likelihood():
    # Two parameters, three states; samples repeated so often that their proportions are the model's exactly.
    counts = torch.tensor([5, 3, 2])
    w = (-(counts.double() / 10).log()).requires_grad_()  # F(y) = w[y], so the model's probabilities are counts / 10
    data = torch.tensor([0, 0, 2, 1])
    samples = torch.arange(3).repeat_interleave(counts)
    torch.testing.assert_close(gibbs(w.detach()), counts.double() / 10)
    (exact,) = torch.autograd.grad(losses.negative_log_likelihood(w[data], w).mean(), w)
    (sampled,) = torch.autograd.grad(losses.contrastive_divergence(w[data], w[samples]), w)
    torch.testing.assert_close(sampled, exact)
    torch.testing.assert_close(exact, torch.tensor([0.5 - 0.5, 0.25 - 0.3, 0.25 - 0.2], dtype=F64))


Z23 = torch.zeros(2), torch.zeros(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.negative_log_likelihood(torch.zeros(2), torch.zeros(0)), "grid_energy must have at least one"),
        (lambda: losses.negative_log_likelihood(torch.zeros(2), torch.zeros(3, 4)), r"leading shape \(2,\).*\(3, 4\)"),
        (
            lambda: losses.negative_log_likelihood(torch.zeros(2), torch.full((3,), math.inf)),
            "there is no distribution",
        ),
        (
            lambda: losses.negative_log_likelihood(torch.zeros(2), torch.tensor([[0.0, 1.0], [math.inf, math.inf]])),
            "there is no distribution",
        ),
        (lambda: losses.negative_log_likelihood(*Z23, log_volume=math.nan), "log_volume must be finite"),
        (lambda: losses.negative_log_likelihood(*Z23, log_volume=math.inf), "log_volume must be finite"),
        (
            lambda: losses.negative_log_likelihood(*Z23, log_volume=torch.zeros(5, 1)),
            r"grid_energy, \(3,\), got \(5, 1\)",
        ),
        (lambda: losses.negative_log_likelihood(*Z23, log_volume=torch.zeros(2)), r"grid_energy, \(3,\), got \(2,\)"),
        (lambda: losses.negative_log_likelihood(torch.zeros(2), torch.zeros(3), 0.0), "beta must be a positive number"),
        (lambda: losses.negative_log_likelihood(torch.tensor([math.inf]), torch.zeros(3)), "positive must be finite"),
        (lambda: losses.contrastive_divergence(torch.zeros(2), torch.zeros(0)), "negative must have at least one"),
        (lambda: losses.contrastive_divergence(torch.zeros(0), torch.zeros(2)), "positive must have at least one"),
        (lambda: losses.contrastive_divergence(torch.zeros(2, 2), torch.zeros(3, 2)), r"\(2, 2\) and \(3, 2\)"),
        (lambda: losses.contrastive_divergence(torch.zeros(2), torch.tensor([math.inf])), "negative must be finite:"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()
