r"""Time as the teacher: neighbours in a sequence are views of one thing, and its path should be easy to predict.

.. math::

    \text{slow: } z_{t+1} \approx z_t, \qquad \text{linear: } z_{t+1} \approx 2 z_t - z_{t-1}, \qquad
    \text{straight: } \frac{z_{t+1} - z_t}{\lVert z_{t+1} - z_t \rVert} \approx
    \frac{z_t - z_{t-1}}{\lVert z_t - z_{t-1} \rVert}

All three are at their best, or not defined, for an embedding that is constant: use them beside a criterion that
prevents collapse, such as VICReg's variance and covariance terms, or contrast with frames that are far in time.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.joint._require import require_weight, unit
from ebm_lib.require import has_values, require_points


class Temporal(NamedTuple):
    """A temporal criterion and what it is the sum of, each with its weight.

    Attributes:
        loss: the sum.
        slowness: mean squared step.
        linearity: mean squared error of extrapolating two frames linearly.
        curvature: mean of 1 − cos between successive steps.
    """

    loss: Tensor
    slowness: Tensor
    linearity: Tensor
    curvature: Tensor


def temporal(z: Tensor, *, slowness: float = 1.0, linearity: float = 0.0, curvature: float = 0.0) -> Temporal:
    r"""Slow, linear, straight: three ways in which the embedding of a sequence can be easy to predict.

    .. math::

        \mathcal L = \lambda_s \langle \lVert \Delta_t \rVert^2 \rangle
        + \lambda_l \langle \lVert \Delta_t - \Delta_{t-1} \rVert^2 \rangle
        + \lambda_c \Big\langle 1 -
        \frac{\Delta_t \cdot \Delta_{t-1}}{\lVert \Delta_t \rVert \lVert \Delta_{t-1} \rVert} \Big\rangle,
        \qquad \Delta_t = z_{t+1} - z_t

    with means over sequences and times. A step of length 0 has no direction: its cosines count as 0, and have no slope.

    Args:
        z: embeddings of frames in order, (..., T, D), T ≥ 3.
        slowness: λ_s ≥ 0.
        linearity: λ_l ≥ 0.
        curvature: λ_c ≥ 0.

    Returns:
        A Temporal.

    Raises:
        ValueError: fewer than three frames, values not finite, a weight negative.

    Source: LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), "Contrastive Embedding" ("temporal
    proximity", "slow feature"); Wiskott and Sejnowski, Slow Feature Analysis (Neural Computation 14, 2002); Goroshin,
    Mathieu and LeCun, Learning to Linearize Under Uncertainty (NIPS 2015), which has the last two terms.

    >>> corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    >>> temporal(corner, linearity=0.5, curvature=0.1)
    Temporal(loss=tensor(2.1000), slowness=tensor(1.), linearity=tensor(1.), curvature=tensor(0.1000))
    """
    for name, weight in (("slowness", slowness), ("linearity", linearity), ("curvature", curvature)):
        require_weight(name, weight)
    step = _steps(z)
    parts = (
        slowness * step.square().sum(-1).mean(),
        linearity * step.diff(dim=-2).square().sum(-1).mean(),
        curvature * (1 - _cosines(step)).mean(),
    )
    return Temporal(sum(parts), *parts)


def bend(z: Tensor) -> Tensor:
    r"""How much a trajectory bends from step to step, on average, in degrees.

    .. math:: c = \frac{180}{\pi} \Big\langle \arccos \frac{\Delta_t \cdot \Delta_{t-1}}
        {\lVert \Delta_t \rVert \lVert \Delta_{t-1} \rVert} \Big\rangle_t

    0 is a straight line; independent frames in many dimensions give 120, a random walk 90.

    Args:
        z: (..., T, D), T ≥ 3.

    Returns:
        One number for each trajectory, (...).

    Raises:
        ValueError: fewer than three frames, values not finite, a step of length 0.

    Source: Hénaff, Goris and Simoncelli, Perceptual straightening of natural videos (Nature Neuroscience 22, 2019).

    >>> bend(torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]))
    tensor(90.)
    """
    step = _steps(z)
    if has_values(step) and (step.abs().amax(-1) == 0).any():
        raise ValueError("z must move at each step: a step of length 0 has no direction")
    way = unit("steps of z", step)
    after, before = way[..., 1:, :], way[..., :-1, :]
    # Twice the half angle, by its tangent: near a straight line the arccos keeps half the digits, and no slope
    lengths = (torch.linalg.vector_norm(v, dim=-1) for v in (after - before, after + before))
    return torch.rad2deg(2 * torch.atan2(*lengths)).mean(-1)


@torch.no_grad()
def linear_predictability(z: Tensor) -> Tensor:
    r"""The share of the next frame's variance that a linear function of this one and the last explains.

    .. math:: R^2 = 1 - \frac{\min_{A, B, c} \sum_t \lVert z_{t+1} - A z_t - B z_{t-1} - c \rVert^2}
        {\sum_t \lVert z_{t+1} - \bar z \rVert^2}

    by least squares over all sequences together. In its own sample: mind that there are more frames than 2D + 1.

    Args:
        z: (..., T, D), T ≥ 3, more than 2D + 1 pairs in all.

    Returns:
        A scalar from 0 to 1.

    Raises:
        ValueError: too few frames, values not finite, an embedding that is constant.

    Source: Goroshin, Mathieu and LeCun, Learning to Linearize Under Uncertainty (NIPS 2015), for the idea.

    >>> t = torch.arange(50.0)[:, None]
    >>> round(linear_predictability(torch.cat([t.sin(), t.cos()], -1)).item(), 4)
    1.0
    """
    _steps(z)
    D = z.shape[-1]
    past = torch.cat([z[..., 1:-1, :], z[..., :-2, :]], -1).reshape(-1, 2 * D).double()
    future = z[..., 2:, :].reshape(-1, D).double()
    if len(past) <= 2 * D + 1:
        raise ValueError(f"z must have more than 2D + 1 = {2 * D + 1} places to predict, got {len(past)}")
    past, future = past - past.mean(0), future - future.mean(0)
    total = future.square().sum()
    if has_values(total) and total == 0:
        raise ValueError("z must vary: there is nothing to predict")
    error = (future - past @ (torch.linalg.pinv(past) @ future)).square().sum()
    return (1 - error / total).to(z.dtype)


def _steps(z: Tensor) -> Tensor:
    require_points("z", z)
    if z.ndim < 2 or z.shape[-2] < 3 or z.numel() == 0:
        raise ValueError(f"z must be a sequence (..., T, D) of at least three frames, got shape {tuple(z.shape)}")
    return z.diff(dim=-2)


def _cosines(step: Tensor) -> Tensor:
    after, before = step[..., 1:, :], step[..., :-1, :]
    moves = (after != 0).any(-1) & (before != 0).any(-1)
    cosine = torch.cosine_similarity(after, before, dim=-1, eps=torch.finfo(step.dtype).tiny ** 0.5)
    return torch.where(moves, cosine, 0.0)
