"""Replanning, or model-predictive control: plan far, act once, look, and plan again."""

from collections.abc import Callable

import torch
from torch import Tensor

from ebm_lib.energy import Energy
from ebm_lib.require import require_choice
from ebm_lib.world.planning import Plan


def shift(actions: Tensor, fill: str = "repeat") -> Tensor:
    """Move a plan on by one step: the first action is done, and the end of the horizon is new.

    Args:
        actions: (..., H, A).
        fill: the new last action: "repeat" the last one, or "zero".

    Raises:
        ValueError: an unknown fill.

    >>> shift(torch.tensor([[1.0], [2.0], [3.0]])).squeeze(-1)
    tensor([2., 3., 3.])
    """
    require_choice("fill", fill, ("repeat", "zero"))
    last = actions[..., -1:, :]
    return torch.cat([actions[..., 1:, :], last if fill == "repeat" else torch.zeros_like(last)], -2)


class Replanner:
    """Model-predictive control: plan, do the first action only, see what comes of it, plan again.

    What is left of the last plan is where the next search starts. A batch of worlds is controlled at once, one plan
    each: whatever goes for a plan's leading dimensions goes for the states'.

    Args:
        plan: a planner, from an energy and a start to a Plan: ``functools.partial(cem, spread=0.5)``, for one.
        energy: gives the energy of plans from a state, as :func:`ebm_lib.world.trajectory_energy` does.
        start: the plan to start from in a new episode, (..., H, A).
        fill: how the horizon's end is filled, as in :func:`shift`.

    Attributes:
        actions: where the next search will start, (..., H, A).
        last: the last Plan that was found, or None.

    Raises:
        ValueError: an unknown fill; when acting, a plan of another shape than ``start``.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), the
    slide on Mode-2 ("Akin to Model-Predictive Control").

    >>> from functools import partial
    >>> from ebm_lib.world import plan_by_gradient, trajectory_energy
    >>> world = lambda s, a: s + a
    >>> energy = trajectory_energy(world, lambda s, a: (s - 1).square().sum(-1), lambda s: (s - 1).square().sum(-1))
    >>> agent = Replanner(partial(plan_by_gradient, bounds=(-0.4, 0.4)), energy, torch.zeros(5, 1))
    >>> state = torch.zeros(1)
    >>> for _ in range(4):
    ...     state = world(state, agent.act(state))
    >>> state.round(decimals=2)
    tensor([1.])
    """

    def __init__(
        self,
        plan: Callable[[Energy, Tensor], Plan],
        energy: Callable[[Tensor], Energy],
        start: Tensor,
        *,
        fill: str = "repeat",
    ) -> None:
        self.plan, self.energy, self.start = plan, energy, start
        self.fill = require_choice("fill", fill, ("repeat", "zero"))
        self.reset()

    def act(self, state: Tensor) -> Tensor:
        """Plan from ``state`` (..., D) and return the first action, (..., A)."""
        self.last = self.plan(self.energy(state), self.actions)
        if self.last.actions.shape != self.start.shape:
            shapes = f"{tuple(self.start.shape)}, got {tuple(self.last.actions.shape)}"
            raise ValueError(f"plan must find actions of the start's shape {shapes}")
        self.actions = shift(self.last.actions, self.fill)
        return self.last.actions[..., 0, :]

    def reset(self, which: Tensor | None = None) -> None:
        """Begin new episodes: in all worlds, or in those where ``which`` (...) is true."""
        if which is None:
            self.actions, self.last = self.start, None
            return
        if which.dtype != torch.bool or which.shape != self.start.shape[:-2]:
            got = f"{which.dtype} of shape {tuple(which.shape)}"
            raise ValueError(f"which must be boolean of shape {tuple(self.start.shape[:-2])}, got {got}")
        self.actions = torch.where(which[..., None, None], self.start, self.actions)
