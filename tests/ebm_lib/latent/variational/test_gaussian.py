"""Fuzzy codes: their information against torch.distributions and the slides, draws, gradients, units."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, Uniform, kl_divergence

from ebm_lib.latent.variational import (
    cube_information,
    gaussian_entropy,
    gaussian_kl,
    in_bits,
    information_parts,
    log_normal_density,
    reparameterize,
    sampled_kl,
)

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def balls(*shape, seed=0):
    g = seeded(seed)
    mean = 2 * torch.randn(*shape, generator=g, dtype=F64)
    return mean, torch.exp(torch.randn(*shape, generator=g, dtype=F64))


def diagonal(mean, std):
    return Independent(Normal(mean, std), 1)


# ---- information


def test_information_is_torchs_divergence_between_any_two_gaussians():
    q, p = balls(7, 5), balls(7, 5, seed=1)
    torch.testing.assert_close(gaussian_kl(*q, *p), kl_divergence(diagonal(*q), diagonal(*p)))
    each = kl_divergence(Normal(*q), Normal(*p))
    torch.testing.assert_close(gaussian_kl(*q, *p, per_dimension=True), each)
    standard = diagonal(torch.zeros(5, dtype=F64), torch.ones(5, dtype=F64))
    torch.testing.assert_close(gaussian_kl(*q), kl_divergence(diagonal(*q), standard))


def test_information_has_its_minimum_0_at_the_prior_and_nowhere_else():
    mean, std = balls(1000, 3)
    assert (gaussian_kl(mean, std, per_dimension=True) > 0).all()
    m, s = torch.zeros(3, dtype=F64, requires_grad=True), torch.ones(3, dtype=F64, requires_grad=True)
    value = gaussian_kl(m, s)
    assert value.item() == 0
    slopes = torch.autograd.grad(value, (m, s))
    assert all((slope == 0).all() for slope in slopes)
    near = gaussian_kl(torch.zeros(1), torch.tensor([1 + 1e-3]))  # single precision: (s - 1)² to leading order
    assert near.item() == pytest.approx(1e-6, rel=0.1)


def test_spring_and_size_are_the_two_parts_of_the_information():
    mean, std = balls(9, 4)
    spring, size = information_parts(mean, std)
    torch.testing.assert_close(spring + size, gaussian_kl(mean, std, per_dimension=True))
    torch.testing.assert_close(spring, mean.square() / 2)
    torch.testing.assert_close(information_parts(torch.zeros_like(mean), std).size, size)


def test_a_gaussian_r_times_narrower_says_log_r_less_what_its_width_gives_back():
    # Slides: KL = log(r/s) + (s² + m²)/2r² - 1/2, for a prior of width r.
    m, s, r = 0.7, 0.3, 2.0
    found = gaussian_kl(*(torch.tensor([v], dtype=F64) for v in (m, s, 0.0, r)))
    assert found.item() == pytest.approx(math.log(r / s) + (s**2 + m**2) / (2 * r**2) - 0.5, rel=1e-12)


def test_cubes_give_d_log2_r_over_s_bits_which_is_the_divergence_of_uniforms():
    for d, r, s in ((1, 8.0, 1.0), (3, 2.0, 0.5), (10, 5.0, 4.9)):
        small, big = Uniform(-s / 2, s / 2), Uniform(-r / 2, r / 2)
        nats = d * kl_divergence(small, big).item()
        assert cube_information(d, r, s, unit="nats") == pytest.approx(nats, rel=1e-5)
        assert cube_information(d, r, s) == pytest.approx(in_bits(nats), rel=1e-5)
    assert cube_information(3, 8.0, 1.0) == 9
    assert cube_information(5, 2.0, 2.0) == 0
    torch.testing.assert_close(in_bits(torch.tensor([math.log(2), 0.0])), torch.tensor([1.0, 0.0]))


def test_density_and_entropy_are_torchs():
    mean, std = balls(6, 3)
    z = torch.randn(11, 6, 3, generator=seeded(2), dtype=F64)
    torch.testing.assert_close(log_normal_density(z, mean, std), diagonal(mean, std).log_prob(z))
    torch.testing.assert_close(log_normal_density(z), log_normal_density(z, torch.zeros(3, dtype=F64)))
    torch.testing.assert_close(gaussian_entropy(std), diagonal(mean, std).entropy())
    torch.testing.assert_close(gaussian_entropy(std, per_dimension=True), Normal(mean, std).entropy())


# ---- draws


def test_draws_have_the_moments_of_the_gaussian():
    mean, std = balls(4, 3)
    z = reparameterize(mean, std, samples=40_000, generator=seeded())
    assert z.shape == (4, 40_000, 3)
    away = (z.mean(1) - mean) / std * 200  # in standard errors
    assert away.abs().max() < 4.5
    torch.testing.assert_close(z.std(1), std, rtol=0.02, atol=0)
    one = (z - mean[:, None]) / std[:, None]
    assert (torch.einsum("bkl,bkm->blm", one, one) / 40_000 - torch.eye(3, dtype=F64)).abs().max() < 0.03
    assert torch.equal(z, reparameterize(mean, std, samples=40_000, generator=seeded()))
    assert reparameterize(mean, std, generator=seeded()).shape == (4, 3)


def test_draws_carry_gradients_to_mean_and_width():
    mean, std = balls(5, 2)
    noise = torch.randn(5, 2, generator=seeded(3), dtype=F64)
    assert torch.autograd.gradcheck(
        lambda m, s: reparameterize(m, s, noise=noise).pow(3), (mean.requires_grad_(), std.requires_grad_())
    )


def test_information_from_draws_agrees_with_the_closed_form_and_so_does_its_gradient():
    mean, std = (v.requires_grad_() for v in balls(3, 2))
    found = sampled_kl(mean, std, 20_000, generator=seeded())
    exact = gaussian_kl(mean, std)
    assert ((found.value - exact).abs() < 4.5 * found.error).all()
    estimated = torch.autograd.grad(found.value.sum(), (mean, std))
    analytic = torch.autograd.grad(exact.sum(), (mean, std))
    for a, b in zip(estimated, analytic, strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)
    # Antithetic draws whose second moment is 1 average m + sξ and its square without error, and the gradient with it.
    pairs = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]], dtype=F64)
    exactly = torch.autograd.grad(sampled_kl(mean, std, 4, noise=pairs).value.sum(), (mean, std))
    for a, b in zip(exactly, analytic, strict=True):
        torch.testing.assert_close(a, b)


def test_gradient_of_information_by_finite_differences():
    mean, std = balls(4, 3)
    assert torch.autograd.gradcheck(gaussian_kl, (mean.requires_grad_(), std.requires_grad_()))


def test_error_of_one_draw_is_unknown_and_of_many_falls_as_one_over_root():
    mean, std = balls(1, 2)
    assert sampled_kl(mean, std, 1).error.item() == math.inf
    few, many = (sampled_kl(mean, std, n, generator=seeded()).error.item() for n in (1000, 16_000))
    assert few / many == pytest.approx(4, rel=0.2)


# ---- devices, dtypes, bad input


def test_meta_device_and_dtypes():
    mean, std = torch.zeros(3, 2, device="meta"), torch.ones(3, 2, device="meta")
    assert gaussian_kl(mean, std).shape == (3,)
    assert reparameterize(mean, std, samples=5).shape == (3, 5, 2)
    assert gaussian_kl(*(v.float() for v in balls(3, 2))).dtype == torch.float32
    assert reparameterize(*balls(3, 2)).dtype == F64
    mean, std = balls(6, 3)
    torch.testing.assert_close(torch.func.vmap(gaussian_kl)(mean, std), gaussian_kl(mean, std))


def test_bad_input_is_named():
    mean, std = torch.zeros(2), torch.ones(2)
    for wrong in (0.0, -1.0):
        bad = torch.tensor([1.0, wrong])
        for call in (
            lambda s: gaussian_kl(mean, s),
            lambda s: reparameterize(mean, s),
            lambda s: log_normal_density(mean, mean, s),
            lambda s: sampled_kl(mean, s, 3),
            gaussian_entropy,
        ):
            with pytest.raises(ValueError, match=r"std must be positive: 1 of 2 values are not, .* index \(1,\)"):
                call(bad)
        with pytest.raises(ValueError, match="prior_std must be positive"):
            gaussian_kl(mean, std, mean, bad)
    with pytest.raises(ValueError, match="std must be finite"):
        gaussian_kl(mean, std * math.nan)
    with pytest.raises(ValueError, match="mean must be finite"):
        gaussian_kl(mean + math.inf, std)
    with pytest.raises(ValueError, match="mean and std must have one size"):
        gaussian_kl(mean, torch.ones(3))
    with pytest.raises(ValueError, match="samples must be"):
        reparameterize(mean, std, samples=0)
    with pytest.raises(ValueError, match=r"noise must be \(..., 4, 2\)"):
        reparameterize(mean, std, samples=4, noise=torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"z must be \(..., 2\)"):
        log_normal_density(torch.zeros(5, 3), mean, std)
    with pytest.raises(ValueError, match="s must be at most r"):
        cube_information(2, 1.0, 2.0)
    with pytest.raises(ValueError, match="s must be a positive"):
        cube_information(2, 1.0, 0.0)
    with pytest.raises(ValueError, match="d must be"):
        cube_information(0, 1.0, 1.0)
    with pytest.raises(ValueError, match="unit must be one of bits, nats"):
        cube_information(1, 1.0, 1.0, unit="bytes")
