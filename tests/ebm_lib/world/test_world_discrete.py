"""Dynamic programming and tree search: against enumeration, breadth-first search, linear algebra, scipy's Dijkstra."""

import itertools
import math
from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from ebm_lib.world import backup, grid_world, tree_search, value_iteration

F64 = torch.float64
SEEDS = st.integers(0, 10_000)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def close(found, expected, tolerance=1e-9):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), rtol=tolerance, atol=tolerance)


def world(S, A, seed, negative=False):
    generator = seeded(seed)
    costs = torch.rand(S, A, generator=generator, dtype=F64) - (0.5 if negative else 0)
    return costs, torch.randint(S, (S, A), generator=generator)


def random_world(S, A, seed, floor=0.0):
    costs, _ = world(S, A, seed)
    odds = torch.rand(S, A, S, generator=seeded(seed + 1), dtype=F64) + floor
    odds = torch.where(torch.rand(S, A, S, generator=seeded(seed + 2)) < 0.5, odds, floor)
    odds[..., 0] += 1e-3
    return costs, odds / odds.sum(-1, keepdim=True)


def one(index, S):
    return torch.arange(S) == index


def maze(seed, rows=8, columns=9, share=0.3):
    walls = torch.rand(rows, columns, generator=seeded(seed)) < share
    free = (~walls).flatten().nonzero().flatten()
    start, goal = free[torch.randint(len(free), (2,), generator=seeded(seed + 1))].tolist()
    return walls, start, goal


def breadth_first(walls, goal):
    """Steps from each cell to the goal, inf where there is no way."""
    rows, columns = walls.shape
    far = {divmod(goal, columns): 0}
    queue = deque(far)
    while queue:
        r, c = queue.popleft()
        for cell in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)):
            if 0 <= cell[0] < rows and 0 <= cell[1] < columns and not walls[cell] and cell not in far:
                far[cell] = far[r, c] + 1
                queue.append(cell)
    return [far.get(divmod(state, columns), math.inf) for state in range(rows * columns)]


def shortest(costs, transitions, goal=None, start=None):
    """scipy's distances: of all states to the goal, or from the start; of parallel actions the cheapest counts."""
    S, A = costs.shape
    table = torch.full((S, S), math.inf, dtype=F64)
    for s, a in itertools.product(range(S), range(A)):
        table[s, transitions[s, a]] = min(table[s, transitions[s, a]], costs[s, a])
    kept = table.isfinite().nonzero()
    graph = csr_matrix((table[kept[:, 0], kept[:, 1]].numpy(), kept.T.numpy()), shape=(S, S))
    return torch.from_numpy(dijkstra(graph if goal is None else graph.T, indices=start if goal is None else goal))


# ---- dynamic programming


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.floats(0.1, 1.0), SEEDS)
def test_a_horizon_is_the_best_of_all_sequences_of_actions(S, A, H, discount, seed):
    costs, transitions = world(S, A, seed, negative=True)
    final = torch.randn(S, generator=seeded(seed + 1), dtype=F64)
    found = value_iteration(costs, transitions, horizon=H, discount=discount, final=final)
    for start in range(S):
        best = math.inf
        for actions in itertools.product(range(A), repeat=H):
            state, total = start, 0.0
            for t, action in enumerate(actions):
                total += discount**t * costs[state, action].item()
                state = transitions[state, action].item()
            best = min(best, total + discount**H * final[state].item())
        close(found.values[0, start], best)
        state, total = start, 0.0
        for t in range(H):  # and its policy does what it says
            action = found.policy[t, state].item()
            total += discount**t * costs[state, action].item()
            state = transitions[state, action].item()
        close(found.values[0, start], total + discount**H * final[state].item())
    assert torch.equal(found.values[H], final)


def every_policy(costs, transitions, discount, goal=None):
    """The lowest values of all stationary policies, each evaluated by solving for them."""
    S, A = costs.shape
    if not transitions.is_floating_point():
        transitions = torch.nn.functional.one_hot(transitions, S).double()
    keep = torch.ones(S, dtype=F64) if goal is None else (~goal).double()
    found = []
    for policy in itertools.product(range(A), repeat=S):
        chosen = torch.arange(S), torch.tensor(policy)
        odds = keep[:, None] * transitions[chosen]
        values = torch.linalg.solve(torch.eye(S, dtype=F64) - discount * odds, keep * costs[chosen])
        found.append(values)
    return torch.stack(found).amin(0)  # one policy is the best from all states at once


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.floats(0.05, 0.97), st.booleans(), st.booleans(), SEEDS)
def test_discounted_values_are_those_of_the_best_policy(S, A, discount, random, with_goal, seed):
    costs, transitions = random_world(S, A, seed) if random else world(S, A, seed, negative=True)
    goal = one(seed % S, S) if with_goal else None
    found = value_iteration(costs, transitions, discount=discount, goal=goal, tol=1e-10)
    close(found.values, every_policy(costs, transitions, discount, goal), 1e-8)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 4), st.integers(1, 3), SEEDS)
def test_random_ways_to_a_goal_without_discount(S, A, seed):
    costs, transitions = random_world(S, A, seed, floor=0.2)
    goal = one(seed % S, S)
    found = value_iteration(costs + 0.1, transitions, goal=goal, tol=1e-12)
    close(found.values, every_policy(costs + 0.1, transitions, 1.0, goal), 1e-7)


def test_a_coin_that_moves_with_probability_p_takes_1_over_p_throws():
    for p in (1.0, 0.5, 0.1):
        odds = torch.tensor([[[1 - p, p]], [[0.0, 1.0]]], dtype=F64)
        found = value_iteration(torch.ones(2, 1, dtype=F64), odds, goal=one(1, 2), tol=1e-12)
        close(found.values, [1 / p, 0.0], 1e-8)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_values_of_a_grid_are_breadth_first_distances(seed):
    walls, _, goal = maze(seed)
    costs, transitions = grid_world(walls)
    found = value_iteration(costs, transitions, goal=one(goal, walls.numel()))
    expected = torch.tensor(breadth_first(walls, goal))
    assert torch.equal(found.values, expected)
    for state in expected.isfinite().nonzero().flatten().tolist():
        for _ in range(int(expected[state])):
            state = transitions[state, found.policy[state]].item()
        assert state == goal


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(1, 3), SEEDS)
def test_values_of_any_deterministic_world_are_shortest_distances(S, A, seed):
    costs, transitions = world(S, A, seed)
    costs = torch.where(torch.rand(S, A, generator=seeded(seed + 2)) < 0.2, math.inf, costs)
    goal = one(seed % S, S)
    expected = shortest(costs, transitions, seed % S)
    close(value_iteration(costs, transitions, goal=goal).values, expected)


def test_values_are_bellmans_fixed_point_and_the_policy_is_greedy():
    for tables in (world(20, 4, 3), random_world(20, 4, 3)):
        found = value_iteration(*tables, discount=0.9, tol=1e-12)
        q = backup(found.values, *tables, discount=0.9)
        close(q.amin(-1), found.values, 1e-10)
        assert torch.equal(q.argmin(-1), found.policy)


def test_a_depth_limited_tree_with_a_critic_at_its_leaves_is_a_horizon():
    costs, transitions = world(15, 3, 5)
    critic = torch.rand(15, generator=seeded(6), dtype=F64)

    def look(state, depth):
        if depth == 0:
            return critic[state].item()
        return min(costs[state, a].item() + look(transitions[state, a].item(), depth - 1) for a in range(3))

    found = value_iteration(costs, transitions, horizon=4, final=critic)
    close(found.values[0], [look(s, 4) for s in range(15)])
    exact = value_iteration(costs, transitions, goal=one(0, 15))
    short = value_iteration(costs, transitions, goal=one(0, 15), horizon=1, final=exact.values)
    close(short.values[0], exact.values)  # with the right critic one step is enough
    assert torch.equal(short.policy[0], exact.policy)


def test_to_be_at_the_goal_in_time():
    walls = torch.zeros(1, 5, dtype=torch.bool)
    at_goal = torch.where(one(4, 5), 0.0, math.inf)
    found = value_iteration(*grid_world(walls), horizon=3, final=at_goal)
    assert found.values[0].tolist() == [math.inf, 3.0, 3.0, 3.0, 3.0]  # three moves are paid for, come what may


def test_what_cannot_happen_does_not_matter_however_bad():
    odds = torch.tensor([[[0.5, 0.5, 0.0]], [[1.0, 0.0, 0.0]], [[0.0, 0.5, 0.5]]], dtype=F64)
    final = torch.tensor([1.0, 3.0, math.inf], dtype=F64)
    found = value_iteration(torch.ones(3, 1, dtype=F64), odds, horizon=1, final=final)
    assert found.values[0].tolist() == [3.0, 2.0, math.inf]


def test_what_never_settles_is_told():
    cycle = torch.tensor([[1, 2], [0, 2], [2, 2]])
    costs = torch.tensor([[-1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]])
    with pytest.raises(FloatingPointError, match="have not settled after 50 sweeps"):
        value_iteration(costs, cycle, goal=one(2, 3), sweeps=50)
    with pytest.raises(FloatingPointError, match="settled"):
        value_iteration(*world(5, 2, 0), discount=0.999, sweeps=10)


def test_a_discount_near_1_is_not_mistaken_for_settled():
    """Sweeps that change little may still have far to go: what is left is up to γ/(1-γ) times the last change."""
    costs, transitions = torch.ones(1, 1, dtype=F64), torch.zeros(1, 1, dtype=torch.int64)
    found = value_iteration(costs, transitions, discount=0.999, tol=1e-3, sweeps=100_000)
    close(found.values, [1000.0], 1.1e-3)


# ---- the grid


def test_a_grid_moves_up_right_down_left_and_stops_at_walls():
    walls = torch.tensor([[False, True, False], [False, False, False]])
    world = grid_world(walls)
    assert world.transitions.tolist() == [
        [0, 0, 3, 0], [1, 1, 1, 1], [2, 2, 5, 2], [0, 4, 3, 3], [4, 5, 4, 3], [2, 5, 5, 4],
    ]  # fmt: skip
    assert torch.equal(world.costs, torch.ones(6, 4))


# ---- tree search


def check_path(path, costs, transitions, start, goal):
    assert path.states[0] == start
    assert path.states[-1] == goal
    assert torch.equal(transitions[path.states[:-1], path.actions], path.states[1:])
    close(costs[path.states[:-1], path.actions].sum(), path.cost)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_with_a_consistent_guess_the_way_is_shortest_and_the_work_no_more_than_dijkstras(seed):
    walls, start, goal = maze(seed)
    costs, transitions = grid_world(walls)
    costs = costs.double() + torch.rand(costs.shape, generator=seeded(seed + 2))  # at least 1 a step
    expected = shortest(costs, transitions, goal)[start].item()
    columns = walls.shape[1]
    cells = torch.arange(walls.numel())
    manhattan = ((cells // columns - goal // columns).abs() + (cells % columns - goal % columns).abs()).float()
    if math.isinf(expected):
        with pytest.raises(ValueError, match="within reach"):
            tree_search(costs, transitions, start, one(goal, walls.numel()))
        return
    blind, guided = (
        tree_search(costs, transitions, start, one(goal, walls.numel()), heuristic=h) for h in (None, manhattan)
    )
    for path in (blind, guided):
        check_path(path, costs, transitions, start, goal)
        assert path.cost == pytest.approx(expected, rel=1e-6)
        assert len(path.expanded) == len(set(path.expanded.tolist()))  # none twice
    assert len(guided.expanded) <= len(blind.expanded)
    assert set(guided.expanded.tolist()) <= set(blind.expanded.tolist())
    from_start = shortest(costs, transitions, start=start)
    assert (from_start[guided.expanded] + manhattan[guided.expanded] <= expected + 1e-5).all()
    closer = (from_start < expected - 1e-5).nonzero().flatten().tolist()  # Dijkstra's looks at all that is closer
    assert set(closer) <= set(blind.expanded.tolist())


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 25), st.integers(1, 4), SEEDS)
def test_any_guess_that_is_never_too_high_gives_the_shortest_way(S, A, seed):
    costs, transitions = world(S, A, seed)
    costs = torch.where(torch.rand(S, A, generator=seeded(seed + 2)) < 0.2, math.inf, costs)
    goal = seed % S
    exact = shortest(costs, transitions, goal)
    guess = exact * torch.rand(S, generator=seeded(seed + 3), dtype=F64)  # not consistent: states are opened again
    for start in range(S):
        if exact[start] == math.inf:
            with pytest.raises(ValueError, match="within reach"):
                tree_search(costs, transitions, start, one(goal, S), heuristic=guess)
            continue
        path = tree_search(costs, transitions, start, one(goal, S), heuristic=guess)
        check_path(path, costs, transitions, start, goal)
        assert path.cost == pytest.approx(exact[start].item(), rel=1e-9, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_the_right_critic_goes_straight_to_the_goal(seed):
    walls, start, goal = maze(seed)
    tables = grid_world(walls)
    values = value_iteration(*tables, goal=one(goal, walls.numel())).values
    if values[start] < math.inf:
        path = tree_search(*tables, start, one(goal, walls.numel()), heuristic=values)
        assert torch.equal(path.expanded, path.states[:-1])
        assert path.cost == values[start]


def test_a_guess_that_is_too_high_may_miss_the_best_way():
    costs = torch.tensor([[1.0, 3.0], [1.0, math.inf], [0.0, 0.0]], dtype=F64)
    transitions = torch.tensor([[1, 2], [2, 1], [2, 2]])
    assert tree_search(costs, transitions, 0, one(2, 3)).cost == 2
    missed = tree_search(costs, transitions, 0, one(2, 3), heuristic=torch.tensor([0.0, 9.0, 0.0]))
    assert missed.cost == 3
    assert missed.actions.tolist() == [1]
    assert missed.expanded.tolist() == [0]


def test_at_the_goal_there_is_nothing_to_do_and_of_several_goals_the_nearest_counts():
    tables = grid_world(torch.zeros(1, 9, dtype=torch.bool))
    path = tree_search(*tables, 3, one(3, 9))
    assert (len(path.actions), path.states.tolist(), path.cost, len(path.expanded)) == (0, [3], 0.0, 0)
    assert path.actions.dtype == path.expanded.dtype == torch.int64
    assert tree_search(*tables, 3, one(0, 9) | one(5, 9)).states.tolist() == [3, 4, 5]


# ---- contract


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_dtype_and_device_follow_the_tables(dtype):
    for costs, transitions in (world(5, 2, 0), random_world(5, 2, 0)):
        costs, goal = costs.to(dtype), one(0, 5)
        odds = transitions.to(dtype) if transitions.is_floating_point() else transitions
        for device in ("cpu", "meta"):
            tables = costs.to(device), odds.to(device)
            for options in ({"horizon": 3, "final": torch.zeros(5)}, {"discount": 0.9, "goal": goal.to(device)}):
                options = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
                found = value_iteration(*tables, **options)
                lead = (4, 3) if "horizon" in options else ((), ())
                assert found.values.shape == (*((lead[0],) if lead[0] else ()), 5)
                assert (found.values.dtype, found.values.device.type) == (dtype, device)
                assert (found.policy.dtype, found.policy.device.type) == (torch.int64, device)
    assert grid_world(torch.zeros(2, 3, dtype=torch.bool, device="meta")).costs.device.type == "meta"


def test_half_precision_settles_too():
    found = value_iteration(torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64), discount=0.99)
    close(found.values, [100.0], 1e-3)


COSTS, TRANSITIONS = world(4, 2, 0)
GOAL = one(0, 4)


@pytest.mark.parametrize(("call", "told"), [
    (lambda: value_iteration(COSTS, TRANSITIONS), "never end"),
    (lambda: value_iteration(COSTS, TRANSITIONS, discount=0.0), "discount must be"),
    (lambda: value_iteration(COSTS, TRANSITIONS, discount=1.1), "discount must be"),
    (lambda: value_iteration(COSTS, TRANSITIONS, horizon=0), "horizon"),
    (lambda: value_iteration(COSTS, TRANSITIONS, discount=0.9, final=COSTS[:, 0]), "give the horizon"),
    (lambda: value_iteration(COSTS, TRANSITIONS, horizon=2, final=COSTS), "final must be"),
    (lambda: value_iteration(COSTS, TRANSITIONS, goal=GOAL[:3]), "goal must be boolean"),
    (lambda: value_iteration(COSTS, TRANSITIONS, goal=GOAL.long()), "goal must be boolean"),
    (lambda: value_iteration(COSTS, TRANSITIONS, goal=GOAL, tol=0.0), "tol"),
    (lambda: value_iteration(COSTS[0], TRANSITIONS, goal=GOAL), "costs must be"),
    (lambda: value_iteration(COSTS.long(), TRANSITIONS, goal=GOAL), "costs must be"),
    (lambda: value_iteration(COSTS * math.nan, TRANSITIONS, goal=GOAL), "costs must be finite"),
    (lambda: value_iteration(-COSTS / 0, TRANSITIONS, goal=GOAL), "costs must be finite"),
    (lambda: value_iteration(COSTS, TRANSITIONS + 4, goal=GOAL), "from 0 to 3"),
    (lambda: value_iteration(COSTS, TRANSITIONS - 4, goal=GOAL), "from 0 to 3"),
    (lambda: value_iteration(COSTS, TRANSITIONS[:3], goal=GOAL), "transitions must be"),
    (lambda: value_iteration(COSTS, TRANSITIONS.int(), goal=GOAL), "int64"),
    (lambda: value_iteration(COSTS, TRANSITIONS.double(), goal=GOAL), "probabilities"),
    (lambda: value_iteration(COSTS, torch.full((4, 2, 4), 0.3), goal=GOAL), "sum 1"),
    (lambda: value_iteration(COSTS, torch.tensor([2.0, -1.0, 0, 0]).expand(4, 2, 4), goal=GOAL), "at least 0"),
    (lambda: tree_search(COSTS, torch.full((4, 2, 4), 0.25), 0, GOAL), "no sequence of actions"),
    (lambda: tree_search(COSTS, TRANSITIONS, 4, GOAL), "start must be a state"),
    (lambda: tree_search(COSTS, TRANSITIONS, -1, GOAL), "start must be a state"),
    (lambda: tree_search(COSTS, TRANSITIONS, 1, GOAL[:2]), "goal must be boolean"),
    (lambda: tree_search(-COSTS, TRANSITIONS, 1, GOAL), "costs must be at least 0"),
    (lambda: tree_search(COSTS, TRANSITIONS, 1, GOAL, heuristic=-COSTS[:, 0]), "heuristic must be at least 0"),
    (lambda: tree_search(COSTS, TRANSITIONS, 1, GOAL, heuristic=COSTS), "heuristic must be"),
    (lambda: tree_search(COSTS, TRANSITIONS, 1, GOAL, heuristic=math.nan * COSTS[:, 0]), "heuristic must be finite"),
    (lambda: tree_search(COSTS, TRANSITIONS, 1, GOAL & False), "within reach"),
    (lambda: grid_world(torch.zeros(2, 3)), "boolean map"), (lambda: grid_world(GOAL), "boolean map"),
])  # fmt: skip
def test_bad_input_is_refused(call, told):
    with pytest.raises(ValueError, match=told):
        call()
