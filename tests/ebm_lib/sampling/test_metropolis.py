"""MALA and HMC: detailed balance, invariance of known laws, the leapfrog's algebra, walls of infinite energy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.distributions import Normal

from ebm_lib import sampling


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=seeded(seed), dtype=torch.float64)


def wells(y):
    """A double well, tilted, coupled between coordinates."""
    return (y.square() - 1).square().sum(-1) + 0.3 * y[..., 0] + 0.5 * y[..., 0] * y[..., -1]


# --- the ratio -----------------------------------------------------------------------------------------------------
@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 1.0), st.floats(0.2, 5.0), st.integers(0, 10_000))
def test_malas_ratio_is_that_of_target_and_proposal_densities(step_size, beta, seed):
    y, xi = randn(6, 3, seed=seed), randn(6, 3, seed=seed + 1)
    state = sampling.start_state(wells, y)
    accepted, info = sampling.mala_step(wells, state, xi, torch.zeros(6), step_size=step_size, beta=beta)
    rejected, _ = sampling.mala_step(wells, state, xi, torch.ones(6), step_size=step_size, beta=beta)
    there = sampling.langevin_step(wells, state, xi, step_size=step_size, beta=beta)
    spread = math.sqrt(2 * step_size / beta)
    forward = Normal(y - step_size * state.gradient, spread).log_prob(there.position).sum(-1)
    back = Normal(there.position - step_size * there.gradient, spread).log_prob(y).sum(-1)
    expected = beta * (wells(y) - wells(there.position)) + back - forward
    torch.testing.assert_close(info.log_ratio, expected, rtol=1e-8, atol=1e-7)
    torch.testing.assert_close(info.acceptance, expected.clamp(max=0).exp(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(info.energy, wells(there.position))
    possible = info.acceptance > 0
    for got, want in zip(accepted, there, strict=True):
        assert torch.equal(got[possible], want[possible])
    for got, want in zip(rejected, state, strict=True):
        assert torch.equal(got[info.acceptance < 1], want[info.acceptance < 1])


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 0.4), st.floats(0.2, 5.0), st.integers(1, 6), st.integers(0, 10_000), st.booleans())
def test_hmcs_ratio_is_that_of_the_two_ends_hamiltonians(step_size, beta, steps, seed, massive):
    y, xi = randn(6, 3, seed=seed), randn(6, 3, seed=seed + 1)
    mass = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64) if massive else None
    m = torch.ones(3, dtype=torch.float64) if mass is None else mass
    state = sampling.start_state(wells, y)
    p = xi * (m / beta).sqrt()
    there, q = sampling.leapfrog(wells, state, p, step_size=step_size, steps=steps, mass=mass)
    hamiltonian = lambda y, p: wells(y) + (p.square() / (2 * m)).sum(-1)
    kw = dict(step_size=step_size, leapfrog_steps=steps, beta=beta, mass=mass)
    _, info = sampling.hmc_step(wells, state, xi, torch.zeros(6), **kw)
    expected = beta * (hamiltonian(y, p) - hamiltonian(there.position, q))
    torch.testing.assert_close(info.log_ratio, expected, rtol=1e-8, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 0.7), st.floats(0.3, 4.0))
def test_hmc_with_one_leapfrog_step_is_mala_of_half_its_square(step_size, beta):
    kw = dict(steps=15, beta=beta, keep_every=1, burn_in=3)
    one = sampling.hmc(wells, randn(8, 2), step_size=step_size, leapfrog_steps=1, generator=seeded(5), **kw)
    other = sampling.mala(wells, randn(8, 2), step_size=step_size**2 / 2, generator=seeded(5), **kw)
    torch.testing.assert_close(one.path, other.path, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(one.acceptance, other.acceptance, rtol=1e-6, atol=1e-8)


# --- invariance ----------------------------------------------------------------------------------------------------
def well_samples(count, beta, seed):
    """Exact samples of exp(-beta (y² - 1)² - beta y) by inverting the cumulative sum on a fine grid, and its law."""
    points = np.linspace(-3, 3, 200_001)
    density = np.exp(-beta * ((points**2 - 1) ** 2 + points))
    cumulative = np.cumsum(density) / density.sum()
    law = lambda y: np.interp(y, points, cumulative)
    return torch.from_numpy(np.interp(rand(count, 1, seed=seed).numpy(), cumulative, points)), law


@pytest.mark.parametrize("beta", [0.7, 2.5])
@pytest.mark.parametrize(
    ("sampler", "kw"),
    [
        ("mala", dict(step_size=0.25)),
        ("hmc", dict(step_size=0.45, leapfrog_steps=3)),
        ("hmc", dict(step_size=0.6, leapfrog_steps=2, mass=torch.tensor([2.5], dtype=torch.float64), jitter=0.3)),
    ],
)
def test_the_target_is_invariant_at_a_long_step(sampler, kw, beta):
    start, law = well_samples(40_000, beta, seed=1)
    energy = lambda y: ((y.square() - 1).square() + y).sum(-1)
    found = getattr(sampling, sampler)(energy, start, steps=6, beta=beta, generator=seeded(2), **kw)
    assert stats.kstest(found.position[:, 0].numpy(), law).pvalue > 1e-3
    assert 0.3 < found.acceptance.mean() < 0.97  # the correction has work to do
    assert (found.position != start).double().mean() > 0.9


@pytest.mark.parametrize(
    ("sampler", "kw"), [("mala", dict(step_size=0.3)), ("hmc", dict(step_size=0.8, leapfrog_steps=3))]
)
def test_from_afar_the_variance_is_the_targets_not_langevins(sampler, kw):
    precision, beta = torch.tensor([0.5, 2.0], dtype=torch.float64), 2.0
    energy = lambda y: 0.5 * (y.square() * precision).sum(-1)
    start = torch.full((10_000, 2), 2.0, dtype=torch.float64)
    found = getattr(sampling, sampler)(energy, start, steps=60, beta=beta, generator=seeded(3), **kw)
    assert ((found.position.square().mean(0) * beta * precision - 1).abs() < 5 * math.sqrt(2 / 10_000)).all()
    assert (found.position.mean(0).abs() < 5 * (1 / (beta * precision) / 10_000).sqrt()).all()


# --- the leapfrog --------------------------------------------------------------------------------------------------
@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 0.9), st.integers(1, 12), st.booleans())
def test_on_a_quadratic_the_leapfrog_is_a_known_matrix_of_determinant_one(step_size, steps, massive):
    curvature = torch.tensor([0.7, 3.0], dtype=torch.float64)
    mass = torch.tensor([2.0, 0.8], dtype=torch.float64) if massive else None
    m = torch.ones(2, dtype=torch.float64) if mass is None else mass
    energy = lambda y: 0.5 * (curvature * y.square()).sum(-1)
    y, p = randn(5, 2, seed=4), randn(5, 2, seed=5)
    there, q = sampling.leapfrog(
        energy, sampling.start_state(energy, y), p, step_size=step_size, steps=steps, mass=mass
    )
    for i in range(2):
        k, e, w = curvature[i].item(), step_size, m[i].item()
        one = np.array(
            [[1 - e * e * k / (2 * w), e / w], [-e * k * (1 - e * e * k / (4 * w)), 1 - e * e * k / (2 * w)]]
        )
        assert np.linalg.det(one) == pytest.approx(1)
        expected = np.linalg.matrix_power(one, steps) @ np.stack([y[:, i], p[:, i]])
        np.testing.assert_allclose(np.stack([there.position[:, i], q[:, i]]), expected, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(there.gradient, curvature * there.position)
    torch.testing.assert_close(there.energy, energy(there.position))


def test_the_leapfrog_goes_back_when_the_momentum_turns_and_its_error_falls_with_the_square_of_the_step():
    y, p = randn(4, 2, seed=6) / 2, randn(4, 2, seed=7) / 2
    state = sampling.start_state(wells, y)
    there, q = sampling.leapfrog(wells, state, p, step_size=0.1, steps=9)
    back, r = sampling.leapfrog(wells, there, -q, step_size=0.1, steps=9)
    torch.testing.assert_close(back.position, y)
    torch.testing.assert_close(-r, p)
    total = lambda s, p: s.energy + p.square().sum(-1) / 2
    errors = []
    for halving in range(3):
        e = 0.02 / 2**halving
        end, q = sampling.leapfrog(wells, state, p, step_size=e, steps=round(0.4 / e))
        errors.append((total(end, q) - total(state, p)).abs().max())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


def test_at_resonance_chains_return_to_their_start_and_jitter_frees_them():
    step_size = 2 * math.sin(math.pi / 7)  # the leapfrog then turns by 2π/7 a step
    energy, start = (lambda y: 0.5 * y.square().sum(-1)), randn(500, 1, seed=8)
    kw = dict(steps=5, step_size=step_size, leapfrog_steps=7)
    stuck = sampling.hmc(energy, start, generator=seeded(9), **kw)
    torch.testing.assert_close(stuck.position, start)
    free = sampling.hmc(energy, start, jitter=0.2, generator=seeded(9), **kw)
    assert (free.position - start).abs().mean() > 0.3


@given(st.floats(0.01, 0.99))
@settings(max_examples=10, deadline=None)
def test_jitter_gives_each_chain_and_trajectory_a_step_of_its_own(jitter):
    found = sampling.hmc(
        wells, randn(5, 2), steps=3, step_size=0.2, leapfrog_steps=2, jitter=jitter, keep_every=1, generator=seeded(4)
    )
    generator, state = seeded(4), sampling.start_state(wells, randn(5, 2))
    for position in found.path:
        noise = torch.randn(5, 2, generator=generator, dtype=torch.float64)
        coin = torch.rand(5, generator=generator, dtype=torch.float64)
        stretch = torch.rand(5, 1, generator=generator, dtype=torch.float64)
        lengths = 0.2 * (1 - jitter + 2 * jitter * stretch)
        assert ((lengths >= 0.2 * (1 - jitter)) & (lengths <= 0.2 * (1 + jitter))).all()
        state, _ = sampling.hmc_step(wells, state, noise, coin, step_size=lengths, leapfrog_steps=2)
        torch.testing.assert_close(position, state.position)


# --- runs ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("burn_in", [0, 7, 40])
def test_acceptance_and_path_are_those_of_single_steps_after_the_burn_in(burn_in):
    found = sampling.mala(
        wells, randn(6, 2), steps=45, step_size=0.15, burn_in=burn_in, keep_every=3, generator=seeded(6)
    )
    generator, state, infos, states = seeded(6), sampling.start_state(wells, randn(6, 2)), [], []
    for _ in range(burn_in + 45):
        noise = torch.randn(6, 2, generator=generator, dtype=torch.float64)
        coin = torch.rand(6, generator=generator, dtype=torch.float64)
        state, info = sampling.mala_step(wells, state, noise, coin, step_size=0.15)
        states.append(state)
        infos.append(info)
    torch.testing.assert_close(found.acceptance, torch.stack([i.acceptance for i in infos[burn_in:]]).mean(0))
    assert torch.equal(found.path, torch.stack([s.position for s in states[burn_in:]][2::3]))
    assert torch.equal(found.path_energy, torch.stack([s.energy for s in states[burn_in:]][2::3]))
    assert torch.equal(found.position, state.position)
    torch.testing.assert_close(found.energy, wells(found.position))
    assert found.evaluations == 46 + burn_in


def test_hmc_counts_what_it_evaluates_and_goes_on_where_it_stopped():
    calls = 0

    def counted(y):
        nonlocal calls
        calls += 1
        return wells(y)

    found = sampling.hmc(counted, randn(3, 2), steps=11, step_size=0.1, leapfrog_steps=4, burn_in=5, generator=seeded())
    assert calls == found.evaluations == 1 + 16 * 4
    generator = seeded()
    part = sampling.hmc(wells, randn(3, 2), steps=7, step_size=0.1, leapfrog_steps=4, generator=generator)
    part = sampling.hmc(wells, part.position, steps=9, step_size=0.1, leapfrog_steps=4, generator=generator)
    assert torch.equal(part.position, found.position)


# --- what is not a number ------------------------------------------------------------------------------------------
def decaying(y):
    """Exponential law on the positive half-line; the other half is impossible, and its gradient there is NaN."""
    return torch.where(y > 0, (y.sqrt()).square(), math.inf).sum(-1)


@pytest.mark.parametrize(
    ("sampler", "kw"), [("mala", dict(step_size=0.5)), ("hmc", dict(step_size=0.7, leapfrog_steps=2))]
)
def test_a_proposal_of_infinite_energy_is_rejected_and_the_law_is_right_up_to_the_wall(sampler, kw):
    beta = 2.0
    start = -torch.log1p(-rand(20_000, 1, seed=10)) / beta
    assert torch.isnan(sampling.chains.value_and_gradient(decaying, -start)[1]).all()
    run = getattr(sampling, sampler)
    if sampler == "hmc":  # its trajectories pass through the forbidden half, where their forces must be numbers
        energy = lambda y: torch.where(y > 0, y, math.inf).sum(-1)
    else:
        energy = decaying
    found = run(energy, start, steps=10, beta=beta, generator=seeded(11), **kw)
    assert (found.position > 0).all()
    assert stats.kstest(found.position[:, 0].numpy() * beta, "expon").pvalue > 1e-3
    assert 0.2 < found.acceptance.mean() < 0.9
    assert found.divergences.sum() > 0  # a wall is an energy error without bound


def test_a_coin_of_zero_does_not_lead_where_nothing_is_possible():

    def wall(y):
        return torch.where(y[..., 0] > 0, y[..., 0], math.inf)

    state = sampling.start_state(wall, torch.tensor([[0.1]]))
    there, info = sampling.mala_step(wall, state, torch.tensor([[-9.0]]), torch.zeros(1), step_size=0.5)
    assert info.energy.item() == math.inf
    assert (there.position.item(), there.energy.item()) == (state.position.item(), state.energy.item())


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("at", [1, 32, 33, 45])
@pytest.mark.parametrize("sampler", ["mala", "hmc"])
def test_a_proposal_that_is_no_energy_raises_with_step_chain_and_value(sampler, at, value):
    calls, gradients = -1, 3 if sampler == "hmc" else 1

    def energy(y):
        nonlocal calls
        calls += 1
        result = y.square().sum(-1)
        return result + torch.tensor([[0.0, 0.0], [0.0, value]]) if calls == at * gradients else result

    kw = dict(leapfrog_steps=3) if sampler == "hmc" else {}
    message = rf"chain \(1, 1\) at step {at} of 45 .*step_size=0.1, has energy {value}"
    with pytest.raises(FloatingPointError, match=message):
        getattr(sampling, sampler)(
            energy, torch.zeros(2, 2, 2), steps=40, burn_in=5, step_size=0.1, generator=seeded(), **kw
        )


def test_a_gradient_that_is_not_finite_where_the_energy_is_raises():
    edge = lambda y: (y.square() + 0 * (y * (y > 0)).sqrt()).sum(-1)  # its gradient is NaN at and below 0
    with pytest.raises(ValueError, match="gradient at the start must be finite"):
        sampling.start_state(edge, torch.zeros(1))
    assert torch.isfinite(edge(torch.tensor([-1.0])))
    with pytest.raises(FloatingPointError, match=r"at step 1 of 5 .* log acceptance ratio nan"):
        sampling.mala(edge, torch.full((50, 1), 0.1), steps=5, step_size=0.5, generator=seeded())


def test_broken_trajectories_are_counted_after_the_burn_in_and_never_accepted():
    energy, start = (lambda y: 0.5 * 1e4 * y.square().sum(-1)), torch.tensor([[0.01], [0.02]], dtype=torch.float64)
    kw = dict(step_size=0.1, leapfrog_steps=4, generator=seeded())  # stable below 0.02
    found = sampling.hmc(energy, start, steps=9, burn_in=3, **kw)
    assert found.divergences.tolist() == [9, 9]
    assert found.divergences.dtype == torch.int64
    assert found.acceptance.tolist() == [0, 0]
    assert torch.equal(found.position, start)
    edge = sampling.chains._DIVERGENT
    assert edge == -1000  # Stan's
    fine = sampling.hmc(energy, start, steps=9, step_size=0.005, leapfrog_steps=4, generator=seeded())
    assert fine.divergences.tolist() == [0, 0]


@pytest.mark.parametrize(("size", "count"), [(990.0, 0), (1010.0, 1)])
def test_a_divergence_begins_at_a_log_ratio_of_minus_a_thousand(size, count):
    calls = -1  # the first call is the start's

    def energy(y):
        nonlocal calls
        calls += 1
        return 0 * y.sum(-1) + (size if calls == 1 else 0.0)

    found = sampling.mala(energy, torch.zeros(1, 1), steps=1, step_size=1e-6, generator=seeded())
    assert found.divergences.item() == count


def test_bad_arguments_of_hmc_are_refused():
    run = lambda **kw: sampling.hmc(wells, randn(2, 2), **dict(steps=2, step_size=0.1) | kw)
    for kw, message in (
        (dict(leapfrog_steps=0), "leapfrog_steps must be a whole number"),
        (dict(jitter=1.0), "jitter must be from 0 to below 1"),
        (dict(jitter=-0.1), "jitter must be"),
        (dict(jitter=math.nan), "jitter must be"),
        (dict(mass=torch.ones(3)), r"mass must hold one number per coordinate, shape \(2,\)"),
        (dict(mass=torch.tensor([1.0, 0.0])), "mass must be positive"),
        (dict(mass=torch.tensor([1.0, math.nan])), "mass must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**kw)
