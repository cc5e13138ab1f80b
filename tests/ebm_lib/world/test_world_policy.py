"""Policies: against least squares, linear regulators, the worlds they were written out in, an expert."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ebm_lib.nn import init_
from ebm_lib.world import (
    Policy,
    Replanner,
    advise,
    cem,
    imitate,
    learn_through,
    lqr,
    plan_by_gradient,
    propose,
    rollout,
    trajectory_energy,
)

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64).to(dtype)


def linear_policy(D, A, seed=0, bias=False):
    return init_(nn.Linear(D, A, bias=bias, dtype=F64), seeded(seed))


def regulator(D=3, A=2, seed=0):
    """A stable linear world whose plans cost |s|² + 0.3 |a|² a step."""
    M = draw(D, D, seed=seed)
    M = 0.9 * M / torch.linalg.eigvals(M).abs().max()
    B = draw(D, A, seed=seed + 1)
    step = lambda s, a: s @ M.mT + a @ B.mT
    Q, R = torch.eye(D, dtype=F64), 0.3 * torch.eye(A, dtype=F64)
    energy = trajectory_energy(
        step, lambda s, a: s.square().sum(-1) + 0.3 * a.square().sum(-1), lambda s: s.square().sum(-1)
    )
    return M, B, Q, R, step, energy


# ---- the network


def test_actions_are_the_middle_of_the_bounds_plus_a_share_of_their_width():
    policy = Policy(3, 2, bounds=(torch.tensor([-1.0, 2.0]), torch.tensor([3.0, 2.5])), generator=seeded())
    s = draw(4, 5, 3, dtype=torch.float32)
    expected = torch.tensor([1.0, 2.25]) + torch.tensor([2.0, 0.25]) * policy.mlp(s).tanh()
    torch.testing.assert_close(policy(s), expected)


@given(seed=st.integers(0, 10**6), size=st.floats(0.1, 1e3))
@settings(max_examples=30, deadline=None)
def test_no_action_leaves_the_bounds(seed, size):
    a = Policy(4, 3, bounds=(-0.06, 0.02), generator=seeded(seed))(size * draw(50, 4, seed=seed, dtype=torch.float32))
    assert (a >= -0.06 - 1e-7).all()
    assert (a <= 0.02 + 1e-7).all()


def test_a_policy_is_a_function_of_its_seed_and_moves_with_its_dtype():
    one, same, other = (Policy(3, 2, generator=seeded(k)) for k in (0, 0, 1))
    s = draw(7, 3, dtype=torch.float32)
    assert torch.equal(one(s), same(s))
    assert not torch.equal(one(s), other(s))
    assert one.double()(s.double()).dtype == F64
    assert Policy(3, 2, generator=seeded()).to("meta")(s.to("meta")).shape == (7, 2)


def test_widths_and_activation_are_the_perceptrons():
    s = draw(9, 3, dtype=torch.float32)
    odd = Policy(3, 2, hidden=(5, 4), activation="tanh", bounds=(-1.0, 1.0), generator=seeded())
    assert [tuple(p.shape) for p in odd.parameters()] == [(5, 3), (5,), (4, 5), (4,), (2, 4), (2,)]
    W1, b1, W2, b2, W3, b3 = odd.parameters()
    by_hand = ((((s @ W1.mT + b1).tanh() @ W2.mT + b2).tanh()) @ W3.mT + b3).tanh()
    torch.testing.assert_close(odd(s), by_hand)


@pytest.mark.parametrize("wrong", [{"D": 0}, {"A": 0}, {"bounds": (1.0, 1.0)}, {"bounds": (1.0, -1.0)},
                                   {"bounds": (0.0, torch.tensor([1.0, float("nan")]))}, {"sizes": (0,)}])  # fmt: skip
def test_bad_sizes_and_bounds_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Policy(**({"D": 3, "A": 2} | {"hidden" if k == "sizes" else k: v for k, v in wrong.items()}))


# ---- written out


def test_a_proposal_of_a_linear_policy_is_powers_of_the_closed_loop():
    M, B, *_, step, _ = regulator()
    K, s = draw(2, 3, seed=5) / 5, draw(4, 3, seed=6)
    plan = propose(lambda s: -s @ K.mT, step, s, 5)
    closed = M - B @ K
    for t in range(5):
        torch.testing.assert_close(plan[:, t], -(s @ torch.linalg.matrix_power(closed, t).mT) @ K.mT)


def test_a_proposal_rolled_out_asks_the_policy_again():
    *_, step, _ = regulator(seed=3)
    policy = lambda s: s[..., :2].sin()
    s = draw(2, 5, 3)
    plan = propose(policy, step, s, 6)
    states = rollout(step, s, plan)
    assert plan.shape == (2, 5, 6, 2)
    torch.testing.assert_close(plan, policy(states[..., :-1, :]))


def test_a_proposal_calls_the_model_no_oftener_than_it_must():
    calls = []
    propose(lambda s: -s, lambda s, a: calls.append(0) or s + a, torch.ones(1), 4)
    assert len(calls) == 3
    with pytest.raises(ValueError, match="H must"):
        propose(lambda s: s, lambda s, a: s, torch.ones(1), 0)
    with pytest.raises(ValueError, match="shape"):
        propose(lambda s: s, lambda s, a: s[..., :1], torch.ones(2), 2)


def test_a_plan_from_a_proposal_is_never_worse_than_it():
    *_, step, energy = regulator()
    s, policy = draw(6, 3), linear_policy(3, 2)
    with torch.no_grad():
        start = propose(policy, step, s, 8)
    plan = cem(energy(s), start, spread=0.5, samples=16, elites=4, iterations=1, generator=seeded())
    assert (plan.energy <= energy(s)(start) + 1e-12).all()


# ---- advice


def test_without_an_actor_the_expert_is_followed():
    *_, step, _ = regulator()
    K = draw(2, 3, seed=5) / 5
    expert = lambda s: -s @ K.mT
    found = advise(expert, step, draw(4, 3), 6)
    assert found.states.shape == (4, 6, 3)
    assert found.actions.shape == (4, 6, 2)
    torch.testing.assert_close(found.states, rollout(step, draw(4, 3), found.actions)[..., :-1, :])
    torch.testing.assert_close(found.actions, expert(found.states))


def test_with_an_actor_the_states_are_the_actors_and_the_advice_the_experts():
    *_, step, _ = regulator()
    expert, actor = (lambda s: -s[..., :2]), (lambda s: 0.1 + s[..., 1:])
    found = advise(expert, step, draw(4, 3), 6, actor=actor)
    torch.testing.assert_close(found.states, rollout(step, draw(4, 3), actor(found.states))[..., :-1, :])
    torch.testing.assert_close(found.actions, expert(found.states))


def test_an_expert_with_a_memory_is_asked_once_at_each_step_in_order():
    asked = []
    advise(lambda s: asked.append(s.item()) or s, lambda s, a: s + 1, torch.zeros(1), 4, actor=lambda s: s)
    assert asked == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="T must"):
        advise(lambda s: s, lambda s, a: s, torch.zeros(1), 0)


def test_a_planner_advises_and_leaves_no_graph():
    *_, step, energy = regulator()
    agent = Replanner(functools.partial(plan_by_gradient, steps=5), energy, torch.zeros(4, 3, 2, dtype=F64))
    policy = linear_policy(3, 2)
    found = advise(agent.act, step, draw(4, 3), 3, actor=policy)
    assert found.actions.shape == (4, 3, 2)
    assert not found.states.requires_grad
    assert not found.actions.requires_grad


def test_dagger_learns_where_cloning_was_never_told():
    """Errands that begin near 0 do not show the expert's cubic term; those of the policy that begin further off do."""
    expert = lambda s: -0.5 * s - 0.8 * s**3
    step = lambda s, a: 1.1 * s + a

    class Cubic(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(3, 1, dtype=F64))

        def forward(self, s):
            return torch.cat([torch.ones_like(s), s, s**3], -1) @ self.w

    s = 0.05 * draw(64, 1)
    cloned, advised = Cubic(), Cubic()
    first = advise(expert, step, s, 20)
    pairs = [tuple(part.flatten(0, 1) for part in first)]
    for policy in (cloned, advised):
        imitate(policy, *pairs[0], steps=500, lr=0.05, generator=seeded())
    spread = 0.6 * draw(64, 1, seed=1)
    for _ in range(3):
        more = advise(expert, step, spread, 10, actor=lambda s: advised(s).clamp(-1, 1))
        near = more.states.abs().flatten() < 2
        pairs.append(tuple(part.flatten(0, 1)[near] for part in more))
        states, actions = (torch.cat(part) for part in zip(*pairs, strict=True))
        imitate(advised, states, actions, steps=500, lr=0.05, generator=seeded())
    error = {p: (p(spread) - expert(spread)).square().mean().item() for p in (cloned, advised)}
    assert error[advised] < error[cloned] / 3


# ---- imitation


def test_imitating_a_linear_policy_recovers_it():
    K, s = draw(2, 4, seed=5), draw(400, 4)
    policy = linear_policy(4, 2)
    errors = imitate(policy, s, s @ K.mT, steps=1500, lr=0.03, batch_size=64, generator=seeded())
    torch.testing.assert_close(policy.weight.detach(), K, atol=2e-3, rtol=0)
    assert errors.shape == (1500,)
    assert errors[-1] < 1e-5


def test_imitating_noisy_advice_is_least_squares():
    s = draw(300, 3)
    a = s @ draw(2, 3, seed=5).mT + 0.5 * draw(300, 2, seed=6)
    policy = linear_policy(3, 2)
    imitate(policy, s, a, steps=3000, lr=0.02, batch_size=300, generator=seeded())
    torch.testing.assert_close(policy.weight.detach(), torch.linalg.lstsq(s, a).solution.mT, atol=0.02, rtol=0)


def test_the_error_is_relative_to_an_answer_of_zero():
    s, a = draw(500, 3), 7 + draw(500, 2, seed=1)
    policy = linear_policy(3, 2)
    with torch.no_grad():
        policy.weight.zero_()
    errors = imitate(policy, s, a, steps=1, lr=1e-9, batch_size=20_000, generator=seeded())
    assert abs(errors.item() - 1) < 0.02


def test_batches_are_of_the_size_asked_for_and_of_all_pairs():
    class Watched(nn.Linear):
        def forward(self, s):
            seen.append(s.detach().flatten())
            return super().forward(s)

    s = torch.arange(1.0, 6.0, dtype=F64)[:, None]
    for learn in (
        lambda p: imitate(p, s, -s, steps=40, batch_size=7, generator=seeded()),
        lambda p: learn_through(p, lambda s, a: s + a, lambda s: lambda a: (s + a.sum(-2)).square().sum(-1), s,
                                H=1, steps=40, batch_size=7, generator=seeded()),
    ):  # fmt: skip
        seen = []
        learn(Watched(1, 1, dtype=F64))
        assert {len(x) for x in seen} == {7}
        assert torch.cat(seen).unique().tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_experts_that_disagree_are_averaged():
    s = torch.ones(200, 1, dtype=F64)
    a = torch.cat([torch.ones(100, 1, dtype=F64), -torch.ones(100, 1, dtype=F64)])
    policy = linear_policy(1, 1)
    imitate(policy, s, a, steps=800, lr=0.02, generator=seeded())
    assert policy(s[:1]).abs() < 0.15


@pytest.mark.parametrize(("states", "actions", "what"), [
    (torch.zeros(3, 2), torch.ones(4, 1), "states must"), (torch.zeros(3), torch.ones(3, 1), "states must"),
    (torch.zeros(0, 2), torch.ones(0, 1), "states must"), (torch.zeros(3, 2), torch.zeros(3, 1), "all be 0"),
    (torch.full((3, 2), torch.nan), torch.ones(3, 1), "states"),
    (torch.zeros(3, 2), torch.full((3, 1), torch.inf), "actions"),
])  # fmt: skip
def test_pairs_that_do_not_fit_are_refused(states, actions, what):
    with pytest.raises(ValueError, match=what):
        imitate(nn.Linear(2, 1), states, actions, steps=1)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch_size": 0}, {"lr": 0.0}])
def test_bad_options_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        imitate(nn.Linear(2, 1), torch.zeros(3, 2), torch.ones(3, 1), **wrong)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        learn_through(nn.Linear(1, 1), lambda s, a: s + a, lambda s: lambda a: a.square().sum((-1, -2)),
                      torch.zeros(3, 1), H=1, **wrong)  # fmt: skip
    with pytest.raises(ValueError, match="parameters"):
        imitate(nn.Tanh(), torch.zeros(3, 1), torch.ones(3, 1))


# ---- through the model


def test_a_policy_learned_through_a_linear_world_is_the_regulators_gain():
    M, B, Q, R, step, energy = regulator(seed=2)
    gain = lqr(M, B, Q, R, Q, 30).gains[0]  # far from the end, where it hardly changes with time
    policy = linear_policy(3, 2)
    with torch.no_grad():
        policy.weight.zero_()
    learn_through(policy, step, energy, draw(2000, 3), H=30, steps=800, batch_size=64, lr=0.02, generator=seeded())
    torch.testing.assert_close(policy.weight.detach(), -gain, atol=0.02, rtol=0.02)


def test_one_step_through_the_model_is_the_slope_of_the_mean_energy():
    """The first step of Adam moves each weight by lr against the sign of its slope, here by finite differences."""
    *_, step, energy = regulator()
    states, H, tiny = draw(1, 3), 4, 1e-6
    policy, moved = linear_policy(3, 2), linear_policy(3, 2)
    learn_through(moved, step, energy, states, H=H, steps=1, lr=1e-3, generator=seeded())
    for row in range(2):
        for column in range(3):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    nudged = linear_policy(3, 2)
                    nudged.weight[row, column] += sign * tiny
                    values.append(energy(states)(propose(nudged, step, states, H)).mean())
            slope = (values[0] - values[1]) / (2 * tiny)
            change = moved.weight[row, column] - policy.weight[row, column]
            assert abs(change + 1e-3 * slope.sign()) < 1e-5


def test_what_is_returned_is_what_was_minimised():
    *_, step, energy = regulator()
    s, K = draw(1, 3), draw(2, 3, seed=5)
    policy = linear_policy(3, 2)
    with torch.no_grad():
        expected = energy(s)(propose(policy, step, s, 5)).item()
        error = ((policy(s) - s @ K.mT).square().mean() / (s @ K.mT).square().mean()).item()
    path = learn_through(linear_policy(3, 2), step, energy, s, H=5, steps=3, lr=0.05, generator=seeded())
    assert path[0].item() == pytest.approx(expected)
    assert path[2] < path[0]
    assert imitate(policy, s, s @ K.mT, steps=3, generator=seeded())[0].item() == pytest.approx(error)


def test_the_model_is_left_as_it_is():
    model = linear_policy(2, 1)
    step = lambda s, a: s + model(torch.cat([s, a], -1))
    before = model.weight.detach().clone()
    policy = linear_policy(1, 1)
    path = learn_through(policy, step, lambda s: lambda a: rollout(step, s, a)[..., -1, :].square().sum(-1),
                         draw(50, 1), H=3, steps=5, generator=seeded())  # fmt: skip
    assert path.shape == (5,)
    assert model.weight.grad is None
    assert torch.equal(model.weight, before)
    assert policy.weight.grad is None


def test_where_the_world_has_no_slope_nothing_is_learned():
    """A wall: whatever is done, the dot stays. Weight decay apart, the policy stays as it was."""
    step = lambda s, a: s + 0 * a
    policy = linear_policy(1, 1)
    before = policy.weight.detach().clone()
    learn_through(policy, step, lambda s: lambda a: rollout(step, s, a)[..., -1, :].square().sum(-1),
                  torch.ones(9, 1, dtype=F64), H=3, steps=20, generator=seeded())  # fmt: skip
    torch.testing.assert_close(policy.weight.detach(), before, rtol=1e-4, atol=0)


def test_an_energy_without_a_slope_and_bad_states_are_refused():
    def learn(states, energy):
        learn_through(nn.Linear(1, 1), lambda s, a: s + a, energy, states, H=1, steps=1)

    with pytest.raises(ValueError, match="slope"):
        learn(torch.zeros(3, 1), lambda s: lambda a: a.detach().sum((-1, -2)))
    with pytest.raises(ValueError, match="states must"):
        learn(torch.zeros(3), lambda s: lambda a: a.sum((-1, -2)))
    with pytest.raises(ValueError, match="states"):
        learn(torch.full((3, 1), torch.nan), lambda s: lambda a: a.sum((-1, -2)))
    with pytest.raises(ValueError, match="minimised"):
        learn(torch.zeros(3, 1), lambda s: lambda a: a.sum((-1, -2)) * torch.inf)


def test_all_randomness_comes_from_the_generator():
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(found))
        policy = Policy(2, 2, hidden=(8,), generator=seeded(3))
        imitate(policy, draw(50, 2, dtype=torch.float32), draw(50, 2, seed=1, dtype=torch.float32), steps=5,
                batch_size=8, generator=seeded(seed))  # fmt: skip
        learn_through(policy, lambda s, a: s + a, lambda s: lambda a: (s + a.sum(-2)).square().sum(-1),
                      draw(50, 2, seed=2, dtype=torch.float32), H=2, steps=5, batch_size=8,
                      generator=seeded(seed))  # fmt: skip
        found.append(torch.cat([p.detach().flatten() for p in policy.parameters()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_policies_follow_their_device():
    policy = Policy(2, 2, generator=seeded()).to("cuda")
    s = draw(50, 2, dtype=torch.float32).to("cuda")
    found = advise(lambda s: -s / 2, lambda s, a: s + a, s, 3, actor=policy)
    imitate(policy, found.states.flatten(0, 1), found.actions.flatten(0, 1), steps=2,
            generator=torch.Generator("cuda").manual_seed(0))  # fmt: skip
    assert found.actions.device.type == "cuda"
    assert propose(policy, lambda s, a: s + a, s, 2).device.type == "cuda"
