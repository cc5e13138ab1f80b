r"""Planning where states and actions can be counted: dynamic programming and tree search.

A world of S states and A actions is two tables: ``costs`` (S, A), what an action costs in a state, +inf if it cannot
be done; and ``transitions``, where it leads: (S, A) states, or (S, A, S) probabilities.
"""

import heapq
import math
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.require import has_values, require_count, require_finite, require_positive


class FiniteWorld(NamedTuple):
    """A world that is known wholly.

    Attributes:
        costs: (S, A).
        transitions: (S, A) int64, or (S, A, S) probabilities.
    """

    costs: Tensor
    transitions: Tensor


def grid_world(walls: Tensor) -> FiniteWorld:
    """Make a world of a map: four moves, each of cost 1; one into a wall or the border stays where it is.

    Args:
        walls: (rows, columns) boolean. The state of a cell is row · columns + column.

    Returns:
        A FiniteWorld with the actions up, right, down, left; costs in torch's default dtype.

    Raises:
        ValueError: not a boolean map.

    >>> grid_world(torch.tensor([[False, False, True]])).transitions[0]
    tensor([0, 1, 0, 0])
    """
    if walls.dtype != torch.bool or walls.ndim != 2 or walls.numel() == 0:
        raise ValueError(f"walls must be a boolean map (rows, columns), got {walls.dtype} of {tuple(walls.shape)}")
    rows, columns = walls.shape
    here = torch.arange(walls.numel(), device=walls.device)
    row, column = here // columns, here % columns
    moves = []
    for down, right in ((-1, 0), (0, 1), (1, 0), (0, -1)):
        to = (row + down).clamp(0, rows - 1) * columns + (column + right).clamp(0, columns - 1)
        moves.append(torch.where(walls.flatten()[to] | walls.flatten(), here, to))
    return FiniteWorld(torch.ones(walls.numel(), 4, device=walls.device), torch.stack(moves, -1))


class Values(NamedTuple):
    """What is still to pay from each state, and what to do there.

    Attributes:
        values: (S,); with a horizon (H + 1, S), by time.
        policy: the best action, the first among equals, (S,) int64; with a horizon (H, S).
    """

    values: Tensor
    policy: Tensor


def backup(values: Tensor, costs: Tensor, transitions: Tensor, *, discount: float = 1.0) -> Tensor:
    r"""What each action costs if all goes well afterwards: one step of Bellman's.

    .. math:: Q(s, a) = c(s, a) + \gamma \sum_{s'} p(s' \mid s, a)\, V(s')

    Args:
        values: V, (S,).
        costs: (S, A).
        transitions: (S, A), or probabilities (S, A, S).
        discount: γ.

    Returns:
        Q, (S, A). Nothing is checked.

    >>> backup(torch.tensor([0.0, 5.0]), torch.ones(2, 2), torch.tensor([[0, 1], [0, 1]]))
    tensor([[1., 6.],
            [1., 6.]])
    """
    if not transitions.is_floating_point():
        return costs + discount * values[transitions]
    return costs + discount * torch.where(transitions > 0, transitions * values, 0.0).sum(-1)  # 0 · inf is 0 here


def value_iteration(
    costs: Tensor,
    transitions: Tensor,
    *,
    goal: Tensor | None = None,
    discount: float = 1.0,
    horizon: int | None = None,
    final: Tensor | None = None,
    tol: float = 1e-6,
    sweeps: int = 10_000,
) -> Values:
    r"""Plan by dynamic programming: from the end backwards, for all states at once.

    .. math:: V(s) = \min_a \Big[ c(s, a) + \gamma \sum_{s'} p(s' \mid s, a)\, V(s') \Big], \qquad V(\text{goal}) = 0

    With a horizon, H steps of it, exact. Without, as many as it takes: until the rest of the way is shorter than
    ``tol``. On the way to a goal in a deterministic world that is exact after at most S sweeps (Bellman and Ford), and
    states without a way there keep +inf. With ``final`` a critic's values, a horizon of H is the search of the whole
    tree of depth H with the critic at its leaves, without visiting a state twice.

    Args:
        costs: (S, A), +inf where an action cannot be done.
        transitions: (S, A) int64, or probabilities (S, A, S).
        goal: (S,) boolean, where nothing more is to pay.
        discount: γ in (0, 1]; below 1 without a goal, unless there is a horizon.
        horizon: H, how many actions; None for no end.
        final: V at the end of the horizon, (S,); 0 if None.
        tol: largest error left, relative to the largest value (or 1), without a horizon.
        sweeps: at most so many.

    Returns:
        The Values.

    Raises:
        ValueError: tables that do not fit, NaN, a discount out of range, or nothing that ends the sum.
        FloatingPointError: not settled after so many sweeps (a way around that costs nothing or less, γ near 1).

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Mode-1
    Perception-Action Cycle" ("dynamic programming"); Bellman, Dynamic Programming (1957).

    >>> goal = torch.tensor([False, False, False, True])
    >>> value_iteration(*grid_world(torch.zeros(1, 4, dtype=torch.bool)), goal=goal)
    Values(values=tensor([3., 2., 1., 0.]), policy=tensor([1, 1, 1, 0]))
    """
    S = _require_world(costs, transitions)
    if goal is not None and (goal.dtype != torch.bool or goal.shape != (S,)):
        raise ValueError(f"goal must be boolean of shape ({S},), got {goal.dtype} of shape {tuple(goal.shape)}")
    if not 0 < discount <= 1:
        raise ValueError(f"discount must be in (0, 1], got {discount}")
    if horizon is None and final is not None:
        raise ValueError("final is what the end of a horizon costs: give the horizon too")
    if horizon is None and goal is None and discount == 1:
        raise ValueError("without a horizon, a goal or a discount below 1, the costs never end")

    def sweep(values: Tensor) -> tuple[Tensor, Tensor]:
        best, policy = backup(values, costs, transitions, discount=discount).min(-1)
        return best if goal is None else torch.where(goal, 0.0, best), policy

    values = costs.new_zeros(S)
    if horizon is not None:
        if final is not None:
            values = _require_table("final", final, (S,)).to(costs)
        path, policies = [values], []
        for _ in range(require_count("horizon", horizon)):
            values, policy = sweep(path[-1])
            path.append(values)
            policies.append(policy)
        return Values(torch.stack(path[::-1]), torch.stack(policies[::-1]))
    require_positive("tol", tol)
    exact = goal is not None and discount == 1 and not transitions.is_floating_point()
    if exact:  # from above: a state without a way to the goal is never reached by anything finite
        values = torch.where(goal, 0.0, torch.full_like(values, math.inf))
    for _ in range(require_count("sweeps", sweeps)):
        before, (values, policy) = values, sweep(values)
        if not has_values(values):
            return Values(values, policy)
        change = torch.where(values == before, 0.0, (values - before).abs()).max().item()
        scale = values[values.isfinite()].abs().max().clamp(min=1).item() if values.isfinite().any() else 1.0
        left = change * (discount / (1 - discount) if discount < 1 else 1)
        if change == 0 or (left <= tol * scale and not exact):
            return Values(values, sweep(values)[1])
    raise FloatingPointError(f"values have not settled after {sweeps} sweeps: the last one changed one by {change:.3g}")


class Path(NamedTuple):
    """A way to the goal, and what it took to find it.

    Attributes:
        actions: (T,) int64.
        states: (T + 1,) int64, start and goal among them.
        cost: of the whole way.
        expanded: the states whose actions were looked at, in order, (N,) int64; N is the work done.
    """

    actions: Tensor
    states: Tensor
    cost: float
    expanded: Tensor


def tree_search(
    costs: Tensor, transitions: Tensor, start: int, goal: Tensor, *, heuristic: Tensor | None = None
) -> Path:
    r"""Plan by tree search, the most promising branch first (A*).

    .. math:: \text{expand the open state with the lowest}\quad f(s) = g(s) + h(s)

    with g the cost of the best way found to s and h a guess of what is still to pay: a critic. Dynamic programming
    looks at all states, the search only at those that might lie on a better way. If h never overestimates, the way is
    the cheapest; if h also never falls by more than an action costs, no state is expanded twice, and none but ties that
    the search without a guess (Dijkstra's) would spare. A guess that is too high saves work and may miss the best way.

    Args:
        costs: (S, A), at least 0, +inf where an action cannot be done.
        transitions: (S, A) int64.
        start: a state.
        goal: (S,) boolean.
        heuristic: h, (S,), at least 0, +inf for states to leave alone; 0 if None, which is Dijkstra's algorithm.

    Returns:
        A Path.

    Raises:
        ValueError: tables that do not fit, negative costs or guesses, random transitions, or no way to the goal.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Mode-1
    Perception-Action Cycle" ("tree search"); Hart, Nilsson and Raphael, A Formal Basis for the Heuristic
    Determination of Minimum Cost Paths (IEEE Transactions on Systems Science and Cybernetics 4, 1968).

    >>> world, goal = grid_world(torch.zeros(1, 7, dtype=torch.bool)), torch.arange(7) == 5
    >>> blind, guided = (tree_search(*world, 3, goal, heuristic=h) for h in (None, (torch.arange(7) - 5.0).abs()))
    >>> guided.actions, len(blind.expanded), len(guided.expanded)
    (tensor([1, 1]), 4, 2)
    """
    S = _require_world(costs, transitions)
    if transitions.is_floating_point():
        raise ValueError("transitions must be (S, A) states: the way through a random world is no sequence of actions")
    if goal.dtype != torch.bool or goal.shape != (S,):
        raise ValueError(f"goal must be boolean of shape ({S},), got {goal.dtype} of shape {tuple(goal.shape)}")
    if not 0 <= start < S:
        raise ValueError(f"start must be a state from 0 to {S - 1}, got {start}")
    guess = torch.zeros(S) if heuristic is None else _require_table("heuristic", heuristic, (S,))
    for name, table in (("costs", costs), ("heuristic", guess)):
        if (table < 0).any():
            raise ValueError(f"{name} must be at least 0, got {table.min().item()}")
    price, lead, ends, h = costs.tolist(), transitions.tolist(), goal.tolist(), guess.tolist()
    reached: dict[int, float] = {start: 0.0}
    origin: dict[int, tuple[int, int]] = {}
    queue, expanded = [(h[start], 0.0, start)], []
    while queue:
        _, minus_g, state = heapq.heappop(queue)  # among equals the one that has come furthest
        g = -minus_g
        if g > reached[state]:
            continue  # a better way to it was found since
        if ends[state]:
            states, actions = [state], []
            while states[-1] != start:
                before, action = origin[states[-1]]
                states.append(before)
                actions.append(action)
            chain, way, order = (
                torch.tensor(part, dtype=torch.int64, device=costs.device)
                for part in (actions[::-1], states[::-1], expanded)
            )
            return Path(chain, way, g, order)
        expanded.append(state)
        for action, (cost, ahead) in enumerate(zip(price[state], lead[state], strict=True)):
            if g + cost + h[ahead] < math.inf and g + cost < reached.get(ahead, math.inf):
                reached[ahead], origin[ahead] = g + cost, (state, action)
                heapq.heappush(queue, (g + cost + h[ahead], -(g + cost), ahead))
    raise ValueError(f"goal must be within reach: no way leads there from state {start}")


def _require_table(name: str, table: Tensor, shape: tuple[int, ...]) -> Tensor:
    if table.shape != shape or not table.is_floating_point():
        raise ValueError(f"{name} must be {shape} floating point, got {table.dtype} of shape {tuple(table.shape)}")
    return require_finite(name, table, allow_posinf=True)


def _require_world(costs: Tensor, transitions: Tensor) -> int:
    if costs.ndim != 2 or costs.numel() == 0:
        raise ValueError(f"costs must be (S, A), got shape {tuple(costs.shape)}")
    S, A = costs.shape
    _require_table("costs", costs, (S, A))
    if transitions.is_floating_point():
        if transitions.shape != (S, A, S):
            raise ValueError(f"transitions must be probabilities ({S}, {A}, {S}), got {tuple(transitions.shape)}")
        if has_values(transitions):
            sums = transitions.sum(-1)
            if not (transitions >= 0).all() or not torch.allclose(sums, torch.ones_like(sums), atol=1e-5):
                raise ValueError("transitions must be probabilities: at least 0, with sum 1 over the states to come")
    elif transitions.shape != (S, A) or transitions.dtype != torch.int64:
        got = f"{transitions.dtype} of shape {tuple(transitions.shape)}"
        raise ValueError(f"transitions must be ({S}, {A}) int64 or ({S}, {A}, {S}) probabilities, got {got}")
    elif has_values(transitions) and not ((transitions >= 0) & (transitions < S)).all():
        raise ValueError(f"transitions must lead to states from 0 to {S - 1}")
    return S
