"""Who touches whom, and who leaves the road."""

import torch
from torch import Tensor

from ebm_lib.world.driving.traffic import LANES, LONG, WIDE, WIDTH, Traffic


def between(traffic: Traffic) -> Tensor:
    """Vectors from every car to every other, the short way round: [..., i, j, :] from i to j, (..., C, C, 2), in m."""
    x = _short_way(traffic.x[..., None, :] - traffic.x[..., :, None], traffic.ring)
    return torch.stack([x, traffic.y[..., None, :] - traffic.y[..., :, None]], -1)


def meets(before: Tensor, after: Tensor) -> Tensor:
    r"""Tell whether two cars touch at any time of a step, however fast one passes through the other.

    .. math:: \exists\, 0 \le t \le 1: \quad d(t) = (1 - t)\, d_\text{before} + t\, d_\text{after}, \qquad
        |d_x(t)| < \ell, \quad |d_y(t)| < w

    for cars of length ℓ and width w. They count as rectangles along the road, whatever their heading.

    Args:
        before: vectors from one car to the other, (..., 2), in m.
        after: the same a step later.

    Returns:
        bool, (...).

    >>> meets(torch.tensor([[-9.0, 0.0], [-9.0, 2.5]]), torch.tensor([9.0, 0.0]))
    tensor([True, True])
    """
    box = torch.tensor([LONG, WIDE], dtype=before.dtype, device=before.device)
    move = after - before
    still = move == 0
    pace = torch.where(still, 1, move)
    first, last = (-box - before) / pace, (box - before) / pace
    enter, leave = torch.minimum(first, last), torch.maximum(first, last)
    inside = before.abs() < box
    enter = torch.where(still, torch.where(inside, -torch.inf, torch.inf), enter).amax(-1)
    leave = torch.where(still, torch.where(inside, torch.inf, -torch.inf), leave).amin(-1)
    return (enter < leave) & (leave > 0) & (enter < 1)


def crashes(before: Traffic, after: Traffic) -> Tensor:
    """Tell who met whom in the step from ``before`` to ``after``: bool, (..., C, C), never oneself.

    Raises:
        ValueError: a ring so short that the short way round may not be the one that matters.
    """
    if before.ring < 4 * LONG:
        raise ValueError(f"ring must be at least {4 * LONG:g} m to tell who met whom, got {before.ring}")
    one, two = between(before), between(after)
    # the short way may flip from one side of the ring to the other within the step: follow the car instead
    along = one[..., 0] + _short_way(two[..., 0] - one[..., 0], before.ring)
    two = torch.stack([along, two[..., 1]], -1)
    return meets(one, two) & ~torch.eye(one.shape[-2], dtype=torch.bool, device=one.device)


def off_road(traffic: Traffic) -> Tensor:
    """Tell whose side is over the road's edge, bool, (..., C)."""
    return traffic.y.abs() > LANES * WIDTH / 2 - WIDE / 2


def _short_way(x: Tensor, ring: float) -> Tensor:
    return (x + ring / 2) % ring - ring / 2
