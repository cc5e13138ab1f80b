"""Maps of what filters on a sheet prefer: orientation, and the pinwheels in it."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.require import has_values, require_count, require_finite

ZOOM = 4  # the spectrum is sampled this much finer than the filter's own frequencies


class Orientation(NamedTuple):
    r"""What orientation filters prefer.

    Attributes:
        angle: direction across the bars, from 0 up to π radians, (...): 0 for upright bars, π/2 for level ones, turning
            from the columns' axis towards the rows', as in :func:`ebm_lib.latent.fit_gabor`.
        selectivity: from 0 (no orientation more than another) to 1 (bars of one direction), (...).
    """

    angle: Tensor
    selectivity: Tensor


def orientation_map(filters: Tensor, shape: tuple[int, int]) -> Orientation:
    r"""Preferred orientation of each filter, from its power spectrum.

    .. math::

        m = \frac{\sum_f |\hat w(f)|^2\, e^{2 i \phi(f)}}{\sum_f |\hat w(f)|^2}, \qquad
        \theta = \tfrac12 \arg m \bmod \pi, \qquad \text{selectivity} = |m|

    with φ the direction of the frequency f, which is across the bars. The angle is doubled because a direction and
    its opposite are one orientation. The mean of the filter counts for nothing. For filters on a sheet, give them as
    ``W.T.reshape(rows, columns, D)``.

    Args:
        filters: (..., H·W), row by row; the first row is the top.
        shape: (H, W) of a filter.

    Returns:
        An Orientation. A filter without any orientation has selectivity 0 and an angle that means nothing.

    Raises:
        ValueError: sizes that do not fit, values not finite.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Pinwheels!";
    Swindale, Orientation Tuning Curves: Empirical Description and Estimation of Parameters (Biological Cybernetics
    1998).

    >>> upright = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(2).expand(8, 8)
    >>> orientation_map(upright.reshape(64), (8, 8)).angle.round(decimals=3)
    tensor(0.)
    """
    height, width = (require_count(f"shape[{i}]", side) for i, side in enumerate(shape))
    if filters.ndim == 0 or filters.shape[-1] != height * width:
        raise ValueError(f"filters must be (..., {height * width}) for shape {shape}, got {tuple(filters.shape)}")
    require_finite("filters", filters)
    image = (filters - filters.mean(-1, keepdim=True)).reshape(*filters.shape[:-1], height, width)
    size = (ZOOM * height, ZOOM * width)
    power = torch.fft.fft2(image, s=size).abs().square()
    down = torch.fft.fftfreq(size[0], dtype=filters.dtype, device=filters.device)[:, None]
    right = torch.fft.fftfreq(size[1], dtype=filters.dtype, device=filters.device)[None]
    inside = (down**2 + right**2 <= 0.25) & (down**2 + right**2 > 0)  # a disc: a square would favour its diagonals
    doubled = 2 * torch.atan2(down, right)
    power = power * inside
    total = power.sum((-2, -1)).clamp_min(torch.finfo(filters.dtype).tiny)
    real = (power * doubled.cos()).sum((-2, -1)) / total
    imaginary = (power * doubled.sin()).sum((-2, -1)) / total
    angle = torch.atan2(imaginary, real) / 2
    return Orientation(_wrapped(angle), torch.hypot(real, imaginary))


def pinwheel_centers(angle: Tensor) -> Tensor:
    r"""Where all orientations meet: the winding number of the orientation around each four neighbours on a torus.

    .. math::

        q = \frac{1}{2\pi} \sum_{\text{around}} \big[(\theta_{n+1} - \theta_n + \tfrac\pi2) \bmod \pi - \tfrac\pi2\big]
        \in \big\{0, \pm\tfrac12, \pm 1\big\}

    going once around a pinwheel's centre the orientation turns by half a turn, one way or the other. On a torus the
    numbers add up to 0: there are as many of one kind as of the other. A map without order has many (of random angles,
    one plaquette in three holds one).

    Args:
        angle: orientations on the sheet in radians, modulo π, (..., rows, columns).

    Returns:
        q, (..., rows, columns): entry (i, j) belongs to the plaquette between (i, j), (i, j + 1), (i + 1, j + 1) and
        (i + 1, j), gone around in this order; positive where the angle rises.

    Raises:
        ValueError: fewer than two dimensions, a side below 2, values not finite.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Pinwheels!";
    Bonhoeffer and Grinvald, Iso-Orientation Domains in Cat Visual Cortex Are Arranged in Pinwheel-like Patterns (Nature
    1991).

    >>> pinwheel_centers(torch.zeros(4, 4)).abs().sum()
    tensor(0.)
    """
    if angle.ndim < 2 or min(angle.shape[-2:]) < 2:
        raise ValueError(f"angle must be (..., rows, columns) with sides of at least 2, got {tuple(angle.shape)}")
    require_finite("angle", angle)

    def turn(a: Tensor, b: Tensor) -> Tensor:
        return (b - a + math.pi / 2).remainder(math.pi) - math.pi / 2

    right, below = angle.roll(-1, -1), angle.roll(-1, -2)
    corner = right.roll(-1, -2)
    around = turn(angle, right) + turn(right, corner) + turn(corner, below) + turn(below, angle)
    return (around / math.pi).round() / 2


def map_smoothness(angle: Tensor) -> Tensor:
    r"""How alike neighbours on the sheet are.

    .. math:: \big\langle \cos 2 (\theta_i - \theta_j) \big\rangle_{i, j \text{ neighbours}}

    1 if all are the same, 0 on average if they were put there at random.

    Args:
        angle: orientations on a torus in radians, modulo π, (..., rows, columns).

    Returns:
        (...), from −1 to 1.

    Raises:
        ValueError: fewer than two dimensions, values not finite.

    >>> map_smoothness(torch.tensor([[0.0, math.pi / 2], [math.pi / 2, 0.0]]))
    tensor(-1.)
    """
    if angle.ndim < 2:
        raise ValueError(f"angle must be (..., rows, columns), got {tuple(angle.shape)}")
    require_finite("angle", angle)
    pairs = [(2 * (angle - angle.roll(1, dim))).cos().mean((-2, -1)) for dim in (-2, -1)]
    return (pairs[0] + pairs[1]) / 2


def _wrapped(angle: Tensor) -> Tensor:
    """Modulo π, from 0 up to but not with π; rounding just below π counts as 0."""
    angle = angle.remainder(math.pi)
    if not has_values(angle):
        return angle
    return torch.where(math.pi - angle < 8 * torch.finfo(angle.dtype).eps, 0.0, angle)
