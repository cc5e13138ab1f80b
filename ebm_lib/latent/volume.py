r"""The yardstick: how much of space a model holds good, and how many dimensions its codes use.

.. math::

    t = q\text{-quantile of } F(y[i]) + \epsilon, \qquad
    V = \frac{\lvert \{y \in \text{box} : F(y) \le t\} \rvert}{\lvert \text{box} \rvert}

A model that has learned the data holds little else good; a flat energy holds everything good. The threshold is the
data's own, so energies in different units can be compared.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.energy import Energy, Grid, evaluate
from ebm_lib.latent.linear import moments
from ebm_lib.latent.model import blocks
from ebm_lib.require import require_count, require_nonempty, require_points


class LowEnergyVolume(NamedTuple):
    """How much of a box an energy holds to be as good as data.

    Attributes:
        share: of the box's volume, from 0 to 1.
        volume: the same in units of y to the power D.
        threshold: the energy at and below which a point counts as good.
        inside: which cells do, (N,) bool; ``inside.reshape(grid.shape)`` is a picture.
    """

    share: float
    volume: float
    threshold: float
    inside: Tensor


def low_energy_volume(
    energy: Energy,
    data: Tensor,
    grid: Grid,
    *,
    quantile: float = 0.9,
    tolerance: float = 1e-3,
    block_size: int = 4096,
) -> LowEnergyVolume:
    r"""Measure the share of a box where an energy is as low as on data.

    .. math::

        V = \frac{1}{G} \sum_{g=1}^{G} \mathbf 1\bigl[F(y_g) \le t\bigr], \qquad
        t = \min\Bigl\{t' : \tfrac1N \textstyle\sum_i \mathbf 1[F(y[i]) \le t'] \ge q\Bigr\} + \epsilon

    With ε = 0 it does not change when F is rescaled, shifted, or put through any increasing function. Its tolerance ε
    is what makes a flat energy count as full: an energy that is 0 everywhere but for the rounding or the imperfect
    inference of its minimum would else be cut somewhere at random. Held-out data keep a model that has memorised its
    points from looking good.

    Args:
        energy: F(y), or a model.
        data: points the model ought to hold good, (M, D).
        grid: cells of the box, from :func:`ebm_lib.energy.grid`; their width limits what can be resolved.
        quantile: q, the share of the data at or below the threshold, in (0, 1].
        tolerance: ε, in units of energy, at least 0: a difference of energy that is to count as none. If the energy is
            a squared distance, the square of a distance that is to count as none; keep it well below the energy's
            spread over the box.
        block_size: points whose energies are computed at a time.

    Returns:
        A LowEnergyVolume.

    Raises:
        ValueError: data and grid of different dimensions, no data, q or ε out of range, an energy that is NaN or
            -inf, or +inf at the threshold (the model holds more than 1 - q of the data to be impossible).

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Architectural Methods & Regularized
    Methods", which asks for a small volume and leaves open how to measure it.

    >>> from ebm_lib.energy import grid
    >>> square = grid([-1.0, -1.0], [1.0, 1.0], 100)
    >>> on_a_line = torch.tensor([[0.3, -0.1], [-0.2, 0.1], [0.9, 0.0]])
    >>> low_energy_volume(lambda y: y[..., 1].square(), on_a_line, square, tolerance=0.0).share
    0.1
    >>> low_energy_volume(lambda y: 0 * y.sum(-1), on_a_line, square).share
    1.0
    """
    require_points("data", data)
    require_nonempty("data", data, 0)
    if data.ndim != 2 or data.shape[-1] != grid.points.shape[-1]:
        raise ValueError(
            f"data must be (M, {grid.points.shape[-1]}), of the grid's dimensions, got shape {tuple(data.shape)}"
        )
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must be in (0, 1], got {quantile}")
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be zero or a positive finite number, got {tolerance}")
    require_count("block_size", block_size)
    with torch.no_grad():
        own, everywhere = (
            torch.cat([evaluate(energy, points[rows]) for rows in blocks(len(points), 0, block_size)])
            for points in (data, grid.points)
        )
    # An order statistic and no interpolation: at least the share q lies at or below it, and +inf makes no NaN.
    # The product is rounded first, so that 0.55 of 100 points, 55.00000000000001, are 55 of them and not 56.
    rank = max(1, math.ceil(round(quantile * len(own), 9)))
    threshold = own.kthvalue(rank).values.item()
    if math.isinf(threshold):
        raise ValueError(f"energy is +inf on more than {1 - quantile:.3g} of the data: there is no threshold")
    threshold += tolerance
    inside = everywhere <= threshold
    share = inside.double().mean().item()
    return LowEnergyVolume(share, share * math.exp(grid.log_cell) * len(inside), threshold, inside)


class EffectiveDimension(NamedTuple):
    """How many dimensions a set of codes uses.

    Attributes:
        participation: the participation ratio, a scalar tensor; variances count in proportion to their squares.
        entropy: the exponential of the spectrum's entropy, a scalar tensor; small variances count more.
        spectrum: the variances along the principal directions, falling, (L,).
    """

    participation: Tensor
    entropy: Tensor
    spectrum: Tensor


def effective_dimension(codes: Tensor) -> EffectiveDimension:
    r"""Count the dimensions that codes use, each by the share of the variance along it.

    .. math::

        p_k = \frac{\lambda_k}{\sum_j \lambda_j}, \qquad
        d_\text{participation} = \frac{1}{\sum_k p_k^2}, \qquad
        d_\text{entropy} = \exp\Bigl(-\sum_k p_k \log p_k\Bigr)

    λ are the eigenvalues of the codes' covariance. Both are d if d directions share the variance equally, lie between
    1 and L else, and do not depend on the codes' scale; the entropy's is the larger. Codes that are all equal use 0
    dimensions. Both are differentiable in the codes, so that they can serve as a regulariser.

    Args:
        codes: (N, L), N ≥ 2.

    Returns:
        Both counts and the spectrum.

    Raises:
        ValueError: fewer than 2 codes, another shape, values that are not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Regularized Latent Variable EBM"; Roy
    and Vetterli, The effective rank: a measure of effective dimensionality (EUSIPCO 2007).

    >>> axes = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    >>> effective_dimension(axes).participation
    tensor(2.)
    """
    require_points("codes", codes)
    if codes.ndim != 2 or len(codes) < 2:
        raise ValueError(f"codes must be (N, L) with at least 2 codes, got shape {tuple(codes.shape)}")
    covariance = moments(codes).covariance
    spectrum = torch.linalg.eigvalsh(covariance).flip(-1).clamp(min=0)
    total = covariance.diagonal().sum()
    varied = total > 0
    share = spectrum / torch.where(varied, total, 1.0)
    # Zero variances take no part: the slope of p log p is infinite there.
    present = share > 0
    entropy = -(share * torch.where(present, share, 1.0).log()).sum()
    concentration = share.square().sum()
    return EffectiveDimension(
        torch.where(varied, 1 / torch.where(varied, concentration, 1.0), 0.0),
        torch.where(varied, entropy.exp(), 0.0),
        spectrum,
    )
