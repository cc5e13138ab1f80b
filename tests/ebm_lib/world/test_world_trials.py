"""Errands run all at once against one errand after the other, step by step; who is called when; the contract."""

import math

import pytest
import torch

from ebm_lib.world import Errands, Trials, cross_room, draw_layouts, draw_mazes, is_free, move, run_errands
from ebm_lib.world.rooms import REACH

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def setting(N=12, seed=0, dtype=F64):
    layout = draw_layouts(N, wall=(0.3, 0.7), door=(0.2, 0.8), generator=seeded(seed), dtype=dtype)
    return cross_room(layout, distance=0.3, generator=seeded(seed + 1)), layout


def straight(errands):
    """An agent that goes to its goal as the crow flies."""
    return lambda places, live: errands.goal[live] - places


def guided(errands, layout):
    """An agent that knows of the door: through its middle, then to the goal."""

    def act(places, live):
        wall, door, goal = layout.wall[live], layout.door[live], errands.goal[live]
        side = (goal[:, 0] - wall).sign()
        level = ((places[:, 1] - door).abs() < 0.05) | ((places[:, 0] - wall) * side > 0.05)
        before = torch.stack([torch.where(level, wall + 0.08 * side, wall - 0.08 * side), door], -1)
        through = (places[:, 0] - wall) * side > 0.06
        return torch.where(through[:, None], goal, before) - places

    return act


def alone(act, errands, layout, n, budget, radius):
    """Errand n by itself: whether it arrived, after how many steps, where it was."""
    place, goal = errands.start[n], errands.goal[n]
    places, steps = [place], 0
    while math.dist(place.tolist(), goal.tolist()) > radius and steps < budget:
        place = move(place, act(place[None], torch.tensor([n]))[0], layout.at(n))
        places.append(place)
        steps += 1
    reached = math.dist(place.tolist(), goal.tolist()) <= radius
    return reached, steps if reached else budget, places


# --- against a loop --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("budget", "radius"), [(15, REACH), (40, 0.03), (60, 0.2), (1, 0.3)])
@pytest.mark.parametrize("agent", ["straight", "guided"])
def test_all_at_once_as_one_after_the_other(agent, budget, radius):
    errands, layout = setting(20)
    act = straight(errands) if agent == "straight" else guided(errands, layout)
    trials = run_errands(act, errands, layout, budget=budget, radius=radius)
    assert isinstance(trials, Trials)
    assert trials.reached.shape == trials.steps.shape == (20,)
    assert trials.places.shape == (budget + 1, 20, 2)
    assert (trials.reached.dtype, trials.steps.dtype) == (torch.bool, torch.int64)
    for n in range(20):
        reached, steps, places = alone(act, errands, layout, n, budget, radius)
        assert (bool(trials.reached[n]), int(trials.steps[n])) == (reached, steps)
        torch.testing.assert_close(trials.places[: len(places), n], torch.stack(places))
        stayed = trials.places[len(places) :, n]
        assert torch.equal(stayed, places[-1].expand_as(stayed))


def test_a_guide_arrives_and_the_crow_does_not():
    """The loop above would hold for agents that all fail; here it is known what comes of it."""
    errands, layout = setting(60)
    led = run_errands(guided(errands, layout), errands, layout, budget=80)
    assert led.reached.sum() >= 54
    flown = run_errands(straight(errands), errands, layout, budget=80)
    assert 0 < flown.reached.sum() < 40
    assert (flown.steps[~flown.reached] == 80).all()
    assert is_free(led.places, layout).all()
    ends = (led.places[-1] - errands.goal).norm(dim=-1)
    assert torch.equal(ends <= REACH, led.reached)


def test_in_mazes_too():
    layout = draw_mazes(6, 3, 3, generator=seeded())
    errands = cross_room(layout, generator=seeded(1))
    trials = run_errands(straight(errands), errands, layout, budget=10)
    assert is_free(trials.places, layout).all()
    assert torch.equal(trials.places[0], errands.start)


# --- who is called when ----------------------------------------------------------------------------------------------
def test_those_that_go_on_are_named_in_order_and_none_other():
    errands, layout = setting(15)
    seen = []

    def act(places, live):
        seen.append((live.clone(), places.clone()))
        return guided(errands, layout)(places, live)

    trials = run_errands(act, errands, layout, budget=60)
    assert len(seen) == int(trials.steps.max())  # and not once more
    for t, (live, places) in enumerate(seen):
        assert live.dtype == torch.int64
        assert live.tolist() == [n for n in range(15) if trials.steps[n] > t]
        assert torch.equal(places, trials.places[t, live])


def test_who_is_there_already_does_nothing():
    errands, layout = setting(5)
    start = errands.goal + torch.tensor([0.02, -0.02], dtype=F64)
    mixed = Errands(torch.where(torch.arange(5)[:, None] % 2 == 0, start, errands.start), errands.goal)
    named = []

    def act(places, live):
        named.extend(live.tolist())
        return torch.full_like(places, 0.01)

    trials = run_errands(act, mixed, layout, budget=1)
    assert trials.reached.tolist() == [True, False, True, False, True]
    assert trials.steps.tolist() == [0, 1, 0, 1, 0]
    assert named == [1, 3]
    assert torch.equal(trials.places[:, ::2], mixed.start[::2].expand(2, 3, 2))
    everyone = run_errands(lambda p, live: 1 / 0, Errands(start, errands.goal), layout, budget=7)
    assert everyone.reached.all()
    assert (everyone.steps == 0).all()
    assert everyone.places.shape == (8, 5, 2)


def test_who_arrives_with_the_last_step_has_arrived():
    layout = draw_layouts(1, dtype=F64)
    errands = Errands(torch.tensor([[0.1, 0.1]], dtype=F64), torch.tensor([[0.1, 0.39]], dtype=F64))
    for budget, reached in ((3, False), (4, True), (5, True)):  # 0.29 apart: within 0.06 after 4 steps of 0.06
        trials = run_errands(straight(errands), errands, layout, budget=budget)
        assert (trials.reached.item(), trials.steps.item()) == (reached, min(budget, 4))


def test_once_there_it_is_over_though_the_agent_would_leave():
    """An agent that runs past its goal."""
    layout = draw_layouts(1, dtype=F64)
    errands = Errands(torch.tensor([[0.1, 0.1]], dtype=F64), torch.tensor([[0.1, 0.3]], dtype=F64))
    trials = run_errands(lambda p, live: torch.tensor([[0.0, 0.05]], dtype=F64), errands, layout, budget=12)
    assert (trials.reached.item(), trials.steps.item()) == (True, 3)
    torch.testing.assert_close(trials.places[3:, 0, 1], torch.full((10,), 0.25, dtype=F64))


def test_actions_are_cut_to_what_can_be_reached():
    layout = draw_layouts(1, dtype=F64)
    errands = Errands(torch.tensor([[0.1, 0.1]], dtype=F64), torch.tensor([[0.1, 0.9]], dtype=F64))
    trials = run_errands(straight(errands), errands, layout, budget=5)
    torch.testing.assert_close(trials.places[:, 0, 1], 0.1 + REACH * torch.arange(6, dtype=F64))


def test_defaults_are_a_hundred_steps_and_the_reach():
    layout = draw_layouts(2, dtype=F64)
    start, goal = torch.tensor([[0.1, 0.1]] * 2, dtype=F64), torch.tensor([[0.1, 0.16], [0.1, 0.161]], dtype=F64)
    trials = run_errands(lambda p, live: 0 * p, Errands(start, goal - 1e-9), layout)
    assert trials.reached.tolist() == [True, False]
    assert trials.steps.tolist() == [0, 100]
    assert trials.places.shape == (101, 2, 2)


def test_the_radius_is_a_circle():
    layout = draw_layouts(1, dtype=F64)
    errands = Errands(torch.tensor([[0.2, 0.2]], dtype=F64), torch.tensor([[0.25, 0.25]], dtype=F64))
    for radius, reached in ((0.0708, True), (0.0707, False)):
        found = run_errands(lambda p, live: 0 * p, errands, layout, budget=2, radius=radius)
        assert found.reached.item() is reached


# --- the contract ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_dtype_follows_and_nothing_is_written_into(dtype):
    errands, layout = setting(6, dtype=dtype)
    before = [x.clone() for x in (*errands, layout.walls)]
    trials = run_errands(guided(errands, layout), errands, layout, budget=30)
    assert trials.places.dtype == dtype
    assert all(torch.equal(x, y) for x, y in zip(before, (*errands, layout.walls), strict=True))
    again = run_errands(guided(errands, layout), errands, layout, budget=30)
    assert torch.equal(trials.places, again.places)


def test_an_agent_may_write_into_what_it_is_given():
    errands, layout = setting(6)

    def rude(places, live):
        action = guided(errands, layout)(places, live)
        places.zero_()
        return action

    calm, spoilt = (run_errands(act, errands, layout, budget=30) for act in (guided(errands, layout), rude))
    assert torch.equal(calm.places, spoilt.places)
    assert torch.equal(calm.steps, spoilt.steps)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (dict(budget=0), "budget must"),
        (dict(radius=0.0), "radius must"),
        (dict(radius=-0.1), "radius must"),
        (dict(radius=math.nan), "radius must"),
    ],
)
def test_refuses_numbers_out_of_range(options, told):
    errands, layout = setting(3)
    with pytest.raises(ValueError, match=told):
        run_errands(straight(errands), errands, layout, **options)


def test_refuses_what_does_not_fit():
    errands, layout = setting(4)
    for bad in (lambda p, live: p[:, :1], lambda p, live: p[:-1], lambda p, live: p[0], lambda p, live: p.mT):
        with pytest.raises(ValueError, match="act"):
            run_errands(bad, errands, layout)
    with pytest.raises(ValueError, match="finite"):
        run_errands(lambda p, live: p / 0, errands, layout)
    with pytest.raises(ValueError, match="layout"):
        run_errands(straight(errands), errands, setting(5)[1])
    with pytest.raises(ValueError, match="layout"):
        run_errands(straight(errands), errands, layout.at(0))
    with pytest.raises(ValueError, match="start and goal must"):
        run_errands(straight(errands), Errands(errands.start, errands.goal[:3]), layout)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_as_on_the_processor():
    errands, layout = setting(12)
    here = run_errands(guided(errands, layout), errands, layout, budget=60)
    errands, layout = Errands(*(x.cuda() for x in errands)), type(layout)(*(x.cuda() for x in layout))
    there = run_errands(guided(errands, layout), errands, layout, budget=60)
    for one, other in zip(there, here, strict=True):
        assert one.device.type == "cuda"
        torch.testing.assert_close(one.cpu(), other)
