"""Rollouts, adjoints, regulators and replanning: against matrix powers, autograd, one big least squares, Riccati."""

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_are

from ebm_lib.world import (
    Plan,
    Replanner,
    adjoint,
    cem,
    lqr,
    plan_by_gradient,
    rollout,
    shift,
    trajectory_energy,
)

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def close(found, expected, tolerance=1e-10):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), rtol=tolerance, atol=tolerance)


def positive(*lead, k, seed):
    M = draw(*lead, k, k, seed=seed)
    return M @ M.mT / k + 0.1 * torch.eye(k, dtype=F64)


def system(*lead, D=4, U=2, radius=0.9, seed=0):
    A = draw(*lead, D, D, seed=seed)
    A = radius * A / torch.linalg.eigvals(A).abs().amax(-1)[..., None, None]
    B = draw(*lead, D, U, seed=seed + 1)
    return A, B, *(positive(*lead, k=k, seed=seed + 2 + i) for i, k in enumerate((D, U, D)))


def linear(A, B):
    return lambda s, a: (A @ s[..., None] + B @ a[..., None])[..., 0]


def form(M, v):
    return (v * (M @ v[..., None])[..., 0]).sum(-1)


def costs(Q, R, final):
    return (lambda s, a: form(Q, s) + form(R, a)), (lambda s: form(final, s))


def pendulum(s, a):
    """Swings with friction and a torque: angle and speed."""
    speed = s[..., 1:] + 0.1 * (a - torch.sin(s[..., :1]) - 0.1 * s[..., 1:])
    return torch.cat([s[..., :1] + 0.1 * speed, speed], -1)


def effort(s, a):
    return (1 + torch.cos(s[..., 0])) * (1 + a[..., 0].square()) + 0.1 * s[..., 1].square()


def ending(s):
    return 3 * (1 + torch.cos(s[..., 0])) + s[..., 1].exp()


# ---- rollouts


def test_a_rollout_of_a_linear_system_is_a_sum_of_powers():
    A, B, *_ = system(D=3)
    s, a = draw(3, seed=8), draw(6, 2, seed=9)
    states = rollout(linear(A, B), s, a)
    for t in range(7):
        power = torch.linalg.matrix_power
        close(states[t], power(A, t) @ s + sum(power(A, t - 1 - k) @ B @ a[k] for k in range(t)))


def test_samples_of_plans_for_a_batch_of_states():
    s, a = draw(5, 2), draw(7, 5, 4, 1, seed=1)

    def step(s, a):
        assert s.shape[:-1] == a.shape[:-1]  # a network may concatenate them
        return pendulum(s, a)

    states = rollout(step, s, a)
    assert states.shape == (7, 5, 5, 2)
    for n in range(7):
        for b in range(5):
            close(states[n, b], rollout(pendulum, s[b], a[n, b]))
    close(rollout(step, s, a[0, 0]), torch.stack([rollout(pendulum, s[b], a[0, 0]) for b in range(5)]))
    assert rollout(step, s, a[..., :0, :]).shape == (7, 5, 1, 2)


@pytest.mark.parametrize("lead", [(), (5,), (7, 5)])
def test_the_energy_of_a_plan_is_what_happens_on_the_way(lead):
    s, a = draw(5, 2), draw(*lead, 4, 1, seed=1)
    total, state = 0, s.expand(*(lead or (5,)), 2)
    for t in range(4):
        total = total + effort(state, a[..., t, :])
        state = pendulum(state, a[..., t, :].expand(*state.shape[:-1], 1))
    close(trajectory_energy(pendulum, effort, ending)(s)(a), total + ending(state))


# ---- the adjoint


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(0, 1000))
def test_the_adjoint_finds_what_backpropagation_finds(H, seed):
    s, a = draw(5, 2, seed=seed).requires_grad_(), draw(3, 5, H, 1, seed=seed + 1).requires_grad_()
    energy = trajectory_energy(pendulum, effort, ending)(s)(a)
    found = adjoint(pendulum, effort, ending, s, a)
    by_action, by_state = torch.autograd.grad(energy.sum(), (a, s))
    close(found.energy, energy.detach())
    close(found.gradient, by_action)
    close(found.costates[..., 0, :].sum(0), by_state)
    close(found.states, rollout(pendulum, s, a).detach())
    assert not any(part.requires_grad for part in found)


def test_the_adjoint_is_the_slope_by_finite_differences():
    s, a, h = draw(2, seed=1), draw(6, 1, seed=2), 1e-6
    energy, found = trajectory_energy(pendulum, effort, ending), adjoint(pendulum, effort, ending, s, a)
    for t in range(6):
        nudge = torch.zeros_like(a)
        nudge[t] = h
        close(found.gradient[t, 0], (energy(s)(a + nudge) - energy(s)(a - nudge)) / (2 * h), 1e-7)
    for t in range(7):  # a costate is the slope of what remains, from that state on
        for i in range(2):
            nudge = h * torch.eye(2, dtype=F64)[i]
            ahead, back = (energy(found.states[t] + sign * nudge)(a[t:]) for sign in (1, -1))
            close(found.costates[t, i], (ahead - back) / (2 * h), 1e-7)


def test_along_the_best_way_the_adjoint_is_that_of_the_regulator():
    A, B, Q, R, final = system(5, radius=1.1)
    solved, state, actions = lqr(A, B, Q, R, final, 6), draw(5, 4, seed=9), []
    start = state
    for t in range(6):
        actions.append(-(solved.gains[:, t] @ state[..., None])[..., 0])
        state = linear(A, B)(state, actions[-1])
    found = adjoint(linear(A, B), *costs(Q, R, final), start, torch.stack(actions, -2))
    close(found.gradient, torch.zeros(5, 6, 2), 1e-9)
    close(found.costates, 2 * (solved.values @ found.states[..., None])[..., 0], 1e-9)
    close(found.energy, form(solved.values[:, 0], start))


@pytest.mark.parametrize(("step", "running", "final"), [
    (pendulum, lambda s, a: torch.zeros(s.shape[:-1], dtype=F64), ending),
    (pendulum, effort, lambda s: torch.zeros(s.shape[:-1], dtype=F64)),
    (pendulum, lambda s, a: s.square().sum(-1), ending), (pendulum, lambda s, a: a.square().sum(-1), ending),
    (lambda s, a: s.detach(), effort, ending), (lambda s, a: torch.zeros_like(s) + a, effort, ending),
    (lambda s, a: torch.ones_like(s), lambda s, a: torch.zeros(s.shape[:-1], dtype=F64), ending),
])  # fmt: skip
def test_costs_and_worlds_that_depend_on_little(step, running, final):
    s, a = draw(3, 2, seed=1), draw(3, 4, 1, seed=2).requires_grad_()
    energy = trajectory_energy(step, running, final)(s)(a)
    expected = torch.autograd.grad(energy.sum() + 0 * a.sum(), a)[0]
    found = adjoint(step, running, final, s, a)
    close(found.gradient, expected)
    close(found.energy, energy.detach())


def test_the_world_gets_no_gradient_from_the_adjoint():
    net = torch.nn.Linear(3, 2, dtype=F64)
    with torch.no_grad():
        found = adjoint(lambda s, a: net(torch.cat([s, a], -1)), effort, ending, draw(5, 2), draw(5, 3, 1))
    assert net.weight.grad is None
    assert found.gradient.abs().min() > 0


# ---- the regulator


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 8), st.floats(0.1, 1.4), st.integers(0, 1000))
def test_the_regulator_is_the_least_squares_over_all_actions_at_once(D, U, H, radius, seed):
    A, B, Q, R, final = system(D=D, U=U, radius=radius, seed=seed)
    s = draw(D, seed=seed + 7)
    # all states in one vector: F s + G a; all costs in one matrix
    F = torch.cat([torch.linalg.matrix_power(A, t) for t in range(H + 1)])
    G = torch.zeros((H + 1) * D, H * U, dtype=F64)
    for t in range(H + 1):
        for k in range(t):
            G[t * D : (t + 1) * D, k * U : (k + 1) * U] = torch.linalg.matrix_power(A, t - 1 - k) @ B
    W, V = torch.block_diag(*[Q] * H, final), torch.block_diag(*[R] * H)
    best = torch.linalg.solve(G.T @ W @ G + V, -G.T @ W @ F @ s).view(H, U)
    solved = lqr(A, B, Q, R, final, H)
    energy = trajectory_energy(linear(A, B), *costs(Q, R, final))
    close(form(solved.values[0], s), energy(s)(best), 1e-8)
    state = s
    for t in range(H):
        close(-solved.gains[t] @ state, best[t], 1e-6)
        close(form(solved.values[t], state), energy(state)(best[t:]), 1e-7)  # what is to pay from any time on
        state = A @ state + B @ best[t]
    close(solved.values[-1], final)


@pytest.mark.parametrize("radius", [0.5, 1.0, 1.3])
def test_far_from_the_end_the_regulator_is_that_of_the_endless_problem(radius):
    A, B, Q, R, final = system(radius=radius, seed=3)
    endless = torch.from_numpy(solve_discrete_are(*(M.numpy() for M in (A, B, Q, R))))
    solved = lqr(A, B, Q, R, final, 300)
    close(solved.values[0], endless, 1e-8)
    close(solved.gains[0], torch.linalg.solve(R + B.T @ endless @ B, B.T @ endless @ A), 1e-8)
    close(lqr(A, B, Q, R, endless, 5).values, endless.expand(6, 4, 4), 1e-8)  # it stays where it settles


def test_regulators_of_a_batch_are_each_their_own():
    A, B, Q, R, final = system(2, 3, seed=4)
    solved = lqr(A, B, Q, R, final[0, 0], 5)
    assert solved.gains.shape == (2, 3, 5, 2, 4)
    assert solved.values.shape == (2, 3, 6, 4, 4)
    for i in range(2):
        for j in range(3):
            alone = lqr(A[i, j], B[i, j], Q[i, j], R[i, j], final[0, 0], 5)
            close(solved.gains[i, j], alone.gains)
            close(solved.values[i, j], alone.values)
    close(solved.values, solved.values.mT)


def test_a_state_that_costs_nothing_is_left_alone():
    A, B, Q, R, _ = system(radius=1.2)
    solved = lqr(A, B, 0 * Q, R, 0 * Q, 5)
    close(solved.gains, torch.zeros(5, 2, 4))
    close(solved.values, torch.zeros(6, 4, 4))


@pytest.mark.parametrize(("change", "told"), [
    ({0: torch.zeros(3, 4)}, "A must be"), ({1: torch.zeros(3, 2)}, "A must be"), ({1: torch.zeros(4)}, "A must be"),
    ({2: torch.zeros(2, 2)}, "Q must be"), ({3: torch.zeros(4, 4)}, "R must be"),
    ({4: torch.zeros(4, 3)}, "final must be"),
    ({3: torch.zeros(2, 2)}, "R must be positive definite"), ({3: -torch.eye(2)}, "R must be symmetric"),
    ({2: torch.tensor(1.0).expand(4, 4).triu()}, "Q must be symmetric"),
    ({4: -torch.eye(4)}, "final must be symmetric"),
    ({0: torch.full((4, 4), math.nan)}, "A must be finite"), ({5: 0}, "H must be"),
])  # fmt: skip
def test_a_regulator_without_a_solution_is_refused(change, told):
    given = [torch.eye(4), torch.ones(4, 2), torch.eye(4), torch.eye(2), torch.eye(4), 5]
    with pytest.raises(ValueError, match=told):
        lqr(*(change.get(i, part) for i, part in enumerate(given)))


# ---- replanning

EXACT = functools.partial(plan_by_gradient, steps=120)


def test_replanning_closes_the_loop_as_the_regulator_does():
    """With the endless problem's value at the horizon's end, each first action is the endless problem's best."""
    A, B, Q, R, _ = system(3, radius=0.95, seed=3)
    endless = torch.stack([
        torch.from_numpy(solve_discrete_are(*(M[n].numpy() for M in (A, B, Q, R)))) for n in range(3)
    ])  # fmt: skip
    running, final = costs(Q, R, endless)
    energy = trajectory_energy(linear(A, B), running, final)
    gain = lqr(A, B, Q, R, endless, 1).gains[:, 0]
    agent = Replanner(EXACT, energy, torch.zeros(3, 3, 2, dtype=F64))
    state = start = draw(3, 4, seed=8)
    paid = 0
    for _ in range(12):
        action = agent.act(state)
        close(action, -(gain @ state[..., None])[..., 0], 1e-3)
        paid = paid + running(state, action)
        state = linear(A, B)(state, action)
    close(paid + final(state), form(endless, start), 1e-5)


def test_replanning_answers_what_a_plan_made_once_cannot_foresee():
    pushes = 0.3 * draw(10, 1, seed=5)
    world = lambda s, a: s + a
    energy = trajectory_energy(world, lambda s, a: s.square().sum(-1), lambda s: s.square().sum(-1))
    planner = functools.partial(plan_by_gradient, steps=400)
    agent = Replanner(planner, energy, torch.zeros(3, 1, dtype=F64))
    once = planner(energy(torch.ones(1, dtype=F64)), torch.zeros(10, 1, dtype=F64)).actions
    closed = opened = torch.ones(1, dtype=F64)
    for t in range(10):
        closed, opened = world(closed, agent.act(closed)) + pushes[t], world(opened, once[t]) + pushes[t]
        close(closed, pushes[t], 1e-2)  # all but the last push has been answered
        close(opened, pushes[: t + 1].sum(0), 1e-2)  # none has


class Recorder:
    """A planner that returns its start plus one, and remembers the starts."""

    def __init__(self):
        self.starts = []

    def __call__(self, energy, start):
        self.starts.append(start.clone())
        return Plan(start + 1, energy(start + 1), start, energy(start)[None])


@pytest.mark.parametrize(("fill", "last"), [("repeat", 4.0), ("zero", 0.0)])
def test_what_is_left_of_the_plan_is_the_next_start(fill, last):
    recorder = Recorder()
    start = torch.tensor([[1.0], [2.0], [3.0]])
    agent = Replanner(recorder, lambda s: lambda a: a.sum((-2, -1)) + s.sum(-1), start, fill=fill)
    assert agent.last is None
    assert agent.act(torch.zeros(1)).tolist() == [2.0]
    assert agent.last.actions.flatten().tolist() == [2.0, 3.0, 4.0]
    assert agent.act(torch.ones(1)).tolist() == [4.0]
    assert agent.last.energy == 4 + 5 + (last + 1) + 1  # actions, and the state it was given
    assert [s.flatten().tolist() for s in recorder.starts] == [[1.0, 2.0, 3.0], [3.0, 4.0, last]]
    assert start.flatten().tolist() == [1.0, 2.0, 3.0]
    agent.reset()
    assert agent.last is None
    agent.act(torch.zeros(1))
    assert recorder.starts[-1].flatten().tolist() == [1.0, 2.0, 3.0]


def test_episodes_of_a_batch_begin_anew_one_by_one():
    recorder, start = Recorder(), draw(3, 4, 2)
    agent = Replanner(recorder, lambda s: lambda a: a.sum((-2, -1)), start)
    agent.act(draw(3, 1))
    agent.reset(torch.tensor([True, False, True]))
    agent.act(draw(3, 1))
    close(recorder.starts[1][[0, 2]], start[[0, 2]])
    close(recorder.starts[1][1], shift(start + 1)[1])
    for bad in (torch.tensor([True, False]), torch.tensor([1, 0, 1])):
        with pytest.raises(ValueError, match="which must be boolean"):
            agent.reset(bad)


def test_any_planner_will_do():
    for planner in (functools.partial(cem, spread=0.3, generator=seeded()), EXACT):
        energy = trajectory_energy(pendulum, effort, ending)
        agent = Replanner(planner, energy, torch.zeros(5, 8, 1, dtype=F64))
        state = draw(5, 2)
        first = energy(state)(agent.start)
        action = agent.act(state)
        assert action.shape == (5, 1)
        assert (agent.last.energy < first).all()
        close(action, agent.last.actions[:, 0])


def test_a_plan_is_shifted_by_one_step():
    plan = draw(2, 3, 4, 1)
    close(shift(plan)[..., :-1, :], plan[..., 1:, :])
    close(shift(plan)[..., -1, :], plan[..., -1, :])
    close(shift(plan, "zero")[..., -1, :], torch.zeros(2, 3, 1))


# ---- contract


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_device_and_dtype_follow_the_inputs(device, dtype):
    s, a = (x.to(device, dtype) for x in (draw(5, 2), draw(5, 4, 1)))
    found = [rollout(pendulum, s, a), trajectory_energy(pendulum, effort, ending)(s)(a), shift(a)]
    found += adjoint(pendulum, effort, ending, s, a)
    found += lqr(*(M.to(device, dtype) for M in system(3)), 4)
    agent = Replanner(functools.partial(EXACT, steps=3), trajectory_energy(pendulum, effort, ending), a)
    found.append(agent.act(s))
    agent.reset(torch.ones(5, dtype=torch.bool, device=device))
    for part in [*found, agent.actions]:
        assert (part.device.type, part.dtype) == (device, dtype)


@pytest.mark.parametrize(("call", "told"), [
    (lambda: rollout(pendulum, torch.zeros(2), torch.zeros(1)), "actions"),
    (lambda: rollout(pendulum, torch.zeros(3, 2), torch.zeros(4, 5, 1)), "must broadcast"),
    (lambda: rollout(lambda s, a: s[..., :1], torch.zeros(2), torch.zeros(5, 1)), "keep the state's shape"),
    (lambda: adjoint(pendulum, lambda s, a: s, ending, torch.zeros(2), torch.zeros(5, 1)), "one per sample"),
    (lambda: adjoint(pendulum, effort, lambda s: s, torch.zeros(2), torch.zeros(5, 1)), "one per sample"),
    (lambda: adjoint(lambda s, a: s / 0, effort, ending, torch.ones(2), torch.zeros(5, 1)), "states must be finite"),
    (lambda: adjoint(pendulum, lambda s, a: a[..., 0] / 0, ending, torch.ones(2), torch.zeros(5, 1)), "cost"),
    (lambda: adjoint(pendulum, lambda s, a: a[..., 0].sqrt(), ending, torch.ones(2), torch.zeros(5, 1)), "slope"),
    (lambda: shift(torch.zeros(3, 1), "last"), "fill must be one of"),
    (lambda: Replanner(EXACT, lambda s: None, torch.zeros(3, 1), fill="none"), "fill must be one of"),
    (lambda: Replanner(lambda e, a: Plan(a[:2], a.sum(), a, a), lambda s: None, torch.zeros(3, 1)).act(torch.zeros(1)),
     "the start's shape"),
])  # fmt: skip
def test_bad_input_is_refused(call, told):
    with pytest.raises(ValueError, match=told):
        call()
