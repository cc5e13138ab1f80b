"""The cost module: sums written out, slopes, a chain and a linear world whose cost-to-go is known."""

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_lib.world import Cost, Critic, Pairs, ShortTermMemory, cem, learn_critic, plan_energy, rollout

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64).to(dtype)


def square(s):
    return s.square().sum(-1)


def first(s):
    return s[..., 0].exp()


def mean(s):
    return s.mean(-1)


def cost(**weights):
    return Cost({"square": square, "first": first}, {"critic": mean}, weights=weights)


# ---- sums


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 5), min_size=3, max_size=3))
def test_the_cost_is_the_weighted_sum_of_its_terms(weights):
    u, w, v = weights
    s = drawn(4, 3, 2)
    made = cost(square=u, first=w, critic=v)
    torch.testing.assert_close(made.intrinsic(s), u * square(s) + w * first(s))
    torch.testing.assert_close(made.trainable(s), v * mean(s))
    torch.testing.assert_close(made(s), u * square(s) + w * first(s) + v * mean(s))
    terms = made.terms(s)
    assert list(terms) == ["square", "first", "critic"]
    torch.testing.assert_close(sum(terms.values()), made(s))


def test_weights_are_1_and_change_when_told():
    made = cost()
    assert made.weights == {"square": 1, "first": 1, "critic": 1}
    made.weigh({"first": 0.25})
    assert made.weights == {"square": 1, "first": 0.25, "critic": 1}
    torch.testing.assert_close(made.terms(drawn(2))["first"], 0.25 * first(drawn(2)))


def test_a_cost_without_a_critic_has_no_trainable_part():
    s = drawn(5, 2)
    assert torch.equal(Cost({"square": square}).trainable(s), torch.zeros(5, dtype=F64))
    assert torch.equal(Cost({"square": square})(s), square(s))


def test_what_is_switched_off_is_not_computed():
    def broken(s):
        raise AssertionError

    made = Cost({"square": square, "broken": broken}, weights={"broken": 0})
    assert torch.equal(made(drawn(3, 2)), square(drawn(3, 2)))
    assert torch.equal(made.terms(drawn(3, 2))["broken"], torch.zeros(3, dtype=F64))


def test_slopes_are_the_weighted_sum_of_slopes():
    s = drawn(3, 2).requires_grad_()
    (slope,) = torch.autograd.grad(cost(square=0.5, first=2.0, critic=4.0)(s).sum(), s)
    torch.testing.assert_close(slope, s.detach() + 2 * torch.tensor([1.0, 0.0]) * first(s.detach())[:, None] + 2)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: Cost({}), "at least one"),
        (lambda: Cost({"a": square}, {"a": square}), "twice"),
        (lambda: cost(hunger=1.0), "got 'hunger'"),
        (lambda: cost(first=-1.0), "at least 0"),
        (lambda: cost(first=math.nan), "at least 0"),
        (lambda: cost(first=math.inf), "at least 0"),
        (lambda: Cost({"a": lambda s: s})(torch.zeros(3, 2)), "'a' must give"),
    ],
)
def test_cost_refuses(call, told):
    with pytest.raises(ValueError, match=told):
        call()


def test_a_refused_change_changes_nothing():
    made = cost()
    with pytest.raises(ValueError, match="got 'hunger'"):
        made.weigh({"first": 3.0, "hunger": 1.0})
    assert made.weights["first"] == 1


# ---- plans


def world(s, a):
    return 0.9 * s + a


def test_a_plan_costs_its_discomfort_and_what_the_critic_says_of_its_end():
    made, w = cost(first=0.5, critic=3.0), torch.tensor([0.2, 0.3, 1.5], dtype=F64)
    s, actions = drawn(4, 2), drawn(6, 4, 3, 2, seed=1)
    ahead = rollout(world, s, actions)
    expected = sum(w[t] * (square(ahead[..., t + 1, :]) + 0.5 * first(ahead[..., t + 1, :])) for t in range(3))
    torch.testing.assert_close(plan_energy(world, made, w)(s)(actions), expected + 3 * mean(ahead[..., 3, :]))


def test_weights_count_that_the_cost_has_when_it_is_asked():
    made = cost()
    energy = plan_energy(world, made, torch.ones(2, dtype=F64))(drawn(2))
    made.weigh({"square": 0.0, "first": 0.0, "critic": 0.0})
    assert energy(drawn(2, 2)) == 0


def test_with_the_true_cost_to_go_one_step_ahead_is_as_good_as_all():
    """On a line, with steps of at most 1 and a cost of |s|, the critic knows the sum: a greedy plan is optimal."""
    go = lambda s: (k := s[..., 0].abs().ceil()) * (s[..., 0].abs() - (k - 1) / 2)  # |s| + (|s| − 1) + …
    step, w = (lambda s, a: s + a), torch.ones(1, dtype=F64)
    energy = plan_energy(step, Cost({"now": lambda s: 0 * square(s)}, {"critic": go}), w)(
        torch.tensor([4.5], dtype=F64)
    )
    plan = cem(energy, torch.zeros(1, 1, dtype=F64), spread=1.0, iterations=20, bounds=(-1, 1), generator=seeded())
    assert plan.actions.item() == pytest.approx(-1)
    assert plan.energy.item() == pytest.approx(3.5 + 2.5 + 1.5 + 0.5)


@pytest.mark.parametrize(
    "weights", [torch.ones(2, 2), torch.ones(0), torch.tensor([1.0, -1.0]), torch.tensor([torch.nan])]
)
def test_plan_energy_refuses_weights(weights):
    with pytest.raises(ValueError, match="weights must be"):
        plan_energy(world, cost(), weights)


def test_plan_energy_refuses_plans_of_another_length():
    with pytest.raises(ValueError, match="2 actions"):
        plan_energy(world, cost(), torch.ones(2))(torch.zeros(2))(torch.zeros(3, 2))


# ---- the critic


def test_a_critic_is_a_softplus_at_its_scale():
    critic, s = Critic(3, scale=7.0, generator=seeded()).double(), drawn(4, 5, 3)
    torch.testing.assert_close(critic(s), 7 * (1 + critic.mlp(s)[..., 0].exp()).log())
    assert (critic(100 * s) >= 0).all()
    other = Critic(3, scale=7.0, generator=seeded()).double()
    assert torch.equal(critic(s), other(s))


def test_it_learns_a_chain_s_cost_to_go():
    """From place n of a chain, one step a time to 0, at a cost of 1 a step: the cost-to-go is n."""
    memory = ShortTermMemory(1000)
    for n in range(1, 9):
        places = torch.arange(n, -1, -1).float()
        memory.store(torch.nn.functional.one_hot(places.long(), 9).float(), (places > 0).float())
    critic = Critic(9, scale=8.0, generator=seeded())
    errors = learn_critic(critic, memory.pairs(), steps=600, lr=0.02, generator=seeded())
    torch.testing.assert_close(critic(torch.eye(9))[1:], torch.arange(1, 9).float(), atol=0.15, rtol=0)
    assert errors.shape == (600,)
    assert errors[-50:].mean() < 1e-3


def test_it_learns_a_linear_world_s_quadratic():
    """s ← ρ s with cost |s|²: Σ_k γ^k |ρ^k s|² = |s|² / (1 − γρ²)."""
    rho, gamma, memory = 0.8, 0.9, ShortTermMemory(10_000)
    for start in drawn(60, 2, dtype=torch.float32):
        states = start * rho ** torch.arange(40)[:, None]
        memory.store(states, square(states))
    states, values = memory.pairs(gamma, 30)
    torch.testing.assert_close(values, square(states) / (1 - gamma * rho**2), rtol=1e-4, atol=1e-7)
    critic = Critic(2, generator=seeded())
    learn_critic(critic, Pairs(states, values), steps=800, lr=0.01, generator=seeded())
    s = 0.7 * drawn(100, 2, seed=5, dtype=torch.float32)
    wrong = (critic(s) - square(s) / (1 - gamma * rho**2)).square().mean() / values.var()
    assert wrong < 0.02


def test_where_memories_differ_it_learns_their_mean():
    pairs = Pairs(torch.zeros(400, 1), torch.cat([torch.full((100,), 4.0), torch.zeros(300)]))
    critic = Critic(1, generator=seeded())
    errors = learn_critic(critic, pairs, steps=400, lr=0.02, batch_size=400, generator=seeded())
    assert critic(torch.zeros(1)).item() == pytest.approx(1.0, abs=0.05)
    assert errors[-20:].mean().item() == pytest.approx(1.0, abs=0.1)  # no better than the mean


def test_learning_repeats_under_a_generator():
    pairs = Pairs(drawn(50, 2, dtype=torch.float32), drawn(50, seed=1, dtype=torch.float32))
    run = lambda: learn_critic(Critic(2, generator=seeded()), pairs, steps=5, generator=seeded(3))
    assert torch.equal(run(), run())


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (Pairs(torch.zeros(0, 2), torch.zeros(0)), "N >= 1"),
        (Pairs(torch.zeros(3, 2), torch.zeros(3, 1)), "pairs must"),
        (Pairs(torch.zeros(3), torch.zeros(3)), "pairs must"),
        (Pairs(torch.zeros(3, 2), torch.ones(3)), "all be the same"),
        (Pairs(torch.full((3, 2), torch.nan), torch.arange(3.0)), "states must be finite"),
        (Pairs(torch.zeros(3, 2), torch.tensor([0.0, 1.0, torch.inf])), "values must be finite"),
    ],
)
def test_learning_refuses_pairs(pairs, told):
    with pytest.raises(ValueError, match=told):
        learn_critic(Critic(2), pairs)


def test_learning_refuses_critics_and_numbers():
    pairs = Pairs(torch.zeros(3, 2), torch.arange(3.0))
    with pytest.raises(ValueError, match="parameters"):
        learn_critic(Critic(2).requires_grad_(False), pairs)
    with pytest.raises(ValueError, match="one number"):
        learn_critic(torch.nn.Linear(2, 1), pairs)
    for options in ({"steps": 0}, {"batch_size": 0}, {"lr": 0.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            learn_critic(Critic(2), pairs, **options)
    for options in ({"D": 0}, {"D": 2, "scale": 0.0}):
        with pytest.raises(ValueError, match="must be"):
            Critic(**options)


def test_on_meta_and_in_double_precision():
    made = Cost({"square": square}, {"critic": Critic(2).to("meta")})
    energy = plan_energy(world, made, torch.ones(3, device="meta"))(torch.zeros(4, 2, device="meta"))
    assert energy(torch.zeros(9, 4, 3, 2, device="meta")).shape == (9, 4)
    assert Cost({"square": square}, {"critic": Critic(2).double()})(drawn(3, 2)).dtype == F64


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_as_on_the_processor():
    made = functools.partial(Cost, {"square": square})
    critic, s, a = Critic(2, generator=seeded()).double(), drawn(4, 2), drawn(4, 3, 2, seed=1)
    here = plan_energy(world, made({"critic": critic}), torch.ones(3, dtype=F64))(s)(a).detach()
    there = plan_energy(world, made({"critic": critic.cuda()}), torch.ones(3, dtype=F64, device="cuda"))
    torch.testing.assert_close(there(s.cuda())(a.cuda()).cpu().detach(), here)
