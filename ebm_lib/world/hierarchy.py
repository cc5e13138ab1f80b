r"""Hierarchical planning: a level that chooses where to be next, and one below that finds the actions to get there.

.. math::

    s^2_{m+1} = \text{Pred}^2(s^2_m, z_m), \quad z_m \sim e^{-R(z)}, \qquad
    \check z = \operatorname{argmin} C(s^2_M) + \lambda M, \qquad
    E^1(a_1, \dots, a_H) = \sum_t w_t\, d\big(s^1_t, \check s^2_1\big)

The slow level's model knows no actions. What its latent variable says is which of the futures that were seen in the
data comes about, and the regulariser says how such latents are distributed: they are drawn, and the plan is the best
way among the futures drawn. Its first state is a sub-goal: a cost for the level below, which may reach it as it likes.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.energy import Energy
from ebm_lib.require import has_values, require_count, require_finite, require_positive
from ebm_lib.world.planning import Plan
from ebm_lib.world.replanning import shift

Model = Callable[[Tensor, Tensor], Tensor]
Sample = Callable[[Tensor, int, torch.Generator | None], Tensor]


class MacroPlan(NamedTuple):
    """Sub-goals on the way, and the tree that they were found in.

    Attributes:
        states: s_1, ..., s_M, the sub-goals in order, (M, ..., D); behind a shorter plan's end its last state again.
        length: how many of them there are, (...) int64; 0 if nothing drawn is better than to stay.
        energy: of the plan, (...).
        tried: all states in the tree, the start first, (n, ..., D).
        parent: which of them each one was predicted from, (n, ...) int64; the start's is 0.
        kept: which of them the search went on from or might have, (n, ...) bool. The others fill up the tensors.
    """

    states: Tensor
    length: Tensor
    energy: Tensor
    tried: Tensor
    parent: Tensor
    kept: Tensor


@torch.no_grad()
def sample_tree(
    model: Model,
    energy: Energy,
    s: Tensor,
    sample: Sample,
    *,
    depth: int,
    width: int,
    branches: int,
    apart: float,
    price: float = 0.0,
    generator: torch.Generator | None = None,
) -> MacroPlan:
    r"""Search a tree of predicted states for the cheapest way, by latents drawn from their regulariser.

    .. math::

        \{s_{m+1}\} = \text{Pred}(s_m, z), \quad z \sim e^{-R(z)}, \qquad
        \check s = \operatorname{argmin}_{s \in \text{tree}} C(s) + \lambda\, m(s)

    From each state kept last, ``branches`` futures are predicted. Of all these, ``width`` at most are kept: the one of
    lowest C first, then the next one that is at least ``apart`` from whatever was kept before, at any depth, and so on.
    What is near a state kept earlier is a longer way to the same place, and a search without this rule spends all it
    has on one spot behind a wall. The model is evaluated ``branches`` · (1 + ``width`` · (``depth`` − 1)) times.

    Args:
        model: Pred, from s (..., D) and z (..., L) to (..., D); leading dimensions broadcast.
        energy: C, from states (..., D) to (...): how far from what is wanted.
        s: the start, (..., D), one search for each of (...). Samples stand in front, (S, ..., D).
        sample: what gives n latents for each state, from s (..., D), n and a generator to (..., n, L): a
            :class:`ebm_lib.jepa.Latent`'s ``sample``.
        depth: steps of the model at most.
        width: states kept at each depth, at most.
        branches: futures predicted from each of them.
        apart: least distance between states kept, as the root of the mean squared difference.
        price: λ ≥ 0 of each step of the model, in units of C.
        generator: for the latents.

    Returns:
        A MacroPlan.

    Raises:
        ValueError: numbers out of range; predictions or energies of the wrong shape or not finite.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Hierarchical
    Planning with Uncertainty" ("Predictors use latent variables sampled from regularizers"); LeCun, A Path Towards
    Autonomous Machine Intelligence (2022). That states kept are to be new follows LaValle and Kuffner,
    Randomized Kinodynamic Planning (International Journal of Robotics Research 20, 2001), whose trees grow to where
    they have not been; the rule is ours.

    >>> def wander(s, n, generator):  # to the left or to the right
    ...     return torch.randn(*s.shape[:-1], n, 1, generator=generator).sign()
    >>> plan = sample_tree(lambda s, z: s + z, lambda s: (s[..., 0] - 3).abs(), torch.zeros(1), wander, depth=4,
    ...                    width=3, branches=6, apart=0.5, generator=torch.Generator().manual_seed(0))
    >>> plan.states.squeeze(-1), int(plan.length)
    (tensor([1., 2., 3., 3.]), 3)
    """
    for name, number in (("depth", depth), ("width", width), ("branches", branches)):
        require_count(name, number)
    require_positive("apart", apart)
    if not 0 <= price < math.inf:
        raise ValueError(f"price must be finite and at least 0, got {price}")
    if s.ndim == 0 or not s.is_floating_point():
        raise ValueError(f"s must be states (..., D), floating point, got shape {tuple(s.shape)} of {s.dtype}")
    lead = s.shape[:-1]
    tried, energies = [s[None]], [_energies(energy, s[None])]
    parent = [torch.zeros(1, *lead, dtype=torch.int64, device=s.device)]
    kept = [torch.ones(1, *lead, dtype=torch.bool, device=s.device)]
    first = 0  # of the states kept last
    for m in range(1, depth + 1):
        grown, alive = tried[-1], kept[-1]
        z = sample(grown, branches, generator).movedim(-2, 0)
        ahead = require_finite("predicted states", model(grown, z))
        if ahead.shape != (branches, *grown.shape):
            shapes = f"{(branches, *tuple(grown.shape))}, got {tuple(ahead.shape)}"
            raise ValueError(f"model must predict states of shape {shapes}")
        source = torch.arange(first, first + len(grown), device=s.device).view(1, -1, *[1] * len(lead))
        ahead, source, alive = (
            part.flatten(0, 1) for part in (ahead, source.expand(ahead.shape[:-1]), alive.expand(ahead.shape[:-1]))
        )
        value = _energies(energy, ahead) + price * m
        gap = _nearest(ahead, torch.cat(tried), torch.cat(kept))
        chosen, fine = [], []
        for _ in range(width):
            allowed = alive & (gap >= apart)
            index = torch.where(allowed, value, torch.inf).argmin(0, keepdim=True)
            chosen.append(index)
            fine.append(allowed.take_along_dim(index, 0))
            gap = torch.minimum(gap, _distance(ahead, ahead.take_along_dim(index[..., None], 0)))
        index = torch.cat(chosen)
        first += len(grown)
        tried.append(ahead.take_along_dim(index[..., None], 0))
        energies.append(value.take_along_dim(index, 0))
        parent.append(source.take_along_dim(index, 0))
        kept.append(torch.cat(fine))
    states, parents, alive = torch.cat(tried), torch.cat(parent), torch.cat(kept)
    lowest, node = torch.where(alive, torch.cat(energies), torch.inf).min(0, keepdim=True)
    return _way(states, parents, alive, node, lowest.squeeze(0), depth)


def _way(states: Tensor, parent: Tensor, kept: Tensor, node: Tensor, energy: Tensor, depth: int) -> MacroPlan:
    """Go back from the best node to the start, (1, ...), and put the way in order."""
    back, steps = [], []
    for _ in range(depth):
        back.append(node)
        steps.append(node != 0)
        node = parent.take_along_dim(node, 0)
    length = torch.cat(steps).sum(0)
    order = (length - 1 - torch.arange(depth, device=states.device).view(-1, *[1] * length.ndim)).clamp(min=0)
    way = states.take_along_dim(torch.cat(back).take_along_dim(order, 0)[..., None], 0)
    return MacroPlan(way, length, energy, states, parent, kept)


def _energies(energy: Energy, states: Tensor) -> Tensor:
    value = energy(states)
    if value.shape != states.shape[:-1]:
        shapes = f"{tuple(states.shape[:-1])} for states {tuple(states.shape)}, got {tuple(value.shape)}"
        raise ValueError(f"energy must return one number per state, shape {shapes}")
    return require_finite("energy of predicted states", value)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(-1).sqrt()


def _nearest(states: Tensor, others: Tensor, count: Tensor) -> Tensor:
    """How far each state is from the nearest of those that count, (n, ...)."""
    away = _distance(states[:, None], others)
    return torch.where(count, away, torch.inf).amin(1)


class TwoLevels:
    r"""Hierarchical model-predictive control: the slow level sets sub-goals, the fast one plans actions to the next.

    Every ``every`` steps the slow level plans anew, from where things are. Between, it keeps to its plan: a sub-goal
    once reached, to within ``close``, hands over to the next, and the last one to the goal itself. At each step the
    fast level plans towards the sub-goal, and does the first action. A batch of worlds is controlled at once.

    Args:
        high: from states (..., D) to a MacroPlan: :func:`sample_tree` with everything but the state filled in.
        low: a planner, from an energy and a start to a Plan, as for :class:`~ebm_lib.world.Replanner`.
        energy: gives the energy of actions from states and sub-goals, both (..., D).
        goal: (..., D).
        start: the actions to start the first search from, (..., H, A).
        every: steps that a macro-plan is kept for.
        close: how near a sub-goal is reached, as the root of the mean squared difference.

    Attributes:
        macro: the last MacroPlan, or None.
        subgoal: what the last action was planned towards, (..., D), or None.
        last: the last Plan, or None.

    Raises:
        ValueError: numbers out of range.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Mode-2 Planning with
    H-JEPA-based World Model"; Zhang, Terver, Zholus et al., Hierarchical Planning with Latent World Models (2026), for
    the first predicted state as sub-goal.
    """

    def __init__(
        self,
        high: Callable[[Tensor], MacroPlan],
        low: Callable[[Energy, Tensor], Plan],
        energy: Callable[[Tensor, Tensor], Energy],
        goal: Tensor,
        start: Tensor,
        *,
        every: int,
        close: float,
    ) -> None:
        self.high, self.low, self.energy, self.goal, self.start = high, low, energy, goal, start
        self.every, self.close = require_count("every", every), require_positive("close", close)
        self.reset()

    def reset(self) -> None:
        """Begin new episodes."""
        self.actions, self.macro, self.subgoal, self.last, self._step = self.start, None, None, None, 0

    def act(self, state: Tensor) -> Tensor:
        """Plan from ``state`` (..., D) on both levels, and return the first action, (..., A)."""
        if self._step % self.every == 0:
            self.macro = self.high(state)
            self._at = torch.zeros_like(self.macro.length)
        self._step += 1
        while True:
            aim = self._aim()
            reached = (_distance(state, aim) < self.close) & (self._at < self.macro.length)
            if not has_values(reached) or not reached.any():
                break
            self._at = self._at + reached
        self.subgoal = aim
        self.last = self.low(self.energy(state, aim), self.actions)
        self.actions = shift(self.last.actions)
        return self.last.actions[..., 0, :]

    def _aim(self) -> Tensor:
        """The sub-goal each world is at, and the goal behind the last of them, (..., D)."""
        states, length, _, *_ = self.macro
        index = self._at.clamp(max=len(states) - 1)[None, ..., None]
        return torch.where((self._at < length)[..., None], states.take_along_dim(index, 0)[0], self.goal)
