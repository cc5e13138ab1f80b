"""Planners against the truth: optima known in closed form, updates done by hand, laws of the samples, bounds."""

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear
from scipy.stats import norm

from ebm_lib.world import _search as search_module
from ebm_lib.world import cem, effective_sample_size, lqr, mppi, plan_by_gradient, plan_weights, trajectory_energy

F64 = torch.float64
PLANNERS = {
    "gradient": functools.partial(plan_by_gradient, steps=40),
    "cem": functools.partial(cem, spread=0.7, samples=40, elites=8, iterations=6),
    "mppi": functools.partial(mppi, spread=0.7, samples=40, temperature=0.5, iterations=6),
}
SAMPLERS = ["cem", "mppi"]
EVERY = pytest.mark.parametrize("name", PLANNERS)
SAMPLED = pytest.mark.parametrize("name", SAMPLERS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def close(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), rtol=tolerance, atol=tolerance)


def run(name, energy, start, seed=0, **options):
    options |= {"generator": seeded(seed)} if name in SAMPLERS else {}
    return PLANNERS[name](energy, start, **options)


def bowl(goal):
    """A quadratic whose curvatures differ by 4, with its lowest point at ``goal``, (..., H, A)."""
    weight = torch.linspace(1, 4, goal.shape[-2] * goal.shape[-1], dtype=goal.dtype).reshape(goal.shape[-2:])
    return lambda a: (weight.to(goal.device) * (a - goal).square()).sum((-2, -1))


GOAL = draw(3, 4, 2, seed=1)  # three problems of four steps, two components


def regulators(n, radius, D=4, U=2, H=10, seed=1):
    """Random linear systems of a given spectral radius: the energy of plans, and the energy of the best one."""
    A, B = draw(n, D, D, seed=seed), draw(n, D, U, seed=seed + 1)
    A = radius * A / torch.linalg.eigvals(A).abs().amax(-1)[:, None, None]
    Q, R, final = (
        M @ M.mT / len(M[0]) + 0.1 * torch.eye(M.shape[-1], dtype=F64)
        for M in (draw(n, k, k, seed=seed + 2 + i) for i, k in enumerate((D, U, D)))
    )
    s = draw(n, D, seed=seed + 5)
    best = torch.einsum("ni,nij,nj->n", s, lqr(A, B, Q, R, final, H).values[:, 0], s)
    energy = trajectory_energy(
        lambda s, a: torch.einsum("nij,...nj->...ni", A, s) + torch.einsum("nij,...nj->...ni", B, a),
        lambda s, a: torch.einsum("...ni,nij,...nj->...n", s, Q, s) + torch.einsum("...ni,nij,...nj->...n", a, R, a),
        lambda s: torch.einsum("...ni,nij,...nj->...n", s, final, s),
    )(s)
    return energy, best, torch.zeros(n, H, U, dtype=F64)


# ---- known optima


@pytest.mark.parametrize(("radius", "momentum", "steps"), [(0.7, 0.9, 300), (1.0, 0.9, 800), (1.2, 0.98, 1500)])
def test_descent_reaches_the_optimum_of_the_linear_quadratic_regulator(radius, momentum, steps):
    energy, best, start = regulators(12, radius)
    plan = plan_by_gradient(energy, start, steps=steps, lr=0.1, momentum=momentum)
    excess = plan.energy / best - 1
    assert (excess > -1e-12).all()  # nothing is better than the best
    assert (excess < 1e-4).all()
    assert (energy(start) / best > 1.5).any()  # there was something to do


@pytest.mark.parametrize("radius", [0.7, 1.1])
def test_the_cross_entropy_method_reaches_that_optimum_too(radius):
    energy, best, start = regulators(6, radius, H=6)
    for spread in (1.0, 0.5, 0.2, 0.1, 0.05):  # it shrinks in a narrow oblique valley before the end of it: afresh
        plan = cem(
            energy, start, spread=spread, samples=600, elites=60, iterations=30, smoothing=0.2, generator=seeded()
        )
        start = plan.actions
    excess = plan.energy / best - 1
    assert (excess > -1e-12).all()
    assert (excess < 1e-3).all()


@pytest.mark.parametrize("radius", [0.7, 1.1])
def test_path_integrals_reach_that_optimum_too(radius):
    energy, best, start = regulators(6, radius, H=6)
    for spread in (0.5, 0.2, 0.1, 0.05):  # the spread bounds the accuracy
        plan = mppi(energy, start, spread=spread, samples=600, temperature=spread**2, iterations=40, generator=seeded())
    excess = plan.energy / best - 1
    assert (excess > -1e-12).all()
    assert (excess < 1e-2).all()


@pytest.mark.parametrize(("name", "options", "tolerance"), [
    ("gradient", {"steps": 500}, 1e-6),
    ("cem", {"samples": 400, "elites": 40, "iterations": 40}, 1e-4),
    ("mppi", {"samples": 2000, "iterations": 60, "spread": 0.1, "temperature": 0.01}, 2e-2),
])  # fmt: skip
def test_an_optimum_on_the_bounds_is_found(name, options, tolerance):
    M, y = draw(9, 6, seed=3), 3 * draw(9, seed=4)
    truth = lsq_linear(M.numpy(), y.numpy(), bounds=(-0.5, 0.4), tol=1e-12)
    assert 1 < truth.active_mask.astype(bool).sum() < 6  # some of the bounds hold it, not all
    plan = run(
        name,
        lambda a: (a.flatten(-2) @ M.T - y).square().sum(-1),
        torch.zeros(3, 2, dtype=F64),
        bounds=(-0.5, 0.4),
        **options,
    )
    close(plan.energy, 2 * truth.cost, tolerance)
    close(plan.actions.flatten(), truth.x, tolerance**0.5)


def test_descent_stays_in_its_valley_and_samples_find_the_deeper_one():
    def wells(a):  # by the action's sign: a shallow valley at +1, a deep one at -1
        return ((a.square() - 1).square() + 0.3 * a).sum((-2, -1))

    start = torch.full((3, 1), 0.9, dtype=F64)
    stuck = plan_by_gradient(wells, start, steps=300)
    assert (stuck.actions > 0.9).all()
    for plan in (
        cem(wells, start, spread=1.5, samples=500, elites=20, iterations=30, generator=seeded()),
        mppi(wells, start, spread=1.0, samples=2000, temperature=0.02, iterations=30, generator=seeded()),
    ):
        assert (plan.actions < -0.9).all()
        assert plan.energy < stuck.energy - 1.5  # three times 2 · 0.3


# ---- updates, done by hand


def by_hand_mppi(energy, start, spread, S, T, iterations, low, high, seed):
    generator, mean = seeded(seed), start.clone()
    for _ in range(iterations):
        plans = (mean + spread * torch.randn(S, *start.shape, generator=generator, dtype=F64)).clip(low, high)
        values = [energy(plan) for plan in plans]
        mean = sum(math.exp(-v / T) * p for v, p in zip(values, plans, strict=True))
        mean = mean / sum(math.exp(-v / T) for v in values)
    return mean


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0, 20.0])
def test_path_integrals_are_averages_by_the_gibbs_weights(temperature):
    energy, start, options = bowl(GOAL[0]), draw(4, 2, seed=5).clip(-1, 1), {"spread": 0.4, "samples": 30}
    plan = mppi(energy, start, **options, temperature=temperature, iterations=3, bounds=(-1, 1), generator=seeded(9))
    close(plan.centre, by_hand_mppi(energy, start, 0.4, 30, temperature, 3, -1, 1, 9), 1e-10)


def test_at_a_low_temperature_the_best_sample_is_all_that_counts():
    """Were the temperature multiplied, as some code has it, this would be the unweighted mean of all samples."""
    energy, seen = bowl(GOAL[0]), []
    plan = mppi(
        lambda a: seen.append(a.clone()) or energy(a), torch.zeros(4, 2, dtype=F64), spread=1.0, samples=50,
        temperature=1e-3, iterations=1, generator=seeded(),
    )  # fmt: skip
    drawn = seen[0][1:]
    close(plan.centre, drawn[energy(drawn).argmin()], 1e-6)
    close(plan.effective, [1.0], 1e-6)
    hot = mppi(energy, torch.zeros(4, 2, dtype=F64), spread=1.0, samples=50, temperature=1e6, iterations=1,
               generator=seeded())  # fmt: skip
    close(hot.centre, drawn.mean(0), 1e-4)
    close(hot.effective, [50.0], 1e-4)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_descent_is_adam_with_a_rate_that_falls_as_a_cosine(momentum):
    energy, steps, leaf = bowl(GOAL), 30, torch.zeros(3, 4, 2, dtype=F64, requires_grad=True)
    adam = torch.optim.Adam([leaf], lr=0.2, betas=(momentum, 0.95), eps=0.0)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    history = []
    for _ in range(steps):
        adam.zero_grad()
        history.append(energy(leaf))
        history[-1].sum().backward()
        adam.step()
        rate.step()
    plan = plan_by_gradient(energy, torch.zeros(3, 4, 2, dtype=F64), steps=steps, lr=0.2, momentum=momentum)
    close(plan.centre, leaf.detach(), 1e-9)
    close(plan.history, torch.stack([*history, energy(leaf)]).detach(), 1e-9)


@pytest.mark.parametrize(("smoothing", "least_spread"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.25), (0.6, 0.1)])
def test_the_cross_entropy_method_refits_to_its_elites(smoothing, least_spread):
    energy, start, S, elites, seen = bowl(GOAL[0]), draw(4, 2, seed=5), 30, 7, []
    plan = cem(
        lambda a: seen.append(a.clone()) or energy(a), start, spread=0.8, samples=S, elites=elites, iterations=4,
        smoothing=smoothing, least_spread=least_spread, generator=seeded(9),
    )  # fmt: skip
    generator, mean, deviation = seeded(9), start.clone(), torch.full_like(start, 0.8)
    for k in range(4):
        plans = mean + deviation * torch.randn(S, *start.shape, generator=generator, dtype=F64)
        close(seen[k], torch.cat([mean[None], plans]), 1e-10)
        kept = torch.stack(sorted(plans, key=energy)[:elites])
        mean = smoothing * mean + (1 - smoothing) * kept.mean(0)
        deviation = smoothing * deviation + (1 - smoothing) * (kept - kept.mean(0)).square().mean(0).sqrt()
        deviation = deviation.clip(min=least_spread)
    close(plan.centre, mean, 1e-10)


def test_a_linear_energy_tilts_the_gaussian():
    """N(0, Σ) times e^{-gᵀa/T} is a Gaussian around -Σg/T; the price of a limited number of samples is known too."""
    g, spread, T, S = 0.6 * draw(2, 2, seed=2), torch.tensor([0.5, 0.9], dtype=F64), 1.3, 200_000
    plan = mppi(lambda a: (g * a).sum((-2, -1)), torch.zeros(2, 2, dtype=F64), spread=spread, samples=S,
                temperature=T, iterations=1, generator=seeded())  # fmt: skip
    close(plan.centre, -spread.square() * g / T, 5 * 0.9 * 1.5 / S**0.5)
    share = torch.exp(-(spread * g / T).square().sum())  # of the samples that count: exactly this, as S → ∞
    close(plan.effective[0] / S, share, 0.01)


def test_with_the_control_cost_of_williams_the_target_stays_where_it_is():
    """As documented: with that term one iteration finds the same mean from any start, without it the mean moves on."""
    g, spread, T, S = 0.6 * draw(2, 2, seed=2), 0.5, 1.3, 200_000
    for start in (torch.zeros(2, 2, dtype=F64), 0.4 * draw(2, 2, seed=6)):
        price = lambda a: T * (start * (a - start)).sum((-2, -1)) / spread**2  # noqa: B023
        found = [
            mppi(lambda a: (g * a).sum((-2, -1)) + term(a), start, spread=spread, samples=S, temperature=T,  # noqa: B023
                 iterations=1, generator=seeded()).centre
            for term in (price, lambda a: 0)
        ]  # fmt: skip
        close(found[0], -(spread**2) * g / T, 0.02)
        close(found[1], start - spread**2 * g / T, 0.02)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_elites_of_a_linear_energy_are_a_tail_of_the_gaussian(share):
    S, spread, g, seen = 200_000, 0.7, torch.tensor([[2.0, 0.0], [0.0, 0.0]], dtype=F64), []
    plan = cem(lambda a: seen.append(a) or (g * a).sum((-2, -1)), torch.zeros(2, 2, dtype=F64), spread=spread,
               samples=S, elites=int(share * S), iterations=2, generator=seeded())  # fmt: skip
    cut = norm.ppf(share)
    mills = norm.pdf(cut) / share
    drawn = seen[1][1:]  # around the first mean, with the first deviation
    expected = torch.zeros(2, 2, dtype=F64)
    expected[0, 0] = -spread * mills
    close(seen[1][0], expected, 4 * spread / (share * S) ** 0.5)
    deviation = torch.full((2, 2), spread, dtype=F64)
    deviation[0, 0] *= math.sqrt(1 - cut * mills - mills**2)
    close(drawn.std(0), deviation, 4 * spread / (share * S) ** 0.5)
    assert plan.centre[0, 0] < expected[0, 0] - 0.1  # and on


def test_held_noise_is_piecewise_constant():
    for name in SAMPLERS:
        seen, start = [], draw(7, 2, seed=3)
        run(name, lambda a: seen.append(a) or a.square().sum((-2, -1)), start, hold=3, iterations=1)  # noqa: B023
        noise = seen[0][1:] - start
        for block in (noise[:, :3], noise[:, 3:6], noise[:, 6:]):
            close(block, block[:, :1].expand_as(block))
        assert (noise[:, 2] - noise[:, 3]).abs().min() > 1e-6
        close(noise.std(0, correction=0).mean(), 0.7, 0.1)


def test_the_noise_has_the_spread_asked_for():
    spread = torch.tensor([[0.1, 1.0], [0.2, 2.0], [0.3, 3.0]], dtype=F64)
    for asked in (spread, spread[0], 0.4):
        seen = []
        mppi(lambda a: seen.append(a) or 0 * a.sum((-2, -1)), torch.zeros(3, 2, dtype=F64),  # noqa: B023
             spread=asked, samples=20_000, iterations=1, generator=seeded())  # fmt: skip
        close((seen[0][1:].std(0) / asked), torch.ones(3, 2), 0.03)
        close(seen[0][1:].mean(0), torch.zeros(3, 2), 0.1)


# ---- the effective sample size


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 60), st.integers(0, 10_000))
def test_the_effective_sample_size_rises_with_the_temperature_from_1_to_all(S, seed):
    energies = draw(S, 3, seed=seed)
    sizes = torch.stack([effective_sample_size(plan_weights(energies, 10.0 ** (p / 2))) for p in range(-14, 16)])
    close(sizes[0], torch.ones(3), 1e-3)
    close(sizes[-1], torch.full((3,), float(S)), 1e-3)
    assert (sizes.diff(dim=0) >= -1e-9).all()
    assert (sizes[1:-1] > 1 - 1e-9).all()
    assert (sizes < S + 1e-9).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20))
def test_k_equal_weights_count_as_k(k, rest):
    weights = torch.cat([torch.full((k,), 1 / k, dtype=F64), torch.zeros(rest, dtype=F64)])
    close(effective_sample_size(weights), float(k))


def test_weights_are_a_softmax_of_minus_the_energy_over_the_temperature():
    energies = draw(9, 4)
    for T in (0.05, 1.0, 7.0):
        close(plan_weights(energies, T), (-energies / T).exp() / (-energies / T).exp().sum(0))
    close(plan_weights(1e300 * energies.abs(), 1e-300).sum(0), torch.ones(4))  # no overflow
    huge = plan_weights(torch.tensor([3e38, 1.0, 2.0]), 1e-30)
    assert huge.tolist() == [0.0, 1.0, 0.0]


# ---- bounds


@EVERY
@pytest.mark.parametrize("bounds", [
    (-0.3, 0.5), (torch.tensor([-0.3, 0.0], dtype=F64), torch.tensor([0.5, 0.1], dtype=F64)), (0.2, math.inf),
    (-1, torch.tensor([0.5, -1.0])),
])  # fmt: skip
def test_the_energy_never_sees_an_action_beyond_the_bounds(name, bounds):
    low, high = (torch.as_tensor(b, dtype=F64) for b in bounds)
    inner, seen = bowl(3 * GOAL), []

    def energy(a):
        seen.append(((a >= low) & (a <= high)).all().item())
        return inner(a)

    plan = run(name, energy, draw(3, 4, 2, seed=7), bounds=bounds)
    assert len(seen) > 5
    assert all(seen)
    for actions in (plan.actions, plan.centre):
        assert ((actions >= low) & (actions <= high)).all()
    free = run(name, inner, draw(3, 4, 2, seed=7)).actions
    assert not ((free >= low) & (free <= high)).all()  # it was the bounds that held them


@SAMPLED
def test_bounds_that_rounding_would_break_hold(name):
    bound = torch.tensor(0.1)  # a mean of many 0.1 is more than 0.1
    plan = run(name, lambda a: (a - 5).square().sum((-2, -1)), torch.zeros(50, 3), bounds=(-0.1, 0.1), spread=3.0)
    assert (plan.centre <= bound).all()
    assert (plan.actions <= bound).all()


# ---- what a plan says of itself


@EVERY
def test_a_plan_is_the_best_of_all_that_were_tried(name):
    energy, tried = bowl(GOAL), []
    start = draw(3, 4, 2, seed=7)
    plan = run(name, lambda a: tried.append(a.detach().reshape(-1, 3, 4, 2)) or energy(a), start)
    values = energy(torch.cat(tried))
    close(plan.energy, values.amin(0))
    close(energy(plan.actions), plan.energy)
    close(plan.history[0], energy(start))
    close(plan.history[-1], energy(plan.centre))
    assert len(plan.history) == (41 if name == "gradient" else 7)
    assert (plan.effective is None) == (name != "mppi")
    if name == "mppi":
        assert plan.effective.shape == (6, 3)
    assert not any(part.requires_grad for part in plan if part is not None)


@EVERY
def test_a_start_that_is_best_is_kept(name):
    plan = run(name, bowl(GOAL), GOAL)
    assert torch.equal(plan.actions, GOAL)
    close(plan.energy, torch.zeros(3))
    assert torch.equal(plan.history[0], plan.energy)


@EVERY
def test_among_equals_the_start_is_kept(name):
    plan = run(name, lambda a: 0 * a.sum((-2, -1)), GOAL)
    assert torch.equal(plan.actions, GOAL)


@EVERY
def test_a_ridge_that_the_search_leaves_for_worse_is_remembered(name):
    """A narrow pit at the start in a slope: the search's centre goes away from it, what it returns does not."""

    def energy(a):
        return (a[..., 0, 0] - 1).square() - 100 * torch.exp(-1e6 * a.square().sum((-2, -1)))

    start = torch.full((2, 1), 1e-5, dtype=F64)
    plan = run(name, energy, start, **({"lr": 0.5} if name == "gradient" else {}))
    assert plan.energy <= energy(start)
    assert plan.history[-1] > energy(start) + 50


# ---- problems do not know of each other


@EVERY
def test_a_batch_of_one_is_the_problem_alone(name):
    alone, batch = run(name, bowl(GOAL[0]), GOAL[1]), run(name, bowl(GOAL[:1]), GOAL[1:2])
    for one, other in zip(alone[:3], batch[:3], strict=True):
        close(one, other[0], 1e-11)  # but for the order of sums
    close(alone.history, batch.history[:, 0], 1e-11)


@EVERY
def test_a_second_problem_changes_nothing_of_the_first(name, monkeypatch):
    noise = draw(6, 40, 3, 4, 2, seed=8)
    found = {}
    for part in (slice(0, 1), slice(0, 2), slice(0, 3)):
        given = iter(noise[:, :, part])
        monkeypatch.setattr(search_module, "normal", lambda shape, *_: next(given).reshape(shape))  # noqa: B023
        scale = torch.tensor([1.0, 100.0, 1e-3], dtype=F64)[part]
        found[part.stop] = run(name, lambda a: scale * bowl(GOAL[part])(a), GOAL.flip(0)[part])  # noqa: B023
    for k in (2, 3):
        close(found[k].actions[0], found[1].actions[0], 1e-11)
        close(found[k].history[:, 0], found[1].history[:, 0], 1e-11)


@EVERY
def test_leading_dimensions_of_any_number(name):
    goal = draw(2, 3, 4, 2, seed=6)
    plan = run(name, bowl(goal), torch.zeros_like(goal))
    assert plan.actions.shape == goal.shape
    assert plan.energy.shape == (2, 3)
    assert (plan.energy < bowl(goal)(torch.zeros_like(goal))).all()


# ---- contract


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_dtype_and_device_follow_the_start(name, dtype):
    for device in ("cpu", "meta"):
        goal = GOAL.to(device, dtype)
        plan = run(name, bowl(goal), torch.zeros_like(goal), bounds=(-1, torch.ones(2, device=device)))
        for part in plan:
            assert part is None or (part.dtype, part.device.type) == (dtype, device)
        assert plan.actions.shape == GOAL.shape
        assert plan.energy.shape == (3,)


@EVERY
def test_the_start_and_the_global_generator_are_left_alone(name):
    start, state = GOAL.clone(), torch.get_rng_state()
    first = run(name, bowl(2 * GOAL), start, bounds=(-0.1, 0.1))
    assert torch.equal(start, GOAL)
    assert torch.equal(torch.get_rng_state(), state)
    again, other = (run(name, bowl(2 * GOAL), start, seed=seed, bounds=(-0.1, 0.1)) for seed in (0, 1))
    assert torch.equal(first.history, again.history)
    assert torch.equal(first.history, other.history) == (name == "gradient")
    assert first.actions.data_ptr() != start.data_ptr()


@EVERY
def test_parameters_of_the_world_get_no_gradient(name):
    goal = torch.nn.Parameter(GOAL.clone())
    with torch.no_grad():
        plan = run(name, bowl(goal), torch.zeros(3, 4, 2, dtype=F64))
    assert goal.grad is None
    assert (plan.energy < bowl(goal)(torch.zeros(4, 2, dtype=F64))).all()
    if name in SAMPLERS:
        run(name, lambda a: bowl(goal)(a) if not torch.is_grad_enabled() else 1 / 0, torch.zeros(3, 4, 2, dtype=F64))


@EVERY
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_energies_that_are_no_numbers_are_told_with_their_count(name, bad):
    calls = []

    def energy(a):
        value = bowl(GOAL)(a)
        calls.append(0)
        if len(calls) == 3:
            value = value + 0  # the third step or iteration: two plans go wrong
            value.view(-1)[1:3] = bad
        return value

    where, total = ("step 2", 3) if name == "gradient" else ("iteration 2", 123)
    with pytest.raises(ValueError, match=f"energy of the plans tried in {where} must be finite: 2 of {total} values"):
        run(name, energy, torch.zeros(3, 4, 2, dtype=F64))


def test_a_slope_that_is_no_number_is_told():
    with pytest.raises(ValueError, match="gradient of the energy at step 0 must be finite: 1 of 2"):
        plan_by_gradient(lambda a: a.abs().sqrt().sum((-2, -1)), torch.tensor([[0.0], [1.0]]))
    with pytest.raises(ValueError, match="no gradient"):
        plan_by_gradient(lambda a: a.detach().sum((-2, -1)), torch.zeros(2, 1))


def test_flat_energies_move_nothing():
    """A slope of 0, or one whose square is below all numbers, must not be blown up."""
    for scale in (0.0, 1e-30):
        plan = plan_by_gradient(lambda a: scale * a.sum((-2, -1)), torch.ones(2, 1), steps=5)  # noqa: B023
        close(plan.centre, torch.ones(2, 1), 1e-6)


@EVERY
@pytest.mark.parametrize(("options", "told"), [
    ({"start": torch.zeros(4)}, "start must be a plan"), ({"start": torch.zeros(0, 2)}, "start must be a plan"),
    ({"start": torch.zeros(4, 2, dtype=torch.int64)}, "floating point"),
    ({"start": torch.full((4, 2), math.nan)}, "start must be finite"),
    ({"bounds": (1.0, -1.0)}, "low at most high"), ({"bounds": (math.nan, 1.0)}, "low at most high"),
    ({"bounds": (torch.zeros(3), 1.0)}, "one per component"),
    ({"energy": lambda a: a.sum(-1)}, "one number per plan"), ({"energy": lambda a: a.sum()}, "one number per plan"),
])  # fmt: skip
def test_bad_input_is_refused(name, options, told):
    arguments = {"energy": lambda a: a.square().sum((-2, -1)), "start": torch.zeros(3, 4, 2)} | options
    with pytest.raises(ValueError, match=told):
        PLANNERS[name](**arguments)


BAD_SPREADS = 0.0, -1.0, math.nan, torch.tensor([1.0, 0.0]), torch.ones(3), torch.tensor(math.inf)


@pytest.mark.parametrize(("name", "options", "error"), [
    *((name, {option: 1}, TypeError) for name in PLANNERS for option in ("horizon", "n_iter", "beta", "sigma", "seed")),
    *((name, {"spread": bad}, ValueError) for name in SAMPLERS for bad in BAD_SPREADS),
    *((name, {option: 0}, ValueError) for name in SAMPLERS for option in ("samples", "iterations", "hold")),
    ("cem", {"elites": 0}, ValueError), ("cem", {"elites": 41}, ValueError), ("cem", {"smoothing": 1.0}, ValueError),
    ("cem", {"smoothing": -0.1}, ValueError), ("cem", {"least_spread": -1.0}, ValueError),
    ("cem", {"least_spread": math.nan}, ValueError), ("cem", {"temperature": 1.0}, TypeError),
    ("mppi", {"temperature": 0.0}, ValueError), ("mppi", {"temperature": -1.0}, ValueError),
    ("mppi", {"elites": 5}, TypeError), ("gradient", {"spread": 1.0}, TypeError),
    ("gradient", {"steps": 0}, ValueError), ("gradient", {"lr": 0.0}, ValueError),
    ("gradient", {"momentum": 1.0}, ValueError),
])  # fmt: skip
def test_bad_and_unknown_options_are_refused(name, options, error):
    with pytest.raises(error):
        PLANNERS[name](lambda a: a.square().sum((-2, -1)), torch.zeros(4, 2), **options)


def test_weights_that_are_none_are_refused():
    for bad in (torch.tensor([0.5, 0.4]), torch.tensor([1.5, -0.5]), torch.tensor([math.nan, 1.0])):
        with pytest.raises(ValueError, match="weights"):
            effective_sample_size(bad)
    for bad, told in ((torch.tensor([math.inf, 1.0]), "finite"), (torch.zeros(0), "at least one")):
        with pytest.raises(ValueError, match=told):
            plan_weights(bad, 1.0)
    with pytest.raises(ValueError, match="temperature"):
        plan_weights(torch.zeros(2), 0.0)
