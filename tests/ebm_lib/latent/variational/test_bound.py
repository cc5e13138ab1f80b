"""The bound against exact free energies: the linear-Gaussian model in closed form, a bent decoder on a grid."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from ebm_lib.energy import grid
from ebm_lib.free_energy import over_gaussian, over_grid, over_samples
from ebm_lib.latent import PCA, LatentModel
from ebm_lib.latent.variational import (
    LinearGaussian,
    best_gaussian,
    bound_on_grid,
    descend,
    importance_bound,
    log_normal_density,
    quadratic_free_energy,
    reparameterize,
    variational_free_energy,
)
from ebm_lib.nn import MLP

F64 = torch.float64
PLANE = grid([-7.0, -7.0], [7.0, 7.0], 140, dtype=F64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gauss(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def linear(D=4, L=2, beta=1.5):
    model = LinearGaussian(D, L, beta=beta, generator=seeded(), dtype=F64)
    with torch.no_grad():
        model.W[:, 1] += 0.8 * model.W[:, 0]  # dimensions of z that depend on each other, given y
        model.mean.copy_(gauss(D, seed=9))
    return model


def bent():
    """A decoder of two latent dimensions that is far from linear."""
    net = MLP((2, 12, 3), activation="tanh", generator=seeded(3), dtype=F64)
    with torch.no_grad():
        net.linears[-1].weight *= 4
    return lambda y, z: (y - net(z)).square().sum(-1)


def some_q(n, L=2, seed=5):
    return 0.7 * gauss(n, L, seed=seed), torch.exp(0.4 * gauss(n, L, seed=seed + 1) - 0.7)


# ---- the oracle


def test_linear_gaussian_has_the_density_and_posterior_of_torchs_gaussians():
    model, y = linear(), gauss(6, 4)
    W, noise = model.W.detach(), torch.eye(4, dtype=F64) / (2 * model.beta)
    marginal = MultivariateNormal(model.mean.detach(), W @ W.T + noise)
    torch.testing.assert_close(model.log_density(y).detach(), marginal.log_prob(y))
    # Conditioning the joint Gaussian of (z, y): another route to the posterior.
    gain = W.T @ torch.linalg.inv(W @ W.T + noise)
    found = model.posterior(y)
    torch.testing.assert_close(found.mean.detach(), (y - model.mean.detach()) @ gain.T)
    torch.testing.assert_close(found.covariance.detach(), torch.eye(2, dtype=F64) - gain @ W)


def test_linear_gaussian_free_energy_by_grid_laplace_and_at_zero_temperature():
    model, y = linear(), gauss(5, 4)
    for beta in (0.3, 1.5, 4.0):
        exact = model.free_energy(y, beta)
        torch.testing.assert_close(
            exact, over_grid(model.energy, y, PLANE, beta, log_prior=log_normal_density(PLANE.points))
        )

        def priced(y, z, beta=beta):
            return model.energy(y, z) - log_normal_density(z) / beta

        laplace = over_gaussian(priced, y, model.posterior(y, beta).mean, beta)
        torch.testing.assert_close(exact, laplace)
    torch.testing.assert_close(model.free_energy(y, math.inf), model.energy(y, model.infer(y)))
    torch.testing.assert_close(model.free_energy(y, 1e7), model.free_energy(y, math.inf), rtol=1e-4, atol=1e-4)
    flat = PCA(4, 2, dtype=F64)
    with torch.no_grad():
        flat.W.copy_(model.W)
        flat.mean.copy_(model.mean)
    torch.testing.assert_close(flat(y), model.free_energy(y, math.inf))
    assert isinstance(model, LatentModel)


def test_linear_gaussian_learns_by_maximum_likelihood():
    true = linear(5, 2, beta=3.0)
    y = true.sample(4000, generator=seeded(1))
    model = LinearGaussian(5, 2, dtype=F64)
    record = model.learn(y)
    value = model.log_density(y).mean().item()
    assert record.loss[0] == pytest.approx(-value, rel=1e-10)
    assert value > true.log_density(y).mean().item()  # the data's own maximum is above the truth
    assert model.beta == pytest.approx(3.0, rel=0.05)
    torch.testing.assert_close((model.W @ model.W.T), (true.W @ true.W.T), rtol=0.15, atol=0.15)
    # No small change of any parameter helps.
    for seed in range(6):
        other = LinearGaussian(5, 2, beta=model.beta * (1 + 0.01 * (-1) ** seed), dtype=F64)
        with torch.no_grad():
            other.W.copy_(model.W + 0.02 * gauss(5, 2, seed=seed))
            other.mean.copy_(model.mean + 0.02 * gauss(5, seed=seed))
        assert other.log_density(y).mean().item() < value
    copy = LinearGaussian(5, 2, dtype=F64)
    copy.load_state_dict(model.state_dict())
    torch.testing.assert_close(copy(y[:9]), model(y[:9]))


def test_linear_gaussian_samples_have_its_covariance():
    model = linear()
    y = model.sample(60_000, generator=seeded())
    expected = model.W.detach() @ model.W.detach().T + torch.eye(4, dtype=F64) / 3
    torch.testing.assert_close(torch.cov(y.T), expected, rtol=0.05, atol=0.05)
    torch.testing.assert_close(y.mean(0), model.mean.detach(), rtol=0, atol=0.03)


# ---- the gap


def test_gap_is_the_divergence_from_the_true_posterior_over_beta_to_one_in_a_million():
    model, y = linear(), gauss(8, 4)
    q = some_q(8)
    for beta in (0.4, 1.5, 5.0):
        posterior = model.posterior(y, beta)
        true = MultivariateNormal(posterior.mean, posterior.covariance.expand(8, 2, 2))
        ball = MultivariateNormal(q[0], torch.diag_embed(q[1].square()))
        expected = (kl_divergence(ball, true) / beta).detach()
        for bound in (model.bound(y, *q, beta), quadratic_free_energy(model.energy, y, *q, beta)):
            gap = (bound.free_energy - model.free_energy(y, beta)).detach()
            torch.testing.assert_close(gap, expected, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(model.gap(y, *q, beta).detach(), expected, rtol=1e-6, atol=1e-9)
        on_grid = bound_on_grid(model.energy, y, *q, beta, PLANE)
        torch.testing.assert_close(on_grid.gap.detach(), expected, rtol=1e-4, atol=1e-5)


def test_gap_vanishes_at_the_posterior_and_the_best_ball_is_where_its_slope_does():
    model, y = linear(), gauss(3, 4)
    with torch.no_grad():
        model.W.copy_(torch.linalg.qr(model.W)[0] * 1.3)  # orthogonal columns: the posterior is itself diagonal
    posterior = model.posterior(y)
    std = posterior.covariance.diagonal().sqrt().expand(3, 2)
    assert model.gap(y, posterior.mean, std).abs().max() < 1e-10
    tilted = linear()
    mean, std = (v.detach().clone().requires_grad_() for v in tilted.encode(y))
    slopes = torch.autograd.grad(tilted.gap(y, mean, std).sum(), (mean, std))
    assert max(s.abs().max().item() for s in slopes) < 1e-9
    assert (tilted.gap(y, mean, std) > 0.01).all()


def test_on_a_grid_bound_free_energy_and_gap_agree_and_the_bound_is_above():
    energy, y = bent(), gauss(6, 3)
    q = some_q(6)
    for beta in (0.5, 3.0):
        found = bound_on_grid(energy, y, *q, beta, PLANE)
        torch.testing.assert_close(found.bound - found.free_energy, found.gap)
        assert (found.gap > 0).all()
        exact = over_grid(energy, y, PLANE, beta, log_prior=log_normal_density(PLANE.points))
        torch.testing.assert_close(found.free_energy, exact)
        drawn = variational_free_energy(energy, y, *q, beta, samples=20_000, generator=seeded())
        assert ((drawn.free_energy - found.bound).abs() < 4.5 * drawn.error).all()


def test_on_a_grid_that_cuts_off_a_little_of_q_the_gap_is_still_the_difference():
    energy, y = bent(), gauss(1, 3)
    cut = grid([-3.5] * 2, [3.5] * 2, 100, dtype=F64)
    q = torch.zeros(1, 2, dtype=F64), torch.full((1, 2), 0.98, dtype=F64)  # 0.1 % of it is outside
    found = bound_on_grid(energy, y + 30, *q, 1.0, cut)  # at a high energy, which lost mass would lower visibly
    torch.testing.assert_close(found.bound - found.free_energy, found.gap, rtol=1e-9, atol=1e-9)


# ---- the bound by draws


def test_draws_agree_with_the_exact_bound_within_their_error_and_never_fall_below_the_free_energy():
    model, y = linear(), gauss(40, 4)
    q = some_q(40)
    exact = model.bound(y, *q)
    drawn = variational_free_energy(model.energy, y, *q, model.beta, samples=2000, generator=seeded())
    away = (drawn.free_energy - exact.free_energy) / drawn.error
    assert away.abs().max() < 4.5
    assert 0.6 < away.std() < 1.5  # the error bar is neither too wide nor too narrow
    assert (drawn.free_energy > model(y) - 4.5 * drawn.error).all()
    torch.testing.assert_close(drawn.information, exact.information)


def test_another_prior_is_averaged_over_the_same_draws():
    model, y, q = linear(), gauss(5, 4), some_q(5)
    spread = 2.0

    def log_prior(z):
        return log_normal_density(z, torch.zeros(2, dtype=F64), torch.full((2,), spread, dtype=F64))

    drawn = variational_free_energy(model.energy, y, *q, 1.5, samples=20_000, generator=seeded(), log_prior=log_prior)
    on_grid = bound_on_grid(model.energy, y, *q, 1.5, PLANE, log_prior=log_prior)
    assert ((drawn.free_energy - on_grid.bound).abs() < 4.5 * drawn.error).all()
    mean, std = model.encode(y)
    wide = {"samples": 4000, "generator": seeded(), "log_prior": log_prior}
    weighted = importance_bound(model.energy, y, mean, 1.8 * std, 1.5, **wide)
    assert ((weighted.free_energy - on_grid.free_energy).abs() < 5 * weighted.error).all()


def test_gradient_of_the_bound_by_draws_is_that_of_the_exact_one():
    model, y = linear(), gauss(2, 4)
    q = tuple(v.requires_grad_() for v in some_q(2))
    inputs = (*q, model.W)
    exact = torch.autograd.grad(model.bound(y, *q).free_energy.sum(), inputs)
    # The corners of a square have a Gaussian's moments up to the second, which is all that a quadratic asks of draws.
    corners = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]], dtype=F64)
    drawn = variational_free_energy(model.energy, y, *q, model.beta, samples=4, noise=corners)
    for a, b in zip(torch.autograd.grad(drawn.free_energy.sum(), inputs), exact, strict=True):
        torch.testing.assert_close(a, b)
    assert torch.autograd.gradcheck(lambda m, s: model.bound(y, m, s).free_energy, q)


def test_infinite_beta_drops_the_information():
    model, y, q = linear(), gauss(3, 4), some_q(3)
    found = variational_free_energy(model.energy, y, *q, math.inf, samples=5, generator=seeded())
    torch.testing.assert_close(found.free_energy, found.mean_energy)
    assert (found.information > 0).all()


# ---- importance weights


def test_importance_bound_closes_with_more_samples_and_stays_above_on_average():
    model, y, q = linear(), gauss(4, 4), some_q(4)
    exact, n = model(y).detach(), 2000
    means, errors = [], []
    for samples in (1, 4, 16, 64):
        found = importance_bound(
            model.energy, y.repeat(n, 1), *(v.repeat(n, 1) for v in q), model.beta, samples=samples, generator=seeded()
        )
        values = found.free_energy.detach().reshape(n, 4)
        means.append(values.mean(0))
        errors.append(values.std(0) / math.sqrt(n))
        assert (means[-1] > exact - 4.5 * errors[-1]).all()
        assert (found.effective_samples <= samples + 1e-9).all()
    for k in range(3):
        assert (means[k + 1] < means[k] + 4.5 * (errors[k].square() + errors[k + 1].square()).sqrt()).all()
    start = model.bound(y, *q).free_energy.detach()  # one sample is the bound itself
    assert ((means[0] - start).abs() < 4.5 * errors[0]).all()
    assert ((means[3] - exact) < 0.25 * (start - exact)).all()


def test_the_posterior_as_proposal_gives_the_exact_value_from_one_draw():
    model, y = linear(), gauss(4, 4)
    with torch.no_grad():
        model.W.copy_(torch.linalg.qr(model.W)[0] * 1.3)
    found = importance_bound(model.energy, y, *model.encode(y), model.beta, samples=3, generator=seeded())
    torch.testing.assert_close(found.free_energy, model(y))
    torch.testing.assert_close(found.effective_samples.detach(), torch.full((4,), 3.0, dtype=F64))
    assert found.error.max() < 1e-6


def test_importance_bound_is_the_librarys_estimate_from_samples():
    model, y, q = linear(), gauss(4, 4), some_q(4)
    noise = gauss(1, 4, 50, 2, seed=8)
    z = reparameterize(*q, samples=50, noise=noise[0])
    ratio = log_normal_density(z, q[0][:, None], q[1][:, None]) - log_normal_density(z)
    expected = over_samples(model.energy, y, z, ratio, 1.5)
    found = importance_bound(model.energy, y, *q, 1.5, samples=50, noise=noise)
    torch.testing.assert_close(found.free_energy, expected)


def test_both_error_bars_tell_how_far_estimates_scatter():
    model, y = linear(), gauss(6, 4)
    mean, std = model.encode(y)
    q = mean.detach() + 0.3 * std.detach(), 1.8 * std.detach()
    copies = y.repeat(300, 1), *(v.repeat(300, 1) for v in q)
    many = importance_bound(model.energy, *copies, 1.5, samples=200, generator=seeded()).free_energy.detach()
    many = many.reshape(300, 6)
    once = importance_bound(model.energy, y, *q, 1.5, samples=200, generator=seeded(1000))
    torch.testing.assert_close(once.error, many.std(0), rtol=0.4, atol=0)
    repeated = importance_bound(model.energy, y, *q, 1.5, samples=200, repeats=300, generator=seeded(1))
    torch.testing.assert_close(repeated.error, many.std(0) / math.sqrt(300), rtol=0.25, atol=0)
    alone = importance_bound(model.energy, y, *q, 1.5, samples=1)
    assert (alone.error == math.inf).all()


def test_repeats_are_the_mean_of_their_runs_and_the_error_bar_with_another_prior_is_that_of_all_its_terms():
    model, y, q = linear(), gauss(4, 4), some_q(4)
    noise = gauss(3, 4, 20, 2, seed=8)
    found = importance_bound(model.energy, y, *q, 1.5, samples=20, repeats=3, noise=noise)
    alone = [importance_bound(model.energy, y, *q, 1.5, samples=20, noise=noise[r : r + 1]) for r in range(3)]
    values = torch.stack([one.free_energy for one in alone])
    torch.testing.assert_close(found.free_energy, values.mean(0))
    torch.testing.assert_close(found.error, values.detach().std(0) / math.sqrt(3))
    torch.testing.assert_close(found.effective_samples, sum(one.effective_samples for one in alone) / 3)

    def log_prior(z):
        return log_normal_density(z / 2) - 2 * math.log(2)

    drawn = variational_free_energy(model.energy, y, *q, 1.5, samples=20, noise=noise[0], log_prior=log_prior)
    z = reparameterize(*q, samples=20, noise=noise[0])
    ratio = log_normal_density(z, q[0][:, None], q[1][:, None]) - log_prior(z)
    terms = (model.energy(y[:, None], z) + ratio / 1.5).detach()
    torch.testing.assert_close(drawn.free_energy.detach(), terms.mean(-1))
    torch.testing.assert_close(drawn.error, terms.std(-1) / math.sqrt(20))


# ---- exact tools


def test_quadratic_bound_is_exact_for_cubics_and_refuses_what_is_neither():
    cubic = lambda y, z: (y - z).square().sum(-1) + 0.3 * z[..., 0] * z[..., 1] ** 2 + 0.1 * z[..., 0] ** 3
    y, q = gauss(5, 2), some_q(5)
    drawn = variational_free_energy(cubic, y, *q, 1.0, samples=40_000, generator=seeded())
    exact = quadratic_free_energy(cubic, y, *q, 1.0)
    assert ((drawn.free_energy - exact.free_energy).abs() < 4.5 * drawn.error).all()
    for bad in (
        lambda y, z: (y - z.tanh()).square().sum(-1),
        lambda y, z: z[..., 0].square() * z[..., 1].square() + 0 * y.sum(-1),  # a product: only a diagonal shows it
    ):
        with pytest.raises(ValueError, match="energy must be quadratic in z"):
            quadratic_free_energy(bad, y, *q, 1.0)
    found = quadratic_free_energy(linear().energy, gauss(5, 4).float().double(), *q, 1.0)
    assert (found.error == 0).all()


def test_best_gaussian_is_the_closed_form_of_a_quadratic_and_lowers_the_bound_of_a_bent_decoder():
    model, y = linear(), gauss(3, 4)
    start = torch.zeros(3, 2, dtype=F64), torch.ones(3, 2, dtype=F64)
    found = best_gaussian(model.energy, y, *start, model.beta, steps=250, lr=0.1, generator=seeded())
    for a, b in zip(found, model.encode(y), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-3, atol=1e-3)
    energy, y, q = bent(), gauss(6, 3), some_q(6)
    before = bound_on_grid(energy, y, *q, 3.0, PLANE)
    best = best_gaussian(energy, y, *q, 3.0, samples=64, steps=120, lr=0.1, generator=seeded())
    after = bound_on_grid(energy, y, *best, 3.0, grid([-5.0] * 2, [5.0] * 2, 200, dtype=F64))
    assert (after.bound < before.bound).all()
    assert (after.gap >= 0).all()
    assert model.W.grad is None
    stay = best_gaussian(energy, y, *q, 3.0, steps=1, lr=1e-12, generator=seeded())
    for a, b in zip(stay, q, strict=True):  # it starts from what it is given
        torch.testing.assert_close(a, b)


def test_descent_never_rises_reaches_the_minimum_and_stays_in_its_set():
    model, y = linear(), gauss(5, 4)
    found = descend(lambda z: model.energy(y, z), torch.zeros(5, 2, dtype=F64), steps=100)
    torch.testing.assert_close(found, model.infer(y), rtol=1e-5, atol=1e-5)
    energy = bent()
    start = gauss(5, 2)
    value = energy(gauss(5, 3), start)
    for steps in (1, 5, 25):
        new = energy(gauss(5, 3), descend(lambda z: energy(gauss(5, 3), z), start, steps=steps))
        assert (new <= value).all()
        value = new
    # Held to a half line, the minimum is where the line is nearest.
    held = descend(lambda z: (z + 2).square().sum(-1), torch.ones(2, 1), project=lambda z: z.clamp(min=0))
    assert (held == 0).all()
    # On a plateau there is nowhere to go, however long one tries.
    start = gauss(3, 2).float()
    assert torch.equal(descend(lambda z: 0 * z.sum(-1), start, steps=200), start)


# ---- bad input


def test_bad_input_is_named():
    model, y = linear(), gauss(3, 4)
    q = some_q(3)
    with pytest.raises(ValueError, match="std must be positive"):
        variational_free_energy(model.energy, y, q[0], -q[1], 1.0)
    with pytest.raises(ValueError, match="samples must be"):
        variational_free_energy(model.energy, y, *q, 1.0, samples=0)
    with pytest.raises(ValueError, match="samples must be"):
        importance_bound(model.energy, y, *q, 1.0, samples=0)
    with pytest.raises(ValueError, match="repeats must be"):
        importance_bound(model.energy, y, *q, 1.0, samples=3, repeats=0)
    for beta in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="beta must be a positive"):
            variational_free_energy(model.energy, y, *q, beta)
        with pytest.raises(ValueError, match="beta must be a positive"):
            model.free_energy(y, beta)
    with pytest.raises(ValueError, match="beta must be a positive finite"):
        importance_bound(model.energy, y, *q, math.inf, samples=3)
    wall = lambda y, z: torch.where(z[..., 0] > 0, math.inf, 0.0) + 0 * y.sum(-1)
    with pytest.raises(ValueError, match="energy must be finite"):
        variational_free_energy(wall, y, *q, 1.0, samples=50, generator=seeded())
    with pytest.raises(ValueError, match=r"energy is \+inf at every draw"):
        importance_bound(wall, y, q[0].abs() + 9, 0.1 * q[1], 1.0, samples=5)
    assert importance_bound(wall, y, *q, 1.0, samples=400, generator=seeded()).free_energy.isfinite().all()
    with pytest.raises(ValueError, match="latent must be a grid that covers q finely"):
        bound_on_grid(model.energy, y, *q, 1.0, grid([-1.0] * 2, [1.0] * 2, 50, dtype=F64))
    with pytest.raises(ValueError, match=r"noise must be \(2, ..., 3, L\)"):
        importance_bound(model.energy, y, *q, 1.0, samples=3, repeats=2, noise=torch.zeros(1, 3, 3, 2, dtype=F64))
    with pytest.raises(ValueError, match="samples must be even"):
        best_gaussian(model.energy, y, *q, 1.0, samples=5)
    with pytest.raises(ValueError, match="L must be at most the 2 dimensions"):
        LinearGaussian(2, 3)
    with pytest.raises(ValueError, match="L must be below"):
        LinearGaussian(2, 2).learn(torch.randn(9, 2, generator=seeded()))
    with pytest.raises(ValueError, match="beta would be infinite"):
        LinearGaussian(3, 2, dtype=F64).learn(gauss(9, 2) @ gauss(2, 3))
    for seed in range(5):  # in single precision rounding leaves a little noise, of either sign
        with pytest.raises(ValueError, match="beta would be infinite|points span no more"):
            LinearGaussian(4, 2).learn((gauss(30, 2, seed=seed) @ gauss(2, 4, seed=9)).float())
    with pytest.raises(ValueError, match="points span no more dimensions"):
        LinearGaussian(3, 2).learn(torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"y must be \(..., 4\)"):
        model(torch.zeros(3, 3, dtype=F64))
    ghost = LinearGaussian(4, 2, device="meta")
    assert ghost(torch.zeros(3, 4, device="meta")).shape == (3,)
