"""Trials: an agent is given errands in rooms, and what it reaches is counted."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.require import require_count, require_positive
from ebm_lib.world.episodes import Errands
from ebm_lib.world.rooms import REACH, Rooms, move


class Trials(NamedTuple):
    """What came of N errands.

    Attributes:
        reached: whether the dot came within the radius of its goal, bool, (N,).
        steps: after how many steps; the budget if never, (N,).
        places: where it was, (budget + 1, N, 2); it stays where it arrived.
    """

    reached: Tensor
    steps: Tensor
    places: Tensor


@torch.no_grad()
def run_errands(
    act: Callable[[Tensor, Tensor], Tensor],
    errands: Errands,
    layout: Rooms,
    *,
    budget: int = 100,
    radius: float = REACH,
) -> Trials:
    """Let an agent act until it is there or its steps are used up, each errand in a layout of its own.

    Args:
        act: ``act(places, live)`` returns actions, (n, 2): the errands that go on, their numbers ``live`` (n,) and
            where their dots are, (n, 2). What the agent may see of that, a picture say, is its own affair.
        errands: N of them.
        layout: N of them.
        budget: steps.
        radius: how near to the goal counts as there.

    Returns:
        The trials.

    Raises:
        ValueError: numbers out of range, actions of another shape, errands and layouts of different numbers.

    >>> from ebm_lib.world import draw_layouts
    >>> errands = Errands(torch.tensor([[0.2, 0.5], [0.2, 0.1]]), torch.tensor([[0.8, 0.5], [0.8, 0.1]]))
    >>> trials = run_errands(lambda p, live: errands.goal[live] - p, errands, draw_layouts(2), budget=20)
    >>> trials.reached, trials.steps  # one has the door before it, one the wall
    (tensor([ True, False]), tensor([10, 20]))
    """
    require_count("budget", budget)
    require_positive("radius", radius)
    place, goal = errands
    N = len(place)
    if place.shape != (N, 2) or goal.shape != (N, 2) or layout.walls.shape[:-2] != (N,):
        shapes = f"{tuple(place.shape)}, {tuple(goal.shape)} and {tuple(layout.walls.shape[:-2])}"
        raise ValueError(f"start and goal must be (N, 2) and layout (N,), got shapes {shapes}")
    place = place.clone()
    places, steps = [place.clone()], torch.full((N,), budget, device=place.device)
    reached = (place - goal).norm(dim=-1) < radius
    steps[reached] = 0
    for t in range(budget):
        live = (~reached).nonzero().squeeze(-1)
        if len(live):
            action = act(place[live], live)
            if action.shape != (len(live), 2):
                raise ValueError(f"act must return actions ({len(live)}, 2), got shape {tuple(action.shape)}")
            place[live] = move(place[live], action, layout.at(live))
            there = live[(place[live] - goal[live]).norm(dim=-1) < radius]
            reached[there], steps[there] = True, t + 1
        places.append(place.clone())
    return Trials(reached, steps, torch.stack(places))
