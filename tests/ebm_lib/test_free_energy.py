"""Free energy against quadrature, closed forms and the identities it must satisfy."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from ebm_lib import free_energy as fe
from ebm_lib.energy import grid

BETAS = [10.0**k for k in range(-3, 7)]


def ellipse(y, z, r=(2.0, 1.0)):
    return (y[..., 0] - r[0] * torch.sin(z[..., 0])).square() + (y[..., 1] - r[1] * torch.cos(z[..., 0])).square()


def ellipse_quadrature(y, beta, normalised):
    """F_beta by adaptive quadrature, with the integrand split at its minima so that no peak is missed."""

    def energy(z):
        return (y[0] - 2 * math.sin(z)) ** 2 + (y[1] - math.cos(z)) ** 2

    zs = torch.linspace(-math.pi, math.pi, 200_001, dtype=torch.float64)
    values = (y[0] - 2 * zs.sin()).square() + (y[1] - zs.cos()).square()
    low = values.min().item()
    width = 1 / math.sqrt(beta)
    breaks = {-math.pi, math.pi}
    inner = (values[1:-1] <= values[:-2]) & (values[1:-1] <= values[2:])
    for z in zs[1:-1][inner].tolist():
        breaks |= {min(max(z + s * width * k, -math.pi), math.pi) for s in (-1, 1) for k in (0, 1, 3, 8, 30)}
    edges = sorted(breaks)
    total = sum(
        integrate.quad(lambda z: math.exp(-beta * (energy(z) - low)), a, b, epsabs=0, epsrel=1e-12, limit=400)[0]
        for a, b in itertools.pairwise(edges)
    )
    return low - (math.log(total) - (math.log(2 * math.pi) if normalised else 0)) / beta


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("y", [(1.0, 0.5), (-2.5, 0.2), (0.1, 0.0)])
def test_over_grid_equals_quadrature_from_beta_1e_minus_3_to_1e6(y, beta, normalised):
    latent = grid([-math.pi], [math.pi], 200_000, dtype=torch.float64)
    log_prior = -math.log(2 * math.pi) if normalised else 0.0
    ours = fe.over_grid(ellipse, torch.tensor(y, dtype=torch.float64), latent, beta, log_prior=log_prior).item()
    expected = ellipse_quadrature(y, beta, normalised)
    assert abs(ours - expected) <= 1e-6 * max(1.0, abs(expected))


def test_gaussian_integral_closed_form_over_all_temperatures():
    # E = a + ½ k z²: F = a − 1/(2β) log(2π/(βk)).
    a, k = 0.7, 3.0
    z = grid([-300.0], [300.0], 2_000_000, dtype=torch.float64)
    energy = a + 0.5 * k * z.points[:, 0].square()
    for beta in BETAS[1:]:
        expected = a - math.log(2 * math.pi / (beta * k)) / (2 * beta)
        assert abs(fe.free_energy(energy, beta, log_volume=z.log_cell).item() - expected) < 1e-6 * max(1, abs(expected))


def test_it_tends_to_the_minimum_as_beta_grows_and_to_the_prior_mean_as_it_falls():
    g = torch.Generator().manual_seed(0)
    energy = 1 + torch.rand(50, 20, generator=g, dtype=torch.float64) * 5
    prior = torch.rand(20, generator=g, dtype=torch.float64)
    log_prior = (prior / prior.sum()).log()
    minimum, mean = energy.min(-1).values, (energy * log_prior.exp()).sum(-1)
    coldest = fe.free_energy(energy, 1e6, log_volume=log_prior)
    hottest = fe.free_energy(energy, 1e-6, log_volume=log_prior)
    assert ((coldest - minimum).abs() / minimum).max() < 1e-5
    assert (coldest - minimum <= -log_prior[energy.argmin(-1)] / 1e6 + 1e-12).all()
    assert ((hottest - mean).abs() / mean).max() < 1e-5
    # Second order of the cumulant expansion: F = ⟨E⟩ − ½ β Var E + O(β²).
    variance = (energy.square() * log_prior.exp()).sum(-1) - mean.square()
    slope = (fe.free_energy(energy, 1e-4, log_volume=log_prior) - mean) / 1e-4
    torch.testing.assert_close(slope, -variance / 2, rtol=1e-3, atol=1e-4)


def test_without_a_prior_it_differs_by_the_log_volume_term():
    energy = torch.rand(7, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for beta in (0.01, 1.0, 100.0):
        counting = fe.free_energy(energy, beta)
        averaging = fe.free_energy(energy, beta, log_volume=-math.log(20))
        torch.testing.assert_close(averaging - counting, torch.full((7,), math.log(20) / beta, dtype=torch.float64))


@pytest.mark.parametrize("beta", [1e-3, 0.3, 1.0, 10.0, 1e6])
def test_its_gradient_is_the_expected_gradient_of_the_energy(beta):
    y = torch.randn(5, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    z = grid([-math.pi], [math.pi], 400, dtype=torch.float64)
    (ours,) = torch.autograd.grad(fe.over_grid(ellipse, y, z, beta).sum(), y)
    energy = ellipse(y[:, None], z.points)
    centre = torch.stack([2 * z.points[:, 0].sin(), z.points[:, 0].cos()], -1)
    weights = torch.exp(-beta * (energy - energy.min(-1, keepdim=True).values))
    weights = weights / weights.sum(-1, keepdim=True)
    expected = (weights[..., None] * 2 * (y[:, None] - centre)).sum(1)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    assert torch.autograd.gradcheck(lambda y: fe.over_grid(ellipse, y, z, beta), y)


energies = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(energies, st.floats(1e-3, 1e6), st.floats(-100, 100))
def test_identities_over_random_energies(values, beta, shift):
    energy = torch.tensor(values, dtype=torch.float64)
    ours = fe.free_energy(energy, beta).item()
    low = min(values)
    scale = 1e-12 * (1 + max(map(abs, values)) + abs(shift))
    assert low - math.log(len(values)) / beta - scale <= ours <= low + scale  # counting states can only lower F
    assert abs(fe.free_energy(energy + shift, beta).item() - ours - shift) <= 4 * scale  # a constant passes through
    assert abs(fe.free_energy(energy.flip(0), beta).item() - ours) <= scale  # the order of z does not matter
    assert abs(fe.free_energy(torch.cat([energy, energy]), beta).item() - ours + math.log(2) / beta) <= 4 * scale
    parts = fe.decompose(energy, beta)
    assert abs(parts.mean_energy.item() - parts.entropy.item() / beta - ours) <= 1e-9 * (1 + abs(ours) + 1 / beta)
    assert -1e-12 <= parts.entropy.item() <= math.log(len(values)) + 1e-12


def test_free_energy_rises_with_beta_under_a_prior():
    energy = torch.rand(30, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    curve = torch.stack([fe.free_energy(energy, b, log_volume=-math.log(9)) for b in BETAS])
    assert (curve.diff(dim=0) < 1e-9).all()
    assert (curve[0] > curve[-1] + 0.1).all()


def test_marginalising_twice_is_marginalising_once():
    energy = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    for beta in (0.1, 5.0, math.inf):
        twice = fe.free_energy(fe.free_energy(energy, beta), beta)
        torch.testing.assert_close(twice, fe.free_energy(energy.flatten(1), beta))
        torch.testing.assert_close(fe.free_energy(energy, beta, dim=1), fe.free_energy(energy.mT, beta))


def test_impossible_latent_values_are_left_out():
    energy = torch.tensor([1.0, math.inf, 3.0], dtype=torch.float64)
    for beta in (1e-3, 1.0, 1e6, math.inf):
        torch.testing.assert_close(fe.free_energy(energy, beta), fe.free_energy(energy[[0, 2]], beta))
        barred = fe.free_energy(
            torch.tensor([1.0, -9.0, 3.0]).double(), beta, log_volume=torch.tensor([0, -math.inf, 0])
        )
        torch.testing.assert_close(barred, fe.free_energy(energy[[0, 2]], beta))
    assert fe.free_energy(torch.full((2,), math.inf), 1.0).item() == math.inf
    with pytest.raises(ValueError, match="no posterior"):
        fe.posterior(torch.full((2,), math.inf), 1.0)


def test_posterior_is_bayes_rule_and_its_cold_limit_shares_ties():
    energy = torch.tensor([0.3, 0.1, 2.0], dtype=torch.float64)
    prior = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    joint = prior * torch.exp(-2 * energy)
    torch.testing.assert_close(fe.posterior(energy, 2.0, log_volume=prior.log()), joint / joint.sum())
    tied = torch.tensor([1.0, 1.0, 4.0], dtype=torch.float64)
    cold = fe.posterior(tied, math.inf, log_volume=torch.tensor([0.75, 0.25, 1.0]).double().log())
    torch.testing.assert_close(cold, torch.tensor([0.75, 0.25, 0.0], dtype=torch.float64))
    torch.testing.assert_close(fe.posterior(energy, 1e6), torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))


def test_discrete_grid_sampled_and_gaussian_latents_agree_on_a_gaussian():
    # E = |y − Wz|² + |z|²/2 is quadratic in z: all four routes must give one number.
    g = torch.Generator().manual_seed(5)
    w = torch.randn(3, 2, generator=g, dtype=torch.float64)
    y = torch.randn(4, 3, generator=g, dtype=torch.float64)
    beta = 0.8

    def energy(y, z):
        return (y - z @ w.T).square().sum(-1) + z.square().sum(-1) / 2

    # log ∫ exp(−βE) dz, as scipy's Gaussian integral would have it
    precision = beta * (2 * w.T @ w + torch.eye(2, dtype=torch.float64))
    mode = torch.linalg.solve(precision, beta * 2 * w.T @ y.T).T
    exponent = -beta * energy(y, mode)
    exact = -(exponent + math.log(2 * math.pi) - torch.logdet(precision) / 2) / beta

    torch.testing.assert_close(fe.over_gaussian(energy, y, mode, beta), exact)
    torch.testing.assert_close(fe.over_gaussian(energy, y[0], mode[0], beta), exact[0])
    cells = grid([-8, -8], [8, 8], 400, dtype=torch.float64)
    torch.testing.assert_close(fe.over_grid(energy, y, cells, beta), exact)
    torch.testing.assert_close(fe.over_discrete(energy, y, cells.points, beta, log_prior=cells.log_cell), exact)
    draws = 2 * torch.randn(20_000, 2, generator=g, dtype=torch.float64)
    log_q = torch.distributions.Normal(torch.zeros(2).double(), 2.0).log_prob(draws).sum(-1)
    estimate = fe.over_samples(energy, y, draws, log_q, beta)
    weights = torch.exp(-beta * energy(y[:, None], draws) - log_q)
    error = weights.std(-1) / weights.mean(-1) / math.sqrt(20_000) / beta  # delta method
    assert ((estimate - exact).abs() < 4 * error).all()
    assert (error < 0.05).all()


def test_the_sampled_estimate_is_biased_upwards_and_less_so_with_more_samples():
    g = torch.Generator().manual_seed(6)
    energy = lambda y, z: (y - z).square().sum(-1) * 4
    y = torch.zeros(4000, 1, dtype=torch.float64)

    def mean_estimate(k):
        z = torch.randn(4000, k, 1, generator=g, dtype=torch.float64)
        # samples of the prior itself: log q − log p = 0
        return fe.over_samples(energy, y, z, torch.zeros(4000, k, dtype=torch.float64), beta=1.0).mean().item()

    exact = 0.5 * math.log(9)  # −log E exp(−4z²) under N(0, 1)
    few, many = mean_estimate(2), mean_estimate(32)
    assert few > many > exact - 0.02
    assert many - exact < 0.25 * (few - exact)


def test_kl_form_of_the_entropy_matches_torch_distributions():
    energy = torch.tensor([0.2, 1.4, 0.9], dtype=torch.float64)
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    parts = fe.decompose(energy, 1.7, log_volume=prior.log())
    q = torch.distributions.Categorical(fe.posterior(energy, 1.7, log_volume=prior.log()))
    kl = torch.distributions.kl_divergence(q, torch.distributions.Categorical(prior))
    torch.testing.assert_close(parts.entropy, -kl)
    counting = fe.decompose(energy, 1.7)
    torch.testing.assert_close(counting.entropy, torch.distributions.Categorical(fe.posterior(energy, 1.7)).entropy())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fe.free_energy(torch.ones(2), 0.0), "beta must be a positive number, got 0"),
        (lambda: fe.free_energy(torch.ones(2), -1.0), "beta must be a positive number"),
        (lambda: fe.free_energy(torch.ones(2), math.nan), "beta must be a positive number"),
        (lambda: fe.free_energy(torch.ones(3, 0), 1.0), "at least one entry along dimension -1"),
        (lambda: fe.free_energy(torch.tensor(1.0), 1.0), "must have a dimension -1"),
        (
            lambda: fe.free_energy(torch.tensor([1.0, math.nan]), 1.0),
            r"1 of 2 values are not, the first at index \(1,\)",
        ),
        (lambda: fe.free_energy(torch.tensor([1.0, -math.inf]), 1.0), "energy must be finite or"),
        (lambda: fe.free_energy(torch.ones(2), 1.0, log_volume=math.nan), "log_volume must be finite"),
        (lambda: fe.decompose(torch.ones(2), math.inf), "beta must be a positive finite number, got inf"),
        (lambda: fe.over_discrete(ellipse, torch.ones(2), torch.ones(0, 1)), "codes must have at least one entry"),
        (lambda: fe.over_discrete(ellipse, torch.ones(2), torch.ones(3)), r"codes must be \(K, L\), got shape \(3,\)"),
        (
            lambda: fe.over_samples(ellipse, torch.ones(2), torch.ones(3, 1), torch.ones(2), 1.0),
            "one number per sample",
        ),
        (lambda: fe.over_samples(ellipse, torch.ones(2), torch.ones(0, 1), torch.ones(0), 1.0), "at least one entry"),
        (lambda: fe.over_gaussian(ellipse, torch.ones(1, 2), torch.ones(2, 1), 1.0), "y and mode must be"),
        (lambda: fe.over_gaussian(ellipse, torch.tensor([2.0, 1.0]), torch.tensor([-2.0]), 1.0), "positive definite"),
        (lambda: fe.over_gaussian(ellipse, torch.tensor([0.0, 9.0]), torch.tensor([0.5]), 1.0), "Newton step lowers"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_unreasonable_type_of_beta_is_a_type_error():
    with pytest.raises(TypeError, match="beta must be a number"):
        fe.free_energy(torch.ones(2), "cold")
