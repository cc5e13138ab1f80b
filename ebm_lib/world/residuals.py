"""A model that is told at once where it was wrong: a short-term memory of its errors, read beside it."""

import torch
from torch import Tensor

from ebm_lib.require import require_count, require_finite, require_positive
from ebm_lib.world.control import Step


class ResidualMemory:
    r"""The last M errors of a model, for each of N agents; added to what it says of states and actions like those.

    .. math::

        \hat s' = G(s, a) + \frac{\sum_m k_m r_m}{\max\big(1, \sum_m k_m\big)}, \qquad r_m = s'_m - G(s_m, a_m), \qquad
        k_m = \exp\Big({-\frac{\lVert s - s_m \rVert^2}{2 \sigma^2}} - \frac{\lVert a - a_m \rVert^2}{2 \alpha^2}\Big)

    Where nothing like (s, a) has been met, all k are near 0 and the model is believed; where something has, what came
    of it is. A planner that pushes at a wall which its model does not know of thus plans another way after the first
    bump, without a step of training. Keys are states and actions, values the errors, as in the lecture's short-term
    memory; the model itself stays as it is.

    Args:
        model: G(s, a).
        N: agents, each with a memory of its own.
        size: M; the oldest is forgotten.
        width: σ > 0, how far apart states may be that count as alike.
        reach: α > 0, the same of actions.

    Attributes:
        written: how many errors each agent has met, (N,).

    Raises:
        ValueError: numbers out of range; states, actions or agents that do not fit.

    Source: LeCun, A Path Towards Autonomous Machine Intelligence (2022), for a short-term memory of keys and values
        that the world model reads; Nadaraya, On Estimating Regression (1964), and Watson, Smooth Regression Analysis
        (1964), for the mean. The 1 under the fraction, the model's own weight, is ours.

    >>> memory = ResidualMemory(lambda s, a: s + a, 1)  # the world has a wall at 0 that the model does not know
    >>> memory.write(torch.tensor([0]), torch.zeros(1, 1), torch.ones(1, 1), torch.zeros(1, 1))
    >>> step = memory.step(torch.tensor([0]))
    >>> step(torch.zeros(1, 1), torch.ones(1, 1))  # as it was met
    tensor([[0.]])
    >>> step(torch.full((1, 1), -5.0), torch.ones(1, 1))  # far from it
    tensor([[-4.0000]])
    """

    def __init__(self, model: Step, N: int, *, size: int = 32, width: float = 1.0, reach: float = 1.0) -> None:
        self.model, self.size = model, require_count("size", size)
        self.width, self.reach = require_positive("width", width), require_positive("reach", reach)
        self.written = torch.zeros(require_count("N", N), dtype=torch.long)
        self._states = self._actions = self._errors = torch.empty(N, size, 0)

    def write(self, agents: Tensor, state: Tensor, action: Tensor, after: Tensor) -> None:
        """Remember what came of an action: agents (n,), no number twice; state and after (n, D), action (n, A)."""
        n = len(agents)
        if state.ndim != 2 or after.shape != state.shape or action.ndim != 2 or not n == len(state) == len(action):
            shapes = f"{tuple(agents.shape)}, {tuple(state.shape)}, {tuple(action.shape)} and {tuple(after.shape)}"
            raise ValueError(f"agents must be (n,), state and after (n, D), action (n, A), got shapes {shapes}")
        with torch.no_grad():
            for name, given in (("state", state), ("action", action), ("after", after)):
                require_finite(name, given)
            error = require_finite("error", after - self.model(state, action))
        if not self._states.shape[-1]:
            self.written = self.written.to(state.device)
            self._states, self._actions, self._errors = (
                x.new_zeros(*self._states.shape[:2], x.shape[-1]) for x in (state, action, error)
            )
        spot = agents, self.written[agents] % self.size
        self._states[spot], self._actions[spot], self._errors[spot] = state.detach(), action.detach(), error
        self.written[agents] += 1

    def step(self, agents: Tensor) -> Step:
        """The corrected model of these agents, (n,): s (..., n, D) and a (..., n, A) to (..., n, D)."""
        states, actions, errors = self._states[agents], self._actions[agents], self._errors[agents]
        known = torch.arange(self.size, device=errors.device) < self.written[agents, None]
        if not known.any():
            return self.model

        def corrected(s: Tensor, a: Tensor) -> Tensor:
            far = ((s[..., None, :] - states) / self.width).square().sum(-1)
            far = far + ((a[..., None, :] - actions) / self.reach).square().sum(-1)
            alike = (-far / 2).exp() * known
            told = (alike[..., None, :] @ errors).squeeze(-2)
            return self.model(s, a) + told / alike.sum(-1, keepdim=True).clamp(min=1)

        return corrected
