"""The agent: on a line where every answer is known, and around a wall that one mode does not pass."""

import functools

import pytest
import torch

from ebm_lib.world import (
    Actor,
    Agent,
    Configurator,
    Cost,
    ShortTermMemory,
    SubGoal,
    cem,
    goal_energy,
    move,
    plan_by_gradient,
    plan_energy,
    rollout,
    two_rooms,
    with_goal,
)

F64 = torch.float64
GRADIENT = functools.partial(plan_by_gradient, bounds=(-0.4, 0.4))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def away(told):
    s, g = told.chunk(2, -1)
    return (s - g).square().sum(-1)


def greedy(told):
    """A policy that goes straight on."""
    s, g = told.chunk(2, -1)
    return (g - s).clamp(-0.4, 0.4)


def at(*place, radius=0.05, **weights):
    return SubGoal(torch.tensor(place, dtype=F64), radius, weights)


def made(task, policy=None, patience=24, cost=None, world=torch.add, H=3):
    actor = Actor(GRADIENT, torch.full((H,), 1 / H, dtype=F64), len(task[0].state), policy=policy)
    cost = cost or Cost({"away": away})
    return Agent(torch.clone, world, cost, actor, ShortTermMemory(500), Configurator(task, patience=patience))


def live(agent, place, steps=60):
    places = [place]
    for _ in range(steps):
        action = agent.act(places[-1])
        if agent.configurator.done:
            break
        places.append(agent.world_model(places[-1], action))
    return torch.stack(places)


# ---- goals in states


def test_goals_pass_through_a_model_and_states_move_as_in_it():
    world = lambda s, a: 0.9 * s + a
    told, actions = torch.randn(5, 4, dtype=F64, generator=seeded()), torch.randn(7, 5, 3, 2, dtype=F64)
    ahead = rollout(with_goal(world, 2), told, actions)
    torch.testing.assert_close(ahead[..., :2], rollout(world, told[..., :2], actions))
    assert torch.equal(ahead[..., 2:], told[:, None, 2:].expand(7, 5, 4, 2))


def test_samples_in_front_broadcast_with_goals():
    step = with_goal(lambda s, a: s + a, 1)
    assert step(torch.zeros(3, 2), torch.ones(9, 3, 1)).shape == (9, 3, 2)


# ---- the configurator


def test_sub_goals_are_taken_in_order_and_the_last_one_stays():
    configurator = Configurator([at(0.0), at(1.0), at(2.0)])
    told = [configurator(torch.tensor([x], dtype=F64), torch.add, None) for x in (0.5, 0.04, 2.0, 0.96, 1.5, 1.97, 0.0)]
    assert [orders.number for orders in told] == [0, 1, 1, 2, 2, 2, 2]
    assert [orders.fresh for orders in told] == [True, True, False, True, False, False, False]
    assert configurator.done
    assert [orders.goal.state.item() for orders in told] == [0, 1, 1, 2, 2, 2, 2]


def test_several_sub_goals_may_be_reached_at_once():
    configurator = Configurator([at(0.0), at(0.01), at(5.0)])
    assert configurator(torch.zeros(1, dtype=F64), torch.add, None).number == 2
    assert not configurator.done
    configurator.reset()
    assert configurator(torch.ones(1, dtype=F64), torch.add, None)[1:3] == (0, True)


def test_reached_is_measured_by_the_root_mean_square():
    there = torch.tensor([0.06, 0.0], dtype=F64)  # 0.06 / √2 = 0.042
    for radius, done in ((0.043, True), (0.042, False)):
        configurator = Configurator([at(0.0, 0.0, radius=radius)])
        configurator(there, torch.add, None)
        assert configurator.done == done


@pytest.mark.parametrize(("patience", "mode"), [(3, 1), (2, 2), (0, 2)])
def test_mode_1_if_the_policy_gets_there_in_so_many_imagined_steps(patience, mode):
    configurator = Configurator([at(1.0)], patience=patience)
    step = with_goal(torch.add, 1)
    assert configurator(torch.zeros(1, dtype=F64), step, greedy).mode == mode


def test_getting_there_on_the_way_is_enough():
    configurator = Configurator([at(1.0)], patience=9)
    onwards = lambda told: torch.full_like(told[..., :1], 0.25)
    assert configurator(torch.zeros(1, dtype=F64), with_goal(torch.add, 1), onwards).mode == 1


# ---- the actor


def test_mode_2_is_the_planner_s_first_action_and_starts_from_what_is_left():
    starts = []

    def search(energy, start):
        starts.append(start)
        return GRADIENT(energy, start)

    actor, cost = Actor(search, torch.full((3,), 1 / 3, dtype=F64), 1), Cost({"away": away})
    step, told = with_goal(torch.add, 1), torch.tensor([0.0, 1.0], dtype=F64)
    action, plan = actor(told, 2, step, cost)
    expected = GRADIENT(plan_energy(step, cost, actor.weights)(told), torch.zeros(3, 1, dtype=F64))
    assert torch.equal(plan.actions, expected.actions)
    assert torch.equal(action, plan.actions[0])
    assert action.item() == pytest.approx(0.4)
    actor(told, 2, step, cost)
    assert torch.equal(starts[1], torch.cat([plan.actions[1:], plan.actions[-1:]]))
    actor.reset()
    actor(told, 2, step, cost)
    assert not starts[2].any()


def test_mode_1_is_the_policy_and_forgets_the_plan():
    actor, step = Actor(GRADIENT, torch.ones(3, dtype=F64), 1, policy=greedy), with_goal(torch.add, 1)
    told = torch.tensor([0.0, 0.3], dtype=F64)
    actor(told, 2, step, Cost({"away": away}))
    assert actor.left.any()
    action, plan = actor(told, 1, step, Cost({"away": away}))
    assert (action.item(), plan) == (pytest.approx(0.3), None)
    assert not actor.left.any()


# ---- the whole


@pytest.mark.parametrize(("policy", "mode"), [(None, 2), (greedy, 1)])
def test_either_mode_does_a_task_of_two_sub_goals(policy, mode):
    agent = made([at(1.0), at(-1.0)], policy)
    places = live(agent, torch.zeros(1, dtype=F64))
    assert agent.configurator.done
    expected = torch.tensor([0.0, 0.4, 0.8, 1.0, 0.6, 0.2, -0.2, -0.6, -1.0], dtype=F64)
    torch.testing.assert_close(places.squeeze(-1), expected, atol=0.051, rtol=0)
    assert {record.mode for record in agent.log} == {mode}
    assert [record.number for record in agent.log] == [0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert all((record.imagined is None) == (mode == 1) for record in agent.log)


def test_the_log_and_the_memory_say_what_happened():
    cost = Cost({"away": away, "left": lambda told: 1 - told[..., 0]}, {"critic": lambda told: told[..., 1] ** 2})
    agent = made([at(1.0, left=0.05), at(0.0, left=0.0)], cost=cost)
    places = live(agent, torch.zeros(1, dtype=F64))
    seen = torch.stack([record.state for record in agent.log])
    torch.testing.assert_close(seen, places)
    first, second = agent.memory.episodes()  # one for each sub-goal
    goals = torch.cat([first.states, second.states])[:, 1]
    assert goals.tolist() == [agent.configurator.task[record.number].state.item() for record in agent.log]
    assert torch.cat([first.states, second.states])[:, :1].equal(places)
    for record, felt in zip(agent.log, torch.cat([first.costs, second.costs]), strict=True):
        assert felt.item() == pytest.approx(record.terms["away"] + record.terms["left"])  # not the critic's guess
        assert (record.terms["left"] == 0) == (record.number == 1 or record.state.item() == 1)
    record = agent.log[0]
    torch.testing.assert_close(record.imagined[:2, 0], places[:2, 0])
    told = torch.cat([record.imagined, torch.ones(4, 1, dtype=F64)], -1)
    value = (away(told[1:]) + 0.05 * (1 - told[1:, 0])).mean() + 1
    assert record.energy == pytest.approx(value.item())


def test_a_new_episode_begins_the_task_anew_and_keeps_the_memory():
    agent = made([at(1.0)])
    live(agent, torch.zeros(1, dtype=F64))
    held = len(agent.memory)
    agent.reset()
    assert not agent.log
    live(agent, torch.zeros(1, dtype=F64))
    assert len(agent.memory) == 2 * held
    assert len(agent.memory.episodes()) == 2


def test_what_is_acted_on_is_what_perception_makes_of_what_is_seen():
    agent = made([at(1.0)])
    agent.perception = lambda x: x.mean((-1, -2))[None]
    assert agent.act(torch.full((4, 4), 0.7, dtype=F64)).item() == pytest.approx(0.3, abs=0.02)


def room_agent(task, policy=None, **options):
    """In two rooms, with places for states."""
    layout = two_rooms(torch.tensor(0.5), torch.tensor(0.5))
    near = lambda told: ((told[..., :2] - told[..., 2:]).norm(dim=-1) / 0.03).log1p()
    search = functools.partial(
        cem, spread=0.12, hold=4, samples=96, elites=8, iterations=3, least_spread=0.02, bounds=(-0.06, 0.06),
        generator=seeded(),
    )  # fmt: skip
    weights = torch.arange(1.0, 21) / torch.arange(1.0, 21).sum()
    actor = Actor(search, weights, 2, policy=policy)
    world = lambda p, a: move(p, a, layout)
    return Agent(torch.clone, world, Cost({"near": near}), actor, ShortTermMemory(500), Configurator(task, **options))


def test_where_the_policy_meets_the_wall_it_plans_and_then_leaves_it_to_the_policy():
    straight = lambda told: (told[..., 2:] - told[..., :2]).clamp(-0.06, 0.06)
    agent = room_agent([SubGoal(torch.tensor([0.8, 0.25]), 0.03)], straight)
    places = live(agent, torch.tensor([0.25, 0.25]))
    modes = [record.mode for record in agent.log]
    assert agent.configurator.done
    assert modes[0] == 2
    assert modes[-1] == 1
    assert modes.count(2) < len(modes)
    assert (places[:, 0] > 0.54).any()


def test_the_same_drives_as_a_goal_s_energy():
    """plan_energy with a drive of log(1 + d / r) in told states is goal_energy in states."""
    world, goal, start = (lambda s, a: s + a), torch.randn(3, 2, dtype=F64), torch.randn(3, 2, dtype=F64)
    near = lambda told: ((told[..., :2] - told[..., 2:]).square().mean(-1).sqrt() / 0.1).log1p()
    weights = torch.arange(1, 6, dtype=F64) / 15
    actions = torch.randn(8, 3, 5, 2, dtype=F64)
    energy = plan_energy(with_goal(world, 2), Cost({"near": near}), weights)(torch.cat([start, goal], -1))
    torch.testing.assert_close(energy(actions), goal_energy(world, goal, 5)(start)(actions))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: Configurator([]), "at least one sub-goal"),
        (lambda: Configurator([at(0.0, radius=0.0)]), "radius"),
        (lambda: Configurator([at(0.0)], patience=-1), "patience"),
        (lambda: made([at(0.0)]).act(torch.zeros(2, dtype=F64)), "sub-goals must"),
        (lambda: made([at(0.0)]).act(torch.zeros(3, 1, dtype=F64)), "one state"),
        (lambda: made([at(0.0)]).act(torch.full((1,), torch.nan, dtype=F64)), "state must be finite"),
        (lambda: made([at(0.0, hunger=1.0)]).act(torch.zeros(1, dtype=F64)), "got 'hunger'"),
        (lambda: made([at(0.0)]).actor(torch.zeros(2), 1, torch.add, None), "mode must"),
        (lambda: made([at(0.0)], greedy).actor(torch.zeros(2), 3, torch.add, None), "mode must"),
    ],
)
def test_refuses(call, told):
    with pytest.raises(ValueError, match=told):
        call()
