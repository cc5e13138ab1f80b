"""Two levels of planning: the tree against enumeration, what it costs, and worlds whose best way is known."""

from functools import partial

import pytest
import torch

from ebm_lib.world import Plan, TwoLevels, cem, move, sample_tree, two_rooms
from ebm_lib.world.rooms import REACH


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def steps(s, z):
    return s + z


def corners(s, n, generator):
    """All four steps on a grid, in order: what is drawn leaves nothing to chance."""
    ways = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=s.dtype, device=s.device)
    return ways[torch.arange(n, device=s.device) % 4].expand(*s.shape[:-1], n, 2)


def nothing(s, n, generator):
    return s.new_zeros(*s.shape[:-1], n, 1)


def away_from(goal):
    return lambda s: (s - goal).abs().sum(-1)


GRID = {"depth": 6, "width": 40, "branches": 4, "apart": 0.5}


def around_a_wall(s, z):
    """A step on the grid, unless it leads through the wall at x = 1, which is open at y = 3 only."""
    ahead = s + z
    shut = ((ahead[..., 0] - 1).abs() < 0.1) & ((ahead[..., 1] - 3).abs() > 0.1)
    return torch.where(shut[..., None], s, ahead)


class TestSampleTree:
    def test_finds_the_shortest_way_on_a_grid(self):
        goal = torch.tensor([[2.0, 1.0], [-3.0, 0.0], [0.0, 5.0]])
        plan = sample_tree(steps, away_from(goal), torch.zeros(3, 2), corners, **GRID, price=0.1)
        assert plan.length.tolist() == [3, 3, 5]
        assert torch.equal(plan.states[-1], goal)
        assert torch.allclose(plan.energy, 0.1 * plan.length)

    def test_goes_around_a_wall_where_every_step_towards_the_goal_is_shut(self):
        goal = torch.tensor([2.0, 0.0])
        plan = sample_tree(around_a_wall, away_from(goal), torch.zeros(2), corners, **GRID | {"depth": 8}, price=0.01)
        assert int(plan.length) == 8
        assert torch.equal(plan.states[-1], goal)
        assert bool((plan.states == torch.tensor([1.0, 3.0])).all(-1).any())

    def test_keeping_the_best_alone_is_stuck_behind_the_wall(self):
        tree = GRID | {"depth": 8, "width": 1}
        plan = sample_tree(around_a_wall, away_from(torch.tensor([2.0, -0.2])), torch.zeros(2), corners, **tree)
        assert plan.energy > 1

    def test_states_are_the_way_from_the_start_step_by_step(self):
        plan = sample_tree(steps, away_from(torch.tensor([2.0, 1.0])), torch.zeros(2), corners, **GRID, price=0.1)
        way = torch.cat([torch.zeros(1, 2), plan.states])
        assert (way[1:] - way[:-1]).abs().sum(-1).tolist() == [1, 1, 1, 0, 0, 0]

    def test_parents_are_one_step_of_the_model_away(self):
        plan = sample_tree(steps, away_from(torch.ones(5, 2)), torch.zeros(5, 2), corners, **GRID)
        gap = (plan.tried - plan.tried.take_along_dim(plan.parent[..., None], 0)).abs().sum(-1)
        assert (gap[1:][plan.kept[1:]] == 1).all()

    def test_states_kept_are_apart_and_none_is_missing(self):
        plan = sample_tree(steps, away_from(torch.ones(2)), torch.zeros(2), corners, **GRID | {"depth": 3, "width": 12})
        kept = plan.tried[plan.kept]
        away = torch.cdist(kept, kept) / 2**0.5 + torch.eye(len(kept))
        assert away.min() >= 0.5
        assert len(kept) == 1 + 4 + 8 + 12  # the grid's rings around the start

    def test_length_is_0_where_nothing_is_better_than_the_start(self):
        plan = sample_tree(steps, away_from(torch.zeros(2)), torch.zeros(2), corners, **GRID, price=0.1)
        assert int(plan.length) == 0
        assert plan.energy == 0
        assert (plan.states == 0).all()

    def test_a_price_makes_it_stop_earlier(self):
        goal = torch.tensor([0.0, 3.0])
        cheap, dear = (
            sample_tree(steps, away_from(goal), torch.zeros(2), corners, **GRID, price=price) for price in (0.5, 1.5)
        )
        assert (int(cheap.length), int(dear.length)) == (3, 0)

    @pytest.mark.parametrize(("depth", "width", "branches"), [(1, 5, 7), (4, 3, 6), (6, 1, 2)])
    def test_evaluations_are_as_the_docstring_says(self, depth, width, branches):
        rows = []

        def counted(s, z):
            rows.append((s + z)[..., 0].numel())
            return s + z

        def drawn(s, n, generator):
            return torch.randn(*s.shape[:-1], n, 2, generator=generator)

        tree = {"depth": depth, "width": width, "branches": branches, "apart": 1e-3, "generator": seeded()}
        sample_tree(counted, away_from(torch.ones(2)), torch.zeros(5, 2), drawn, **tree)
        assert sum(rows) == 5 * branches * (1 + width * (depth - 1))

    def test_a_batch_is_its_members(self):
        goal = torch.tensor([[2.0, 1.0], [-3.0, 0.0]])
        both = sample_tree(around_a_wall, away_from(goal), torch.zeros(2, 2), corners, **GRID, price=0.1)
        for k in range(2):
            one = sample_tree(around_a_wall, away_from(goal[k]), torch.zeros(2), corners, **GRID, price=0.1)
            assert torch.equal(both.states[:, k], one.states)
            assert both.energy[k] == one.energy

    def test_same_generator_same_plan_and_another_one_another(self):
        def drawn(s, n, generator):
            return torch.randn(*s.shape[:-1], n, 2, generator=generator)

        plans = [
            sample_tree(steps, away_from(torch.ones(2)), torch.zeros(2), drawn, **GRID, generator=seeded(seed)).states
            for seed in (0, 0, 1)
        ]
        assert torch.equal(plans[0], plans[1])
        assert not torch.equal(plans[0], plans[2])

    def test_follows_dtype_and_device(self):
        plan = sample_tree(steps, away_from(torch.ones(2).double()), torch.zeros(2).double(), corners, **GRID)
        assert plan.states.dtype == plan.energy.dtype == torch.float64
        meta = sample_tree(
            steps, away_from(torch.ones(2, device="meta")), torch.zeros(3, 2, device="meta"), corners, **GRID
        )
        assert meta.states.shape == (6, 3, 2)
        assert meta.states.is_meta

    def test_without_anything_drawn_there_is_nothing_to_choose(self):
        plan = sample_tree(lambda s, z: s + 0.6 + 0 * z, away_from(-torch.ones(2)), torch.zeros(2), nothing, **GRID)
        assert int(plan.length) == 0
        assert int(plan.kept.sum()) == 7

    def test_what_was_not_kept_does_not_keep_others_away(self):
        def ways(s, n, generator):
            return torch.tensor([0.3, 1.0, -0.5])[:, None].expand(*s.shape[:-1], 3, 1)

        tree = {"depth": 2, "width": 6, "branches": 3, "apart": 0.4}
        plan = sample_tree(steps, away_from(torch.ones(1)), torch.zeros(1), ways, **tree)
        kept = plan.tried[plan.kept].squeeze(-1)
        assert 0.3 not in kept.round(decimals=3)  # too near to 0
        assert 0.5 in kept.round(decimals=3)  # far enough from 0 and 1, and near 0.3

    def test_distances_are_roots_of_mean_squares(self):
        for step, kept in ((0.6, 1), (0.8, 2)):  # 0.42 and 0.57 of a coordinate
            plan = sample_tree(lambda s, z, step=step: s + torch.tensor([step, 0.0]) + 0 * z, away_from(torch.ones(2)),
                               torch.zeros(2), nothing, depth=1, width=1, branches=1, apart=0.5)  # fmt: skip
            assert plan.kept.sum() == kept

    def test_latents_are_those_of_the_state_gone_on_from_and_no_graph_is_kept(self):
        def doubled(s, n, generator):
            return s[..., None, :].expand(*s.shape[:-1], n, 1)

        plan = sample_tree(steps, away_from(torch.full((1,), 8.0)), torch.ones(1, requires_grad=True), doubled,
                           depth=3, width=1, branches=1, apart=0.5)  # fmt: skip
        assert plan.states.squeeze(-1).tolist() == [2, 4, 8]
        assert not plan.states.requires_grad
        assert not plan.energy.requires_grad

    def test_at_the_least_distance_is_far_enough(self):
        plan = sample_tree(lambda s, z: s + 1 + 0 * z, away_from(torch.ones(1)), torch.zeros(1), nothing,
                           depth=3, width=1, branches=1, apart=1.0)  # fmt: skip
        assert plan.kept.sum() == 4

    def test_what_was_not_kept_is_not_gone_on_from(self):
        plan = sample_tree(lambda s, z: s + 0.3 + 0 * z, away_from(torch.ones(2)), torch.zeros(2), corners, **GRID)
        assert plan.kept.sum() == 1  # two such steps would be far enough
        assert int(plan.length) == 0

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"depth": 0}, "depth"),
            ({"width": 0}, "width"),
            ({"branches": -1}, "branches"),
            ({"apart": 0.0}, "apart"),
            ({"apart": float("nan")}, "apart"),
            ({"price": -0.1}, "price"),
            ({"price": float("inf")}, "price"),
        ],
    )
    def test_refuses_bad_options(self, change, named):
        with pytest.raises(ValueError, match=named):
            sample_tree(steps, away_from(torch.ones(2)), torch.zeros(2), corners, **GRID | change)

    def test_refuses_bad_states_models_and_energies(self):
        goal = away_from(torch.ones(2))
        with pytest.raises(ValueError, match="s must be"):
            sample_tree(steps, goal, torch.zeros(2, dtype=torch.int64), corners, **GRID)
        with pytest.raises(ValueError, match="s must be"):
            sample_tree(steps, goal, torch.tensor(0.0), corners, **GRID)
        with pytest.raises(ValueError, match="model must"):
            sample_tree(lambda s, z: (s + z)[..., :1], goal, torch.zeros(2), corners, **GRID)
        with pytest.raises(ValueError, match="predicted states"):
            sample_tree(lambda s, z: s + z / 0, goal, torch.zeros(2), corners, **GRID)
        with pytest.raises(ValueError, match="one number per state"):
            sample_tree(steps, lambda s: s, torch.zeros(2), corners, **GRID)
        with pytest.raises(ValueError, match="energy"):
            sample_tree(steps, lambda s: s[..., 0] * torch.nan, torch.zeros(2), corners, **GRID)


def rooms_agent(every=8, close=0.04, N=6, high=None):
    """Two levels in two rooms, whose slow model knows the way: to the door, through it, and to the goal."""
    layout = two_rooms(torch.full((N,), 0.5), torch.linspace(0.2, 0.8, N))
    start = torch.tensor([0.2, 0.85]).expand(N, 2)
    goal = torch.tensor([0.8, 0.85]).expand(N, 2)
    gate = torch.stack([torch.stack([layout.wall + x, layout.door], -1) for x in (-0.08, 0.08)])

    def jump(s, z):
        near = ((gate - s).norm(dim=-1) < 0.05) if s.ndim == 2 else (gate[:, None] - s).norm(dim=-1) < 0.05
        first, second = near[0][..., None], near[1][..., None]
        return torch.where(first, gate[1], torch.where(second, goal, gate[0])) + 0 * z[..., :1]

    def one(s, n, generator):
        return s.new_zeros(*s.shape[:-1], n, 1)

    def energy(s, aim):
        def cost(actions):
            at, total = s, 0
            for k in range(actions.shape[-2]):
                at = move(at, actions[..., k, :], layout)
                total = total + (k + 1) * (at - aim).norm(dim=-1)
            return total

        return cost

    tree = partial(sample_tree, jump, lambda s: (s - goal).norm(dim=-1), sample=one, depth=3, width=1, branches=1,
                   apart=1e-3)  # fmt: skip
    low = partial(cem, spread=2 * REACH, hold=4, samples=32, elites=4, iterations=2, bounds=(-REACH, REACH),
                  generator=seeded())  # fmt: skip
    agent = TwoLevels(high or tree, low, energy, goal, torch.zeros(N, 8, 2), every=every, close=close)
    return agent, layout, start, goal


class TestTwoLevels:
    def test_reaches_what_the_fast_level_alone_does_not(self):
        agent, layout, start, goal = rooms_agent(every=100)
        place = alone = start
        greedy, *_ = rooms_agent(every=100)
        greedy.high = lambda s: agent.macro._replace(length=torch.zeros(len(s), dtype=torch.int64))
        nearest = alone_nearest = (start - goal).norm(dim=-1)
        for _ in range(45):
            place = move(place, agent.act(place), layout)
            alone = move(alone, greedy.act(alone), layout)
            nearest = torch.minimum(nearest, (place - goal).norm(dim=-1))
            alone_nearest = torch.minimum(alone_nearest, (alone - goal).norm(dim=-1))
        assert (nearest < REACH).all()
        assert (alone_nearest > REACH).sum() >= 3

    def test_hands_over_only_what_is_reached_and_plans_every_so_often(self):
        agent, _, start, _ = rooms_agent(every=3)
        planned = []
        inner = agent.high
        agent.high = lambda s: planned.append(1) or inner(s)
        agent.act(start)
        gate = agent.subgoal
        assert torch.equal(gate, agent.macro.states[0])
        agent.act(gate)  # reached
        assert torch.equal(agent.subgoal, agent.macro.states[1])
        agent.act(start)  # not given back
        assert torch.equal(agent.subgoal, agent.macro.states[1])
        assert len(planned) == 1
        agent.act(start)
        assert len(planned) == 2
        assert torch.equal(agent.subgoal, gate)

    def test_goes_for_the_goal_behind_the_last_sub_goal(self):
        agent, _, start, goal = rooms_agent(every=50)
        agent.act(start)
        for m in range(2):
            agent.act(agent.macro.states[m])
        agent.act(agent.macro.states[2])
        assert torch.equal(agent.subgoal, goal)

    def test_goes_for_the_goal_behind_a_plan_that_ends_before_it(self):
        agent, _, start, goal = rooms_agent(every=50)
        agent.act(start)
        agent.macro = agent.macro._replace(length=torch.ones_like(agent.macro.length))
        agent.act(agent.macro.states[0])
        assert torch.equal(agent.subgoal, goal)

    def test_several_that_are_reached_at_once_are_passed(self):
        agent, _, start, _ = rooms_agent(every=50)
        agent.act(start)
        agent.macro.states[1] = agent.macro.states[0] + 1e-3
        agent.act(agent.macro.states[0])
        assert torch.equal(agent.subgoal, agent.macro.states[2])

    def test_one_world_is_not_moved_on_by_another(self):
        agent, _, start, _ = rooms_agent(every=50)
        agent.act(start)
        place = start.clone()
        place[2] = agent.macro.states[0, 2]
        agent.act(place)
        moved = (agent.subgoal != agent.macro.states[0]).any(-1)
        assert moved.tolist() == [k == 2 for k in range(len(start))]

    def test_does_the_first_action_of_its_plan_and_goes_on_from_the_others(self):
        agent, _, start, _ = rooms_agent()
        begun = []
        agent.start = agent.actions = torch.linspace(-0.06, 0.06, 16).view(8, 2).expand(len(start), 8, 2)
        agent.low = lambda energy, actions: begun.append(actions) or Plan(actions, energy(actions), actions, None)
        assert torch.equal(agent.act(start), agent.start[:, 0])
        assert torch.equal(agent.act(start), agent.start[:, 1])
        assert torch.equal(begun[1][:, :-1], agent.start[:, 1:])

    def test_reset_begins_anew(self):
        agent, _, start, _ = rooms_agent(every=50)
        agent.act(start)
        agent.act(agent.macro.states[0])
        agent.reset()
        assert agent.macro is None
        assert agent.actions is agent.start
        agent.act(start)
        assert torch.equal(agent.subgoal, agent.macro.states[0])

    @pytest.mark.parametrize(("change", "named"), [({"every": 0}, "every"), ({"close": -1.0}, "close")])
    def test_refuses_bad_options(self, change, named):
        with pytest.raises(ValueError, match=named):
            rooms_agent(**change)
