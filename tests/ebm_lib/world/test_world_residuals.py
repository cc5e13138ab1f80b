"""The memory of a model's errors: against sums written out, walls that a model does not know, and agents apart."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_lib.world import ResidualMemory, plan_by_gradient

F64 = torch.float64


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def free(s, a):
    return s + a


def told(errors, model=free, N=1, **options):
    """Return a memory of agents who were each at s_m, did a_m, and came to what the model says, plus an error."""
    memory = ResidualMemory(model, N, **options)
    s, a = drawn(len(errors), N, 2, seed=1), drawn(len(errors), N, 2, seed=2)
    for m, error in enumerate(errors):
        memory.write(torch.arange(N), s[m], a[m], model(s[m], a[m]) + error)
    return memory, s, a


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.floats(0.2, 3), st.floats(0.2, 3))
def test_sums_written_out(M, size, width, reach):
    errors = drawn(M, 1, 2, seed=3)
    memory, s, a = told(errors, size=size, width=width, reach=reach)
    x, u = drawn(2, seed=4), drawn(2, seed=5)
    total, weight = torch.zeros(2, dtype=F64), 0.0
    for m in range(max(0, M - size), M):  # the oldest are forgotten
        far = sum((x - s[m, 0]) ** 2) / width**2 + sum((u - a[m, 0]) ** 2) / reach**2
        k = math.exp(-far / 2)
        total, weight = total + k * errors[m, 0], weight + k
    found = memory.step(torch.tensor([0]))(x[None], u[None])[0]
    torch.testing.assert_close(found, x + u + total / max(1, weight))


def test_what_was_met_is_foretold_and_far_from_it_the_model_is_believed():
    errors = drawn(1, 1, 2, seed=3)
    memory, s, a = told(errors)
    step = memory.step(torch.tensor([0]))
    torch.testing.assert_close(step(s[0], a[0]), s[0] + a[0] + errors[0])
    torch.testing.assert_close(step(s[0] + 40, a[0]), s[0] + 40 + a[0])
    torch.testing.assert_close(step(s[0], a[0] + 40), s[0] + 40 + a[0])


def test_the_same_error_many_times_counts_once():
    memory = ResidualMemory(free, 1)
    s, a, error = drawn(1, 2), drawn(1, 2, seed=1), drawn(1, 2, seed=2)
    for _ in range(5):
        memory.write(torch.tensor([0]), s, a, s + a + error)
    torch.testing.assert_close(memory.step(torch.tensor([0]))(s, a), s + a + error)
    assert memory.written.tolist() == [5]


def test_a_model_that_is_right_is_left_as_it_is():
    memory, s, a = told(torch.zeros(3, 2, 2, dtype=F64), N=2)
    agents = torch.arange(2)
    torch.testing.assert_close(memory.step(agents)(s[1], a[2]), s[1] + a[2])
    assert ResidualMemory(free, 2).step(agents) is free  # nothing was written


def test_each_agent_has_its_own_memory_whatever_the_order_they_are_asked_in():
    memory = ResidualMemory(free, 3)
    here, did = torch.zeros(1, 2, dtype=F64), torch.ones(1, 2, dtype=F64)
    memory.write(torch.tensor([1]), here, did, here)  # agent 1 bumped
    assert memory.written.tolist() == [0, 1, 0]
    for agents in ([0, 1, 2], [2, 1], [1]):
        found = memory.step(torch.tensor(agents))(here.expand(len(agents), 2), did.expand(len(agents), 2))
        assert found[:, 0].tolist() == [0.0 if n == 1 else 1.0 for n in agents]


def test_samples_of_plans_in_front_are_foretold_as_one_by_one():
    memory, _, _ = told(drawn(4, 3, 2, seed=3), N=3)
    step, s, a = memory.step(torch.tensor([2, 0])), drawn(5, 2, 2, seed=6), drawn(5, 2, 2, seed=7)
    torch.testing.assert_close(step(s, a), torch.stack([step(s[k], a[k]) for k in range(5)]))


def test_a_planner_goes_round_a_wall_that_only_the_memory_knows():
    goal, start = torch.tensor([[1.0, 0.0]], dtype=F64), torch.zeros(1, 2, dtype=F64)
    memory = ResidualMemory(free, 1, width=0.5, reach=0.5)
    memory.write(torch.tensor([0]), start, goal, start)  # straight on, nothing moved

    def energy(actions):
        return (memory.step(torch.tensor([0]))(start, actions[:, 0]) - goal).square().sum(-1)

    straight = energy(goal[:, None])
    plan = plan_by_gradient(energy, goal[:, None] + torch.tensor([0.0, 0.1]), steps=100, lr=0.05)
    assert straight.item() == pytest.approx(1.0)
    assert plan.energy.item() < 0.5
    assert torch.isfinite(plan.actions).all()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_dtype_and_device_follow_what_is_written(dtype):
    for device in ("cpu", "meta"):
        memory = ResidualMemory(free, 2, size=3)
        s = torch.zeros(2, 2, dtype=dtype, device=device)
        if device == "cpu":
            memory.write(torch.arange(2), s, s, s + 1)
            assert memory.step(torch.arange(2))(s, s).dtype == dtype
        assert memory.step(torch.arange(2))(s, s).device.type == device


def test_what_is_remembered_is_a_copy_without_a_graph():
    memory, s = ResidualMemory(free, 1), torch.zeros(1, 2, requires_grad=True)
    after = torch.ones(1, 2)
    memory.write(torch.tensor([0]), s, s, after)
    after += 5
    assert memory.step(torch.tensor([0]))(s.detach(), s.detach()).tolist() == [[1.0, 1.0]]
    assert not memory.step(torch.tensor([0]))(s.detach(), s.detach()).requires_grad


@pytest.mark.parametrize(
    ("options", "name"),
    [({"N": 0}, "N"), ({"size": 0}, "size"), ({"width": 0.0}, "width"), ({"reach": math.nan}, "reach")],
)
def test_numbers_out_of_range(options, name):
    with pytest.raises(ValueError, match=name):
        ResidualMemory(free, **({"N": 1} | options))


def test_what_does_not_fit_is_refused_and_nothing_is_remembered():
    memory, one = ResidualMemory(free, 2), torch.tensor([0])
    with pytest.raises(ValueError, match="got shapes"):
        memory.write(one, torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="got shapes"):
        memory.write(one, torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="after"):
        memory.write(one, torch.zeros(1, 2), torch.zeros(1, 2), torch.full((1, 2), math.nan))
    for k, name in enumerate(("state", "action")):
        given = [torch.full((1, 2), math.nan) if j == k else torch.zeros(1, 2) for j in range(3)]
        with pytest.raises(ValueError, match=name):
            memory.write(one, *given)
    with pytest.raises(ValueError, match="error"):
        ResidualMemory(lambda s, a: s / 0, 1).write(one, *torch.zeros(3, 1, 2))
    assert memory.written.tolist() == [0, 0]
