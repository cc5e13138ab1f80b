"""The energy of plans that are to reach a goal, in the space of a world model's states."""

from collections.abc import Callable

import torch
from torch import Tensor

from ebm_lib.energy import Energy
from ebm_lib.require import require_count, require_positive
from ebm_lib.world.control import Step, rollout


def goal_energy(
    step: Step, goal: Tensor, H: int, *, radius: float = 0.1, power: float = 1.0
) -> Callable[[Tensor], Energy]:
    r"""Say what plans cost by how near the states that they lead through are to a goal.

    .. math::

        E(a; s_0) = \sum_{t=1}^{H} w_t \log\Big(1 + \frac{d_t}{r}\Big), \qquad
        d_t^2 = \frac1D \lVert \hat s_t - g \rVert^2, \qquad w_t = \frac{t^p}{\sum_u u^p}

    The logarithm makes being there, at d < r, worth more than being a little less far away, so that a detour pays: a
    sum of distances would rather wait on the near side of a wall. Later steps weigh more for the same reason; with too
    much of it (a large p) the plan is to arrive at the end of the horizon, and when that moves on at every step one
    never does.

    Args:
        step: the model, (..., D) and (..., A) to (..., D).
        goal: g, (..., D), encoded as the states are.
        H: the horizon; plans are (..., H, A).
        radius: r > 0, in units of the states.
        power: p ≥ 0.

    Returns:
        A function that takes a state (..., D) and gives an energy of actions (..., H, A), for a
        :class:`~ebm_lib.world.Replanner`.

    Raises:
        ValueError: numbers out of range; a goal or plans of another shape.

    Source: ours; LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), the
        slide on Mode-2 ("World Model predicts outcome"), for a cost of predicted states.

    >>> energy = goal_energy(lambda s, a: s + a, torch.ones(1), 2, radius=1.0)(torch.zeros(1))
    >>> energy(torch.tensor([[[1.0], [0.0]], [[0.0], [0.0]]]))  # there at once, or never: log 2
    tensor([0.0000, 0.6931])
    """
    require_count("H", H)
    require_positive("radius", radius)
    if not 0 <= power < float("inf"):
        raise ValueError(f"power must be finite and at least 0, got {power}")
    weights = (torch.arange(1, H + 1, dtype=goal.dtype, device=goal.device) / H) ** power
    weights = weights / weights.sum()

    def of(state: Tensor) -> Energy:
        def energy(actions: Tensor) -> Tensor:
            if actions.shape[-2:-1] != (H,):
                raise ValueError(f"plans must have {H} actions, got shape {tuple(actions.shape)}")
            ahead = rollout(step, state, actions)[..., 1:, :]
            if goal.shape[-1:] != ahead.shape[-1:]:
                raise ValueError(f"goal must be (..., {ahead.shape[-1]}) as states are, got {tuple(goal.shape)}")
            away = torch.linalg.vector_norm(ahead - goal[..., None, :], dim=-1) / ahead.shape[-1] ** 0.5
            return (away / radius).log1p() @ weights

        return energy

    return of
