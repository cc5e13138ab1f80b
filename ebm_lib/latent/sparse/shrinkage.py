r"""Shrinkage functions: what a price on a code does to one that was free.

.. math:: \operatorname{prox}_{\theta R}(u) = \operatorname{argmin}_v \tfrac12 \lVert v - u \rVert^2 + \theta R(v)

Each regulariser R has its own: L1 gives soft thresholds, L0 hard ones, the norm of a group the soft threshold of that
norm. Iterations of the kind of :func:`ebm_lib.latent.sparse.ista` alternate a step down the reconstruction error with
one of these.
"""

import math

import torch
from torch import Tensor

from ebm_lib.require import has_values, require_finite


def soft_threshold(u: Tensor, threshold: float | Tensor, *, nonnegative: bool = False) -> Tensor:
    r"""Move every coordinate towards 0 by the threshold, and to 0 those that are nearer: the lectures' Shrink.

    .. math::

        \operatorname{Shrink}_\theta(u)_i = \operatorname{sign}(u_i)\,\max(|u_i| - \theta_i, 0)
        = \operatorname{argmin}_v \tfrac12 (v - u_i)^2 + \theta_i |v|

    Args:
        u: any shape, floating point.
        threshold: θ ≥ 0 in units of u: a number, or a tensor that broadcasts against u. Gradients flow to both.
        nonnegative: search v ≥ 0 only: the result is :math:`\max(u_i - \theta_i, 0)`.

    Returns:
        The shape of u and threshold broadcast.

    Raises:
        ValueError: a threshold that is negative or not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Giving the “right” structure to the
    encoder"; Donoho and Johnstone, Ideal Spatial Adaptation by Wavelet Shrinkage (Biometrika 1994).

    >>> soft_threshold(torch.tensor([-3.0, 0.5, 2.0]), 1.0)
    tensor([-2.,  0.,  1.])
    """
    _require_threshold(threshold)
    if nonnegative:
        return (u - threshold).clamp_min(0)
    return u - u.clamp(-threshold, threshold)


def hard_threshold(u: Tensor, threshold: float | Tensor) -> Tensor:
    r"""Keep the coordinates beyond the threshold as they are, and set the others to 0: shrinkage for L0.

    .. math::

        \operatorname{hard}_\theta(u)_i = u_i\,[\,|u_i| > \theta_i\,]
        = \operatorname{argmin}_v \tfrac12 (v - u_i)^2 + \tfrac{\theta_i^2}{2}\,[v \ne 0]

    Args:
        u: any shape, floating point.
        threshold: θ ≥ 0 in units of u: a number, or a tensor that broadcasts against u. The price of a coordinate that
            is not 0 is θ²/2.

    Returns:
        The shape of u and threshold broadcast.

    Raises:
        ValueError: a threshold that is negative or not finite.

    Source: Blumensath and Davies, Iterative Thresholding for Sparse Approximations (Journal of Fourier Analysis and
    Applications 2008).

    >>> hard_threshold(torch.tensor([-3.0, 0.5, 2.0]), 1.0)
    tensor([-3.,  0.,  2.])
    """
    _require_threshold(threshold)
    return torch.where(u.abs() <= threshold, torch.zeros_like(u), u)  # so NaN stays NaN


def group_soft_threshold(u: Tensor, threshold: float | Tensor, *, dim: int = -1) -> Tensor:
    r"""Move every group towards 0 by the threshold, without turning it; to 0 if it is nearer.

    .. math::

        \operatorname{Shrink}_\theta(u) = u\,\max\!\Big(1 - \frac{\theta}{\lVert u \rVert}, 0\Big)
        = \operatorname{argmin}_v \tfrac12 \lVert v - u \rVert^2 + \theta\,\lVert v \rVert

    With one member in each group it is :func:`soft_threshold`.

    Args:
        u: (..., G, S) for G groups of S members with ``dim=-1``; floating point.
        threshold: θ ≥ 0 in units of u: a number, or a tensor that broadcasts against u without ``dim``.
        dim: the dimension along which the members of a group lie.

    Returns:
        The shape of u.

    Raises:
        ValueError: a threshold that is negative or not finite.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Learning invariant
    features"; Yuan and Lin, Model Selection and Estimation in Regression with Grouped Variables (JRSS B 2006).

    >>> group_soft_threshold(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0)
    tensor([[2.4000, 3.2000],
            [0.0000, 0.0000]])
    """
    _require_threshold(threshold)
    if isinstance(threshold, Tensor) and threshold.ndim:
        threshold = threshold.unsqueeze(dim)
    norm = torch.linalg.vector_norm(u, dim=dim, keepdim=True)
    # A norm of 0 is divided by 1 instead: the group stays 0, with a gradient of 0 and not of 0/0.
    keep = (1 - threshold / torch.where(norm > 0, norm, torch.ones_like(norm))).clamp_min(0)
    return u * keep


def _require_threshold(threshold: float | Tensor) -> None:
    if not isinstance(threshold, Tensor):
        if not 0 <= threshold < math.inf:
            raise ValueError(f"threshold must be a finite number of at least 0, got {threshold}")
        return
    require_finite("threshold", threshold)
    if has_values(threshold) and (threshold < 0).any():
        raise ValueError(f"threshold must be at least 0 everywhere, its lowest is {threshold.min().item()}")
