r"""Short-term memory: what states were like and what they cost, episode by episode.

.. math:: g_t = \sum_{k=0}^{K-1} \gamma^k\, c_{t+k}
"""

from collections import deque
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.require import require_count, require_finite, require_points, require_positive


class Pairs(NamedTuple):
    """What a critic is trained on.

    Attributes:
        states: (N, D).
        values: what came of them, (N,).
    """

    states: Tensor
    values: Tensor


class Episode(NamedTuple):
    """What an agent went through, in order.

    Attributes:
        states: (T, D).
        costs: (T,).
    """

    states: Tensor
    costs: Tensor


def discounted(costs: Tensor, gamma: float = 1.0, window: int | None = None) -> Tensor:
    r"""Sum, at each step, the costs from there on.

    .. math:: g_t = \sum_{k=0}^{K-1} \gamma^k\, c_{t+k}

    Args:
        costs: c, (..., T).
        gamma: γ in [0, 1]: how much less a later cost counts.
        window: K, for steps that have so many before them; None sums to the end, however far that is.

    Returns:
        (..., T), or (..., T − K + 1) with a window.

    Raises:
        ValueError: γ or K out of range, a window that is longer than the costs.

    >>> discounted(torch.tensor([1.0, 1.0, 1.0, 0.0]), gamma=0.5)
    tensor([1.7500, 1.5000, 1.0000, 0.0000])
    >>> discounted(torch.tensor([1.0, 1.0, 1.0, 0.0]), window=2)
    tensor([2., 2., 1.])
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must be in [0, 1], got {gamma}")
    T = costs.shape[-1] if costs.ndim else 0
    K = T if window is None else require_count("window", window)
    if not 1 <= K <= T:
        raise ValueError(f"costs must be (..., T) with T at least {max(K, 1)}, got shape {tuple(costs.shape)}")
    later = torch.arange(T, device=costs.device) - torch.arange(T, device=costs.device)[:, None]  # k, (t, t + k)
    powers = torch.where((later >= 0) & (later < K), gamma ** later.clamp(min=0).to(costs.dtype), 0)
    return (costs @ powers.mT)[..., : T if window is None else T - K + 1]


class ShortTermMemory:
    r"""The last states and their costs, in episodes; forgets the oldest.

    Args:
        capacity: how many states it holds at most.

    Raises:
        ValueError: a capacity below 1.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Modular Architecture
        for Autonomous AI" ("Stores state-cost episodes") and "Training the Critic" ("Uses the short term memory to
        produce training pairs").

    >>> memory = ShortTermMemory(100)
    >>> for t in range(3):
    ...     memory.write(torch.tensor([float(t)]), torch.tensor(2.0 - t))
    >>> memory.begin()
    >>> memory.write(torch.tensor([9.0]), torch.tensor(5.0))
    >>> len(memory), memory.pairs().values
    (4, tensor([3., 1., 0., 5.]))
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = require_count("capacity", capacity)
        self._episodes: deque[deque[tuple[Tensor, Tensor]]] = deque()
        self.begin()

    def __len__(self) -> int:
        """How many states are held."""
        return sum(map(len, self._episodes))

    def begin(self) -> None:
        """Begin a new episode: what is written next did not come of what was written last."""
        if not self._episodes or self._episodes[-1]:
            self._episodes.append(deque())

    def write(self, state: Tensor, cost: Tensor) -> None:
        """Add a state (D,) and its cost () to the episode that is going on."""
        state, cost = require_points("state", state.detach()), require_finite("cost", cost.detach())
        first = next((past[0][0] for past in self._episodes if past), state)
        if state.ndim != 1 or cost.ndim != 0 or state.shape != first.shape:
            shapes = f"{tuple(state.shape)} and {tuple(cost.shape)}"
            raise ValueError(f"state must be (D,), as those before, and cost (), got shapes {shapes}")
        self._episodes[-1].append((state.clone(), cost.clone()))
        if len(self) > self.capacity:
            self._episodes[0].popleft()
            if not self._episodes[0] and len(self._episodes) > 1:
                self._episodes.popleft()

    def store(self, states: Tensor, costs: Tensor) -> None:
        """Write a whole episode, (T, D) and (T,), and begin another."""
        if states.ndim != 2 or costs.shape != states.shape[:1]:
            shapes = f"{tuple(states.shape)} and {tuple(costs.shape)}"
            raise ValueError(f"states must be (T, D) and costs (T,), got shapes {shapes}")
        self.begin()
        for state, cost in zip(states, costs, strict=True):
            self.write(state, cost)
        self.begin()

    def episodes(self) -> list[Episode]:
        """What is remembered, the oldest first; of the first episode, the beginning may be forgotten."""
        return [Episode(*map(torch.stack, zip(*past, strict=True))) for past in self._episodes if past]

    def pairs(self, gamma: float = 1.0, window: int | None = None) -> Pairs:
        """States, and what came of each within its episode: the :func:`discounted` costs from there on.

        With a window, only states that so many steps are known of; without, an episode's end is taken for the end of
        all costs.

        Raises:
            ValueError: γ or the window out of range, or no pair remembered.
        """
        known = [e for e in self.episodes() if len(e.costs) >= (window or 1)]
        if not known:
            raise ValueError(f"memory must hold an episode of at least {window or 1} states, it has {len(self)} in all")
        values = [discounted(e.costs, gamma, window) for e in known]
        states = [e.states[: len(g)] for e, g in zip(known, values, strict=True)]
        return Pairs(torch.cat(states), torch.cat(values))

    def read(self, query: Tensor, *, width: float, gamma: float = 1.0, window: int | None = None) -> Tensor:
        r"""Recall what came of states like these: keys are the states, values what came of them.

        .. math:: v(q) = \sum_n \alpha_n g_n, \qquad
            \alpha_n = \operatorname*{softmax}_n \Big({-\frac{\lVert q - s_n \rVert^2}{2 \sigma^2}}\Big)

        Args:
            query: q, (..., D).
            width: σ > 0, how far apart states may be that count as alike.
            gamma: as in :meth:`pairs`.
            window: as in :meth:`pairs`.

        Returns:
            (...), within the range of what is remembered.

        Source: LeCun, A Path Towards Autonomous Machine Intelligence (2022); Nadaraya, On Estimating
            Regression (1964), and Watson, Smooth Regression Analysis (1964), whose estimate this is.
        """
        require_positive("width", width)
        keys, values = self.pairs(gamma, window)
        if query.shape[-1:] != keys.shape[-1:]:
            raise ValueError(f"query must be (..., {keys.shape[-1]}) as states are, got shape {tuple(query.shape)}")
        away = torch.cdist(query.reshape(-1, keys.shape[-1]), keys, compute_mode="donot_use_mm_for_euclid_dist")
        return ((away / width).square() * -0.5).softmax(-1).matmul(values).view(query.shape[:-1])
