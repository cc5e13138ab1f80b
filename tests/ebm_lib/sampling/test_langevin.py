"""Langevin dynamics against its exact law on Gaussians, a hand-written recursion, and torchebm."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ebm_lib import sampling
from ebm_lib.nn import EnergyMLP
from ebm_lib.sampling import chains as chains_module


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(precision):
    return lambda y: 0.5 * (y.square() * precision).sum(-1)


def noise_of(generator, steps, shape):
    return np.stack([torch.randn(shape, generator=generator, dtype=torch.float64).numpy() for _ in range(steps)])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.floats(0.01, 0.5), st.floats(0.2, 20), st.integers(1, 4), st.integers(0, 40))
def test_the_path_is_the_recursion_written_by_hand(steps, step_size, beta, keep_every, burn_in):
    keep_every = min(keep_every, steps)
    start = torch.randn(3, 2, generator=seeded(1), dtype=torch.float64)
    energy = lambda y: (2 * y.cos() + y.square() / 2).sum(-1)
    found = sampling.langevin(
        energy,
        start,
        steps=steps,
        step_size=step_size,
        beta=beta,
        keep_every=keep_every,
        burn_in=burn_in,
        generator=seeded(2),
    )
    y, path = start.numpy(), []
    for xi in noise_of(seeded(2), burn_in + steps, (3, 2)):
        y = y - step_size * (y - 2 * np.sin(y)) + math.sqrt(2 * step_size / beta) * xi
        path.append(y)
    expected = np.stack(path[burn_in:][keep_every - 1 :: keep_every])
    np.testing.assert_allclose(found.path.numpy(), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.position.numpy(), path[-1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.path_energy.numpy(), energy(found.path).numpy(), rtol=1e-12)
    assert torch.equal(found.energy, energy(found.position))
    assert found.evaluations == 1 + burn_in + steps
    assert (found.acceptance == 1).all()
    assert (found.divergences == 0).all()


@pytest.mark.parametrize("beta", [0.5, 3.0])
def test_the_stationary_variance_is_biased_as_theory_says_and_not_the_targets(beta):
    precision = torch.tensor([0.2, 1.0, 2.5, 3.6], dtype=torch.float64)
    step_size, count = 0.5, 20_000
    start = torch.zeros(count, 4, dtype=torch.float64)
    found = sampling.langevin(gaussian(precision), start, steps=100, step_size=step_size, beta=beta, generator=seeded())
    variance = found.position.square().mean(0)
    theory = 1 / (beta * precision * (1 - step_size * precision / 2))
    assert ((variance / theory - 1).abs() < 5 * math.sqrt(2 / count)).all()
    assert ((variance * beta * precision - 1).abs() > 0.04).all()


def test_a_run_that_is_continued_is_the_run_in_one_piece_and_keeping_a_path_changes_nothing():
    energy = EnergyMLP((2,), (8,), generator=seeded(3)).double()
    start = torch.randn(5, 2, generator=seeded(4), dtype=torch.float64)
    whole = sampling.langevin(energy, start, steps=50, step_size=0.1, keep_every=5, generator=seeded(5))
    generator = seeded(5)
    part = sampling.langevin(energy, start, steps=20, step_size=0.1, generator=generator)
    part = sampling.langevin(energy, part.position, steps=30, step_size=0.1, generator=generator)
    assert torch.equal(whole.position, part.position)
    assert part.path is None
    assert part.path_energy is None


def test_a_step_with_given_noise_is_the_same_for_every_named_convention():
    energy = lambda y: y.pow(4).sum(-1)
    state = sampling.start_state(energy, torch.tensor([0.5, -0.3], dtype=torch.float64))
    xi = torch.tensor([1.0, -2.0], dtype=torch.float64)
    y, gradient, e = state.position, state.gradient, 0.3
    step = lambda **kw: sampling.langevin_step(energy, state, xi, **kw).position
    torch.testing.assert_close(step(step_size=e / 2), y - e / 2 * gradient + e**0.5 * xi)
    torch.testing.assert_close(step(step_size=e**2 / 2), y - e**2 / 2 * gradient + e * xi)
    torch.testing.assert_close(step(step_size=e, beta=1 / 0.7**2), y - e * gradient + 0.7 * (2 * e) ** 0.5 * xi)
    alpha, sigma = 0.01, 0.005  # an image model's
    torch.testing.assert_close(step(step_size=alpha, beta=2 * alpha / sigma**2), y - alpha * gradient + sigma * xi)
    assert 2 * 10 / 0.005**2 == pytest.approx(800_000)  # the docstring's example


def test_torchebm_walks_the_same_path():
    samplers = pytest.importorskip("torchebm.samplers")
    from torchebm.core import BaseModel

    class Wrapped(BaseModel):
        def __init__(self, energy):
            super().__init__()
            self.energy = energy

        def forward(self, x):
            return self.energy(x)

    energy, start = EnergyMLP((3,), (8,), generator=seeded(6)), torch.randn(4, 3, generator=seeded(7))
    theirs = samplers.LangevinDynamics(Wrapped(energy), step_size=0.05, noise_scale=0.5)
    theirs = theirs.sample(x=start.clone(), n_steps=40, return_trajectory=True, generator=seeded(8))
    ours = sampling.langevin(energy, start, steps=40, step_size=0.05, beta=4.0, keep_every=1, generator=seeded(8))
    torch.testing.assert_close(ours.path, theirs.transpose(0, 1), rtol=1e-4, atol=1e-5)


# --- walls ---------------------------------------------------------------------------------------------------------
@given(st.floats(-50, 50), st.floats(-3, 3), st.floats(0.1, 5))
def test_reflection_is_what_bouncing_by_hand_gives(y, low, width):
    high = low + width
    by_hand = y
    while not low <= by_hand <= high:
        by_hand = 2 * low - by_hand if by_hand < low else 2 * high - by_hand
    found = sampling.reflect(torch.tensor([y], dtype=torch.float64), low, high)
    assert found.item() == pytest.approx(by_hand, abs=1e-10)
    assert low <= found.item() <= high
    if low <= y <= high:
        assert found.item() == y


def test_rounding_does_not_carry_a_folded_point_out_of_the_box():
    low, high = torch.tensor(-3.5640344619750977), torch.tensor(-1.3284870290756226)
    assert low <= sampling.reflect(torch.tensor([3.142608642578125]), low, high) <= high


def test_a_chain_may_start_on_a_wall():
    start = torch.tensor([[0.0], [1.0]])
    found = sampling.langevin(lambda y: 0 * y.sum(-1), start, steps=5, step_size=0.1, bounds=(0.0, 1.0), keep_every=1)
    assert ((found.path >= 0) & (found.path <= 1)).all()


def test_walls_may_differ_per_coordinate():
    low, high = torch.tensor([0.0, -1.0]), torch.tensor([1.0, 3.0])
    assert sampling.reflect(torch.tensor([[1.25, 3.5], [-0.5, -1.5]]), low, high).tolist() == [[0.75, 2.5], [0.5, -0.5]]


@pytest.mark.parametrize("step_size", [0.01, 3.0])
def test_with_a_flat_energy_the_uniform_law_stays_at_any_step(step_size):
    start = torch.rand(20_000, 1, generator=seeded(9), dtype=torch.float64) * 2 - 1
    found = sampling.langevin(
        lambda y: 0 * y.sum(-1), start, steps=20, step_size=step_size, bounds=(-1.0, 1.0), generator=seeded(10)
    )
    assert stats.kstest(found.position[:, 0].numpy() / 2 + 0.5, "uniform").pvalue > 1e-3
    assert (found.position - start).abs().mean() > 0.3


def test_with_a_slope_the_law_in_the_box_is_the_target_cut_off_by_it():
    beta = 3.0
    start = torch.full((20_000, 1), 0.5, dtype=torch.float64)
    found = sampling.langevin(
        lambda y: y.sum(-1), start, steps=400, step_size=0.002, beta=beta, bounds=(0.0, 1.0), generator=seeded(11)
    )
    cdf = lambda y: (1 - np.exp(-beta * y)) / (1 - math.exp(-beta))
    assert stats.kstest(found.position[:, 0].numpy(), cdf).statistic < 0.015
    assert ((found.position > 0) & (found.position < 1)).double().mean() > 0.999  # none stuck to a wall


# --- divergence ----------------------------------------------------------------------------------------------------
@settings(max_examples=15, deadline=None)
@given(st.floats(0.3, 0.8), st.integers(0, 50), st.integers(0, 3))
def test_divergence_names_the_step_the_chain_and_the_value(step_size, burn_in, culprit):
    start = torch.zeros(4, 1)
    start[culprit] = 4.0
    energy = lambda y: y.pow(4).sum(-1)
    y = start.clone()
    generator, step = seeded(12), 0
    while torch.isfinite(energy(y)).all():
        y = y - step_size * 4 * y**3 + math.sqrt(2 * step_size / 1e9) * torch.randn(4, 1, generator=generator)
        step += 1
    value = energy(y)[culprit].item()
    message = rf"chain \({culprit},\) diverged at step {step} of {burn_in + 60} .*step_size={step_size}: energy {value}"
    with pytest.raises(FloatingPointError, match=message):
        sampling.langevin(energy, start, steps=60, step_size=step_size, beta=1e9, burn_in=burn_in, generator=seeded(12))


class Exploding(torch.autograd.Function):
    """A bounded energy whose slope is infinite from the given call on."""

    calls = 0
    at = 0

    @staticmethod
    def forward(ctx, y):
        return torch.zeros(y.shape[:-1])

    @staticmethod
    def backward(ctx, grad):
        Exploding.calls += 1
        return torch.full((2, 3), math.inf if Exploding.calls >= Exploding.at else 0.0)


@pytest.mark.parametrize("call", [2, 33, 40])
def test_a_position_that_leaves_all_bounds_is_found_under_an_energy_that_stays_finite(call):
    Exploding.calls, Exploding.at = 0, call
    with pytest.raises(FloatingPointError, match=rf"chain \(0,\) diverged at step {call} .* coordinate inf"):
        sampling.langevin(Exploding.apply, torch.zeros(2, 3), steps=41, step_size=0.1, generator=seeded())


@pytest.mark.parametrize("at", [1, 31, 32, 33, 40])
@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
def test_an_energy_that_fails_once_and_recovers_is_reported_where_it_failed(at, value):
    calls = -1  # the first call is the start's

    def energy(y):
        nonlocal calls
        calls += 1
        result = y.square().sum(-1)
        return result + torch.tensor([0.0, value, 0.0]) if calls == at else result

    with pytest.raises(FloatingPointError, match=rf"chain \(1,\) diverged at step {at} of 40 .*: energy {value}"):
        sampling.langevin(energy, torch.zeros(3, 2), steps=40, step_size=0.1, generator=seeded())


def test_large_states_are_watched_more_often_not_less(monkeypatch):
    monkeypatch.setattr(chains_module, "_WATCH_BYTES", 100)
    assert chains_module.watch_length(torch.zeros(3, 2)) == 4
    assert chains_module.watch_length(torch.zeros(30, 20)) == 1
    assert chains_module.watch_length(torch.zeros(1)) == 25
    calls = -1

    def energy(y):
        nonlocal calls
        calls += 1
        return y.square().sum(-1) * (math.nan if calls == 9 else 1)

    with pytest.raises(FloatingPointError, match="at step 9 of 1000"):
        sampling.langevin(energy, torch.zeros(3, 2), steps=1000, step_size=0.1, generator=seeded())
    assert calls == 12  # seen at the end of its block of four


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((1.0, 0.0), "low below high"),
        ((0.0, math.inf), "bounds, high must be finite"),
        ((torch.zeros(3), 1.0), r"bounds, low must be a number or one per coordinate, shape \(2,\)"),
        ((torch.tensor([0.0, 4.0]), torch.tensor([1.0, 3.0])), "low below high"),  # one of two
        ((0.6, 1.0), "start must lie within"),
        ((-1.0, 0.5), "start must lie within"),  # one chain of four is outside
    ],
)
def test_bad_walls_are_refused(bounds, message):
    start = torch.full((4, 2), 0.5)
    start[2, 1] = 0.55
    with pytest.raises(ValueError, match=message):
        sampling.langevin(lambda y: y.sum(-1), start, steps=3, step_size=0.1, bounds=bounds)
