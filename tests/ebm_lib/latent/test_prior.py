"""Fixed priors: the model integrates to one, its closed form with a linear decoder, and the bounds on its volume."""

import math

import pytest
import torch
from torch import nn

from ebm_lib.energy import evaluate, grid, log_partition
from ebm_lib.free_energy import over_grid, over_samples
from ebm_lib.latent import FixedPrior, LatentModel, Prior, latent_prior, low_energy_volume, volume_bound

F64 = torch.float64
BOX = grid([-6.0, -6.0], [6.0, 6.0], 240, dtype=F64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gauss(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def bent(kind="uniform", K=40, beta=4.0, masses=None, seed=0):
    prior = latent_prior(kind, 1, K, dtype=F64)
    if masses is not None:
        prior = Prior(prior.codes, torch.as_tensor(masses, dtype=F64).log())
    model = FixedPrior(2, prior, beta=beta, hidden=(16,), generator=seeded(seed))
    with torch.no_grad():
        model.decoder.linears[-1].weight *= 3
    return model


def entropy_of(model):
    log_p = model.log_density(BOX.points).detach()
    return -(log_p.exp() * log_p).sum().item() * math.exp(BOX.log_cell)


# ---- the prior


def test_priors_have_the_moments_they_are_named_for():
    for L, K, tolerance in ((1, 4000, 1e-3), (3, 40_000, 0.02)):
        for kind, variance in (("normal", 1.0), ("uniform", 1 / 3)):
            prior = latent_prior(kind, L, K, generator=seeded(), dtype=F64)
            assert prior.codes.shape == (K, L)
            torch.testing.assert_close(prior.codes.mean(0), torch.zeros(L, dtype=F64), atol=tolerance, rtol=0)
            torch.testing.assert_close(
                prior.codes.T @ prior.codes / K, variance * torch.eye(L, dtype=F64), atol=2 * tolerance, rtol=0
            )
            assert prior.log_mass.exp().sum().item() == pytest.approx(1)
            assert prior.entropy.item() == pytest.approx(math.log(K))
    assert latent_prior("uniform", 2, 500, generator=seeded()).codes.abs().max() <= 1
    half = Prior(torch.zeros(3, 1), torch.tensor([0.5, 0.5, 0.0]).log())
    assert half.entropy.item() == pytest.approx(math.log(2))


# ---- the free energy


def test_the_model_integrates_to_one_whatever_the_decoder_and_beta():
    for beta in (1.0, 4.0):
        for seed in range(3):
            model = bent(beta=beta, seed=seed)
            log_z = log_partition(evaluate(model, BOX.points), beta, log_volume=BOX.log_cell)
            assert log_z.item() == pytest.approx(math.log(math.pi / beta), abs=1e-6)
            assert model.log_density(BOX.points).exp().sum().item() * math.exp(BOX.log_cell) == pytest.approx(1)


def test_a_linear_decoder_with_a_gaussian_prior_has_its_closed_form():
    model = FixedPrior(2, latent_prior("normal", 1, 20_000, dtype=F64), beta=3.0, hidden=(), generator=seeded())
    (layer,) = model.decoder.linears
    covariance = layer.weight @ layer.weight.T + torch.eye(2, dtype=F64) / 6
    exact = torch.distributions.MultivariateNormal(layer.bias, covariance)
    y = 0.8 * gauss(30, 2)  # within what 20 000 quantiles of a Gaussian reach
    torch.testing.assert_close(model.log_density(y), exact.log_prob(y), atol=2e-3, rtol=1e-3)


def test_samples_and_grids_of_the_prior_give_the_same_as_the_librarys_free_energies():
    model, y = bent(), gauss(7, 2)
    torch.testing.assert_close(model(y), over_samples(model.energy, y, model.codes, torch.zeros(40, dtype=F64), 4.0))
    cells = grid([-1.0], [1.0], 40, dtype=F64)
    torch.testing.assert_close(model(y), over_grid(model.energy, y, cells, 4.0, log_prior=math.log(0.5)))


def test_zero_temperature_is_the_closest_decoded_value_with_any_mass():
    masses = torch.tensor([0.0] * 20 + [0.05] * 20)
    model, y = bent(masses=masses), gauss(9, 3, 2)
    distances = (y[..., None, :] - model.decode(model.codes)[20:]).square().sum(-1)
    torch.testing.assert_close(model.free_energy(y, math.inf), distances.amin(-1))
    torch.testing.assert_close(model.energy(y, model.infer(y)), distances.amin(-1))
    torch.testing.assert_close(model.infer(y), model.codes[20 + distances.argmin(-1)])


def test_slope_of_the_free_energy_is_the_mean_slope_under_the_posterior():
    model, y = bent(), gauss(5, 2).requires_grad_()
    (slope,) = torch.autograd.grad(model(y).sum(), y)
    weights = model.posterior(y)
    mean = (weights[..., None] * 2 * (y[:, None] - model.decode(model.codes))).sum(-2)
    torch.testing.assert_close(slope, mean.detach())
    torch.testing.assert_close(weights.sum(-1), torch.ones(5, dtype=F64))


# ---- the bounds


def test_volume_below_any_threshold_is_within_the_bound_and_meets_it_for_a_single_ball():
    model = bent()
    for threshold in (0.2, 0.5, 1.0):
        area = (model(BOX.points) <= threshold).double().sum().item() * math.exp(BOX.log_cell)
        assert area <= volume_bound(threshold, 4.0, 2)
    point = Prior(torch.zeros(1, 1, dtype=F64), torch.zeros(1, dtype=F64))
    ball = FixedPrior(2, point, beta=4.0, decoder=nn.Linear(1, 2, bias=False, dtype=F64))
    for t in (0.05, 0.1, 0.25):
        area = (ball(BOX.points) <= t).double().sum().item() * math.exp(BOX.log_cell)
        assert area == pytest.approx(math.pi * t, rel=0.05)
        assert area <= volume_bound(t, 4.0, 2)
    assert volume_bound(20.0, 50.0, 2) == math.inf  # no float is as large as e¹⁰⁰⁰
    # The bound is tight to first order where the density is constant: here the ratio is βt·e^{-βt}, at most 1/e.
    assert math.pi * 0.25 / volume_bound(0.25, 4.0, 2) == pytest.approx(1 / math.e)


def test_entropy_is_within_its_bound_and_falls_with_the_priors():
    entropies = []
    for masses in ([1 / 40] * 40, [0.25] * 4 + [0.0] * 36, [1.0] + [0.0] * 39):
        model = bent(masses=masses)
        entropies.append(entropy_of(model))
        assert entropies[-1] <= model.entropy_bound.item() + 1e-6
    assert entropies[0] > entropies[1] > entropies[2]
    assert entropies[2] == pytest.approx(model.entropy_bound.item(), abs=1e-6)  # one value: nothing but the noise
    far = FixedPrior(
        2,
        Prior(8 * torch.arange(-1, 1, dtype=F64)[:, None] + 4, torch.full((2,), 0.5).log().double()),
        beta=4.0,
        decoder=nn.Linear(1, 2, bias=False, dtype=F64),
    )
    with torch.no_grad():
        far.decoder.weight.copy_(torch.tensor([[1.0], [0.0]]))
    assert entropy_of(far) == pytest.approx(far.entropy_bound.item(), abs=1e-4)  # values far apart: all of both


# ---- learning and sampling


def test_learning_is_maximum_likelihood_and_lowers_the_volume_share():
    angle = 3 * torch.rand(400, 1, generator=seeded(), dtype=F64) - 1.5
    y = 3 * torch.cat((angle.sin(), angle.cos()), -1) + 0.1 * gauss(400, 2)
    model = FixedPrior(2, latent_prior("uniform", 1, 40, dtype=F64), beta=20.0, hidden=(16,), generator=seeded(1))
    before, wide = model.log_density(y).mean().item(), low_energy_volume(model, y, BOX).share
    history = model.learn(y, steps=300, lr=0.02)
    after = model.log_density(y).mean().item()
    assert after > before + 20
    assert history.loss[-1] < history.loss[0]
    assert low_energy_volume(model, y, BOX).share < 0.3 * wide
    # Density 1/(3·3) along the arc and a Gaussian of variance 0.01 across it: no model can expect more.
    true = -math.log(9) - 0.5 * math.log(2 * math.pi * math.e * 0.01)
    assert true - 1.0 < after < true + 0.1


def test_samples_follow_the_model():
    model = bent(masses=[0.0] * 10 + [0.02] * 10 + [0.04] * 20)
    drawn = model.sample(40_000, generator=seeded())
    decoded, masses = model.decode(model.codes).detach(), model.log_mass.exp()
    mean = masses @ decoded
    centred = decoded - mean
    covariance = centred.T @ (masses[:, None] * centred) + torch.eye(2, dtype=F64) / 8
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.T), covariance, atol=0.04, rtol=0.03)
    assert torch.equal(drawn, model.sample(40_000, generator=seeded()))
    # Masses may sum to a little less than one: no draw falls beyond the last value that has any
    short = Prior(torch.tensor([[0.0], [9.0]]), torch.tensor([0.99991, 0.0]).log())
    alone = FixedPrior(1, short, beta=100.0, decoder=nn.Linear(1, 1)).requires_grad_(False)
    assert (alone.sample(200_000, generator=seeded()) - alone.decode(torch.zeros(1))).abs().max() < 1


def test_protocol_dtype_and_meta_device():
    model = FixedPrior(2, latent_prior("normal", 1, 8), beta=1.0)
    assert isinstance(model, LatentModel)
    assert model(torch.zeros(3, 2)).dtype == torch.float32
    assert bent()(gauss(3, 2)).dtype == F64
    ghost = FixedPrior(2, latent_prior("normal", 2, 8, device="meta"), beta=1.0)
    assert ghost(torch.zeros(3, 2, device="meta")).shape == (3,)


def test_bad_input_is_named():
    prior = latent_prior("normal", 1, 4)
    with pytest.raises(ValueError, match="its masses sum to 0.5"):
        FixedPrior(2, Prior(prior.codes, prior.log_mass - math.log(2)), beta=1.0)
    with pytest.raises(ValueError, match=r"prior must hold codes \(K, L\) and log-masses \(K,\)"):
        FixedPrior(2, Prior(prior.codes, prior.log_mass[:2]), beta=1.0)
    with pytest.raises(ValueError, match="-prior.log_mass must be finite"):
        FixedPrior(2, Prior(prior.codes, prior.log_mass * math.nan), beta=1.0)
    for beta in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match="beta must be a positive"):
            FixedPrior(2, prior, beta=beta)
        with pytest.raises(ValueError, match="beta must be a positive"):
            volume_bound(0.0, beta, 2)
    with pytest.raises(ValueError, match="threshold must be a finite"):
        volume_bound(math.nan, 1.0, 2)
    with pytest.raises(ValueError, match="kind must be one of normal, uniform"):
        latent_prior("cauchy", 1, 4)
    with pytest.raises(ValueError, match="K must be"):
        latent_prior("normal", 1, 0)
    with pytest.raises(ValueError, match=r"decoder must return \(4, 2\), got \(4, 1\)"):  # it would broadcast
        FixedPrior(2, prior, beta=1.0, decoder=nn.Linear(1, 1))(torch.zeros(3, 2))
    model = FixedPrior(2, prior, beta=1.0)
    with pytest.raises(ValueError, match=r"y must be \(\.\.\., 2\)"):
        model(torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"z must be \(\.\.\., 1\)"):
        model.decode(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"y must be \(N, 2\)"):
        model.learn(torch.zeros(2))
    with pytest.raises(ValueError, match="n must be"):
        model.sample(0)
