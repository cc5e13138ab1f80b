"""The energy of plans that are to reach a goal: against a loop, its limits, its slopes, what planners make of it."""

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_lib.world import Replanner, cem, goal_energy, plan_by_gradient

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def free(s, a):
    return s + a


def bent(s, a):
    """A world that is neither linear nor still."""
    return torch.tanh(s + 0.3 * s.roll(1, -1)) + a @ torch.tensor([[0.5, 0.1, 0.0], [-0.2, 0.3, 0.4]], dtype=F64)


def one_energy(step, s, goal, actions, radius, power):
    """One plan's energy, number by number."""
    H = len(actions)
    weights = [t**power for t in range(1, H + 1)]
    total = 0.0
    for t, a in enumerate(actions):
        s = step(s, a)
        d = math.sqrt(sum((float(x) - float(g)) ** 2 for x, g in zip(s, goal, strict=True)) / len(goal))
        total += weights[t] / sum(weights) * math.log(1 + d / radius)
    return total


# --- against a loop --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("radius", "power"), [(0.1, 1.0), (0.7, 0.0), (2.0, 2.5), (0.01, 0.5)])
def test_is_the_formula(radius, power):
    s, goal, actions = draw(3), draw(3, seed=1), draw(6, 5, 2, seed=2)
    found = goal_energy(bent, goal, 5, radius=radius, power=power)(s)(actions)
    expected = [one_energy(bent, s, goal, plan, radius, power) for plan in actions]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=F64))


def test_defaults_are_a_tenth_and_one():
    s, goal, actions = draw(3), draw(3, seed=1), draw(4, 2, seed=2)
    found = goal_energy(bent, goal, 4)(s)(actions).item()
    assert found == pytest.approx(one_energy(bent, s, goal, actions, 0.1, 1.0))


def test_samples_stand_in_front_and_problems_do_not_mix():
    s, goal, actions = draw(4, 3), draw(4, 3, seed=1), draw(7, 4, 5, 2, seed=2)
    found = goal_energy(bent, goal, 5)(s)(actions)
    assert found.shape == (7, 4)
    for k in range(4):
        torch.testing.assert_close(found[:, k], goal_energy(bent, goal[k], 5)(s[k])(actions[:, k]))
    assert goal_energy(bent, goal[0], 5)(s)(actions).shape == (7, 4)  # one goal for all
    shared = goal_energy(bent, goal, 5)(s)(actions[:, :1])  # one plan tried in all
    torch.testing.assert_close(shared[:, 2], goal_energy(bent, goal[2], 5)(s[2])(actions[:, 0]))


def test_each_action_is_carried_out_once():
    calls = []

    def counted(s, a):
        calls.append(0)
        return s + a

    goal_energy(counted, torch.zeros(2), 6)(torch.zeros(2))(torch.zeros(9, 6, 2))
    assert len(calls) == 6


# --- its limits ------------------------------------------------------------------------------------------------------
def test_a_plan_that_is_there_all_the_time_costs_nothing():
    energy = goal_energy(free, torch.full((2,), 3.0, dtype=F64), 4)(torch.zeros(2, dtype=F64))
    plan = torch.zeros(4, 2, dtype=F64)
    plan[0] = 3
    assert energy(plan) == 0
    others = plan + 0.1 * draw(100, 4, 2)
    assert (energy(others) > 0).all()


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 10), st.floats(0, 5), st.integers(1, 12), st.floats(0, 100), st.integers(1, 5))
def test_weights_sum_to_one(radius, power, H, distance, D):
    """Who stays at one distance pays the logarithm of it, whatever the horizon, the power, or the width of states."""
    energy = goal_energy(free, torch.full((D,), distance, dtype=F64), H, radius=radius, power=power)
    found = energy(torch.zeros(D, dtype=F64))(torch.zeros(H, D, dtype=F64))
    assert found.item() == pytest.approx(math.log1p(distance / radius), rel=1e-9, abs=1e-12)


def test_with_power_0_it_does_not_matter_when():
    """Being there for one step of five, at any of them; with a power, the later the better it counts."""
    goal, plans = torch.ones(1, dtype=F64), torch.zeros(5, 5, 1, dtype=F64)
    for k in range(5):
        plans[k, k] = 1  # there at step k + 1, and back
        plans[k, k + 1 :][:1] = -1
    alike, later = (goal_energy(free, goal, 5, power=p)(torch.zeros(1, dtype=F64))(plans) for p in (0.0, 2.0))
    torch.testing.assert_close(alike, torch.full((5,), 0.8 * math.log(11), dtype=F64))
    weights = torch.arange(1, 6, dtype=F64) ** 2 / 55
    torch.testing.assert_close(later, (1 - weights) * math.log(11))


def test_a_large_power_asks_for_the_last_state_alone():
    s, actions = draw(3), draw(6, 5, 2, seed=2)
    found = goal_energy(bent, torch.zeros(3, dtype=F64), 5, power=400.0)(s)(actions)
    for a in actions.unbind(-2):
        s = bent(s, a)
    torch.testing.assert_close(found, torch.log1p(s.square().mean(-1).sqrt() / 0.1))


def test_a_very_large_power_is_a_number_in_single_precision():
    found = goal_energy(free, torch.zeros(2), 24, power=300.0)(torch.ones(2))(torch.zeros(24, 2))
    assert found.item() == pytest.approx(math.log(11), rel=1e-4)


def test_a_large_radius_makes_it_the_mean_distance():
    s, goal, actions = torch.zeros(2, dtype=F64), torch.ones(2, dtype=F64), draw(6, 4, 2)
    found = 1e7 * goal_energy(free, goal, 4, radius=1e7, power=0.0)(s)(actions)
    torch.testing.assert_close(found, (actions.cumsum(-2) - goal).square().mean(-1).sqrt().mean(-1), rtol=1e-6, atol=0)


def test_a_detour_pays():
    """Away from the goal and then there, against waiting a little less far away: the reason for the logarithm."""
    goal, wait = torch.tensor([1.0]), torch.zeros(8, 1)
    way = torch.tensor([-0.5, -0.5, -0.5, 1.0, 1.5, 0.0, 0.0, 0.0])[:, None]
    energy = goal_energy(free, goal, 8, power=0.0)(torch.zeros(1))
    assert energy(way) < energy(wait)
    apart = lambda plan: (plan.cumsum(0) - goal).abs().mean()
    assert apart(way) > 0.9 * apart(wait)
    linear = goal_energy(free, goal, 8, radius=1e4, power=0.0)(torch.zeros(1))
    assert linear(way[:5].repeat_interleave(2, 0)[:8] / 2) > linear(wait)


# --- its slopes ------------------------------------------------------------------------------------------------------
def test_slopes_by_finite_differences():
    energy = goal_energy(bent, draw(3), 4)
    s, actions = draw(2, 3, seed=1).requires_grad_(), draw(2, 4, 2, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda s, a: energy(s)(a), (s, actions))
    goal = draw(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda g: goal_energy(bent, g, 4)(s.detach())(actions.detach()), (goal,))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_slopes_are_finite_at_the_goal(dtype):
    """There the distance has an edge: a root whose slope is infinite."""
    actions = torch.zeros(3, 4, 2, dtype=dtype, requires_grad=True)
    start = torch.zeros(2, dtype=dtype)
    energy = goal_energy(free, start, 4)(start)(actions)
    (slope,) = torch.autograd.grad(energy.sum(), actions)
    assert slope.isfinite().all()
    assert (energy == 0).all()
    away = torch.full((4, 2), 1e-12, dtype=dtype, requires_grad=True)
    (slope,) = torch.autograd.grad(goal_energy(free, start, 4)(start)(away), away)
    assert slope.isfinite().all()


def test_planners_arrive_and_stay():
    goal, start = torch.tensor([[0.5, -0.3], [1.0, 0.2]], dtype=F64), torch.zeros(2, 8, 2, dtype=F64)
    state = torch.zeros(2, 2, dtype=F64)
    energy = goal_energy(free, goal, 8)
    search = functools.partial(cem, spread=0.3, samples=100, elites=10, iterations=8, bounds=(-0.25, 0.25))
    descent = functools.partial(plan_by_gradient, bounds=(-0.25, 0.25))
    for plan in (functools.partial(search, generator=seeded()), descent):
        agent, here = Replanner(plan, energy, start), state
        for _ in range(14):
            here = here + agent.act(here)
        assert (here - goal).abs().max() < 0.1


# --- the contract ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_dtype_and_device_follow(dtype, device):
    s, goal, actions = (x.to(device, dtype) for x in (draw(4, 3), draw(4, 3, seed=1), draw(7, 4, 5, 3, seed=2)))
    found = goal_energy(free, goal, 5)(s)(actions)
    assert (found.dtype, found.device.type, found.shape) == (dtype, device, (7, 4))


def test_a_single_step():
    energy = goal_energy(free, torch.ones(1, dtype=F64), 1, radius=0.5)(torch.zeros(1, dtype=F64))
    assert energy(torch.zeros(1, 1, dtype=F64)).item() == pytest.approx(math.log(3))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (dict(H=0), "H must"),
        (dict(radius=0.0), "radius must"),
        (dict(radius=-1.0), "radius must"),
        (dict(radius=math.nan), "radius must"),
        (dict(power=-0.1), "power must"),
        (dict(power=math.nan), "power must"),
        (dict(power=math.inf), "power must"),
    ],
)
def test_refuses_numbers_out_of_range(change, told):
    with pytest.raises(ValueError, match=told):
        goal_energy(free, torch.zeros(2), **(dict(H=3) | change))


def test_refuses_other_shapes():
    energy = goal_energy(free, torch.zeros(2), 3)(torch.zeros(2))
    for shape in ((4, 2), (2, 2), (5, 2, 2), (2,), ()):
        with pytest.raises(ValueError, match="plans must"):
            energy(torch.zeros(shape))
    with pytest.raises(ValueError, match="goal"):
        goal_energy(free, torch.zeros(3), 3)(torch.zeros(2))(torch.zeros(3, 2))
    for narrow in (torch.zeros(1), torch.tensor(0.0)):  # no broadcasting along coordinates
        with pytest.raises(ValueError, match="goal"):
            goal_energy(free, narrow, 3)(torch.zeros(2))(torch.zeros(3, 2))
