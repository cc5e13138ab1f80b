"""Learning a forward model from stored states and actions: windows of walks, the surprising ones more often."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import trange

from ebm_lib.data.draw import uniform
from ebm_lib.require import require_count, require_finite, require_positive
from ebm_lib.world.control import rollout


class Windows(NamedTuple):
    """Pieces of walks.

    Attributes:
        index: which of all windows they are, (B,).
        states: (B, K + 1, D).
        actions: (B, K, A).
    """

    index: Tensor
    states: Tensor
    actions: Tensor


class Replay:
    r"""A store of walks that gives out windows of K steps: some drawn evenly, some by how badly they were predicted.

    .. math:: P(i) = \frac{e_i^\alpha}{\sum_j e_j^\alpha}

    with e_i the error that window i had when it was last drawn, 0 before. Where a world is the same at most times and
    different at few, at walls for one, those few are what the errors point at. Weights that undo the preference, as the
    source has, are not needed where the target is a function of state and action: what fits all windows is best under
    any weights.

    Args:
        states: (N, T, D).
        actions: (N, T − 1, A).
        window: K, from 1 to T − 1.
        share: of the windows that are drawn by their errors, from 0 to 1; the rest is drawn evenly.
        power: α > 0.

    Attributes:
        errors: e, (N (T − K),): of the windows of the first walk, then of the second.

    Raises:
        ValueError: shapes that do not fit, values not finite, numbers out of range.

    Source: Schaul, Quan, Antonoglou and Silver, Prioritized Experience Replay (ICLR 2016), equation (1).

    >>> store = Replay(torch.arange(6.0).view(1, 6, 1), torch.ones(1, 5, 1), window=2, share=1.0)
    >>> store.update(torch.tensor([3]), torch.tensor([0.1]))
    >>> store.draw(2, torch.Generator().manual_seed(0)).states.squeeze(-1)
    tensor([[3., 4., 5.],
            [3., 4., 5.]])
    """

    def __init__(
        self, states: Tensor, actions: Tensor, *, window: int = 8, share: float = 0.5, power: float = 0.5
    ) -> None:
        if states.ndim != 3 or actions.ndim != 3 or actions.shape[:2] != (len(states), states.shape[1] - 1):
            shapes = f"{tuple(states.shape)} and {tuple(actions.shape)}"
            raise ValueError(f"states must be (N, T, D) and actions (N, T - 1, A), got shapes {shapes}")
        require_finite("states", states)
        require_finite("actions", actions)
        if require_count("window", window) >= states.shape[1]:
            raise ValueError(f"window must be at most {states.shape[1] - 1}, the steps of a walk, got {window}")
        if not 0 <= share <= 1:
            raise ValueError(f"share must be from 0 to 1, got {share}")
        self.states, self.actions, self.window = states, actions, window
        self.share, self.power = share, require_positive("power", power)
        self.errors = states.new_zeros(len(states) * (states.shape[1] - window))

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self.errors)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Windows:
        """Draw n windows, with replacement; all evenly as long as no error is known."""
        kind = torch.float64, self.states.device
        spot = uniform((require_count("n", n),), generator, *kind)
        index = (spot * len(self)).long().clamp(max=len(self) - 1)
        mass = self.errors.double().pow(self.power).cumsum(0)
        if mass[-1] > 0:
            chosen = round(self.share * n)
            index[:chosen] = torch.searchsorted(mass, spot[:chosen] * mass[-1], right=True).clamp(max=len(self) - 1)
        K, per_walk = self.window, self.states.shape[1] - self.window
        walk, begin = (index // per_walk)[:, None], (index % per_walk)[:, None]
        steps = torch.arange(K + 1, device=index.device)
        return Windows(index, self.states[walk, begin + steps], self.actions[walk, begin + steps[:-1]])

    def update(self, index: Tensor, errors: Tensor) -> None:
        """Remember errors ≥ 0, (B,), of the windows with this index."""
        if errors.shape != index.shape or (require_finite("errors", errors) < 0).any():
            raise ValueError(f"errors must be at least 0, one for each index, got shape {tuple(errors.shape)}")
        self.errors[index] = errors.detach().to(self.errors)


def learn_dynamics(
    model: nn.Module,
    replay: Replay,
    *,
    steps: int,
    batch_size: int = 256,
    lr: float = 1.5e-3,
    clip: float = 5.0,
    generator: torch.Generator | None = None,
    progress: bool = True,
) -> Tensor:
    r"""Train a forward model on its own rollouts over windows of what happened.

    .. math::

        e_i = \frac{1}{K v} \sum_{k=1}^{K} \frac1D \lVert \hat s_k - s_k \rVert^2, \qquad
        \hat s_{k+1} = G(\hat s_k, a_k), \quad \hat s_0 = s_0, \qquad
        v = \frac1D \big\langle \lVert s_{t+1} - s_t \rVert^2 \big\rangle

    by Adam, with a rate that rises over the first hundredth of the steps and then falls to 0 along half a cosine. The
    unit v makes the loss the same whatever the states' scale: a model in which nothing ever moves has 1 for K = 1.

    Args:
        model: G(s, a), trained in place.
        replay: the windows; learns their errors.
        steps: updates.
        batch_size: windows in each.
        lr: the rate at its highest.
        clip: largest norm of the gradient.
        generator: draws the windows.
        progress: show a bar.

    Returns:
        The mean error of the windows that were drawn evenly, at each update, (steps,); of all if none is.

    Raises:
        ValueError: numbers out of range, states that never change.
        FloatingPointError: an error that is not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Forward Model for Model-Predictive
        Control".

    >>> walk = torch.arange(9.0).view(1, 9, 1)
    >>> class Shift(nn.Linear):
    ...     def forward(self, s, a):
    ...         return s + nn.functional.linear(a, self.weight, self.bias)
    >>> model = Shift(1, 1)
    >>> errors = learn_dynamics(model, Replay(walk, torch.ones(1, 8, 1)), steps=300, lr=0.1, progress=False)
    >>> bool(errors[-1] < 1e-6)
    True
    """
    require_count("steps", steps)
    require_count("batch_size", batch_size)
    require_positive("lr", lr)
    require_positive("clip", clip, allow_inf=True)
    unit = replay.states.diff(dim=1).square().mean()
    if not unit > 0:
        raise ValueError("replay must hold states that change: nothing moves in any of its walks")
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    rise = max(1, steps // 100)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 1 / (rise + 1), total_iters=rise),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - rise)),
        ],
        [rise],
    )
    chosen = round(replay.share * batch_size)
    even = slice(chosen if chosen < batch_size else 0, None)
    history = []
    for step in trange(steps, disable=not progress):
        index, states, actions = replay.draw(batch_size, generator)
        ahead = rollout(model, states[:, 0], actions)
        errors = (ahead - states)[:, 1:].square().mean((1, 2)) / unit
        loss = errors.mean()
        if not loss.isfinite():
            raise FloatingPointError(f"the prediction error at step {step} is {loss.item()}")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        schedule.step()
        replay.update(index, errors)
        history.append(errors[even].detach().mean())
    return torch.stack(history)
