r"""Information-maximising criteria: keep the embedding's variables alive and uncorrelated over a batch.

.. math:: F(x, y) = \lVert z_x - z_y \rVert^2, \qquad \text{with a regulariser of } \operatorname{Cov}(z)

No negatives, no asymmetry between the branches, no shared weights: what prevents collapse is a term of the loss.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, relu

from ebm_lib.joint._require import require_embeddings, require_views, require_weight
from ebm_lib.require import has_values, require_positive


class BarlowTerms(NamedTuple):
    """Barlow Twins' criterion and what it is the sum of.

    Attributes:
        loss: the sum.
        invariance: what the diagonal of the correlation matrix lacks from 1.
        redundancy: λ times the squares off the diagonal.
    """

    loss: Tensor
    invariance: Tensor
    redundancy: Tensor


class VICRegTerms(NamedTuple):
    """VICReg's criterion and what it is the sum of, each with its weight.

    Attributes:
        loss: the sum.
        invariance: squared distance between the views.
        variance: what the standard deviations lack from γ.
        covariance: squared covariances between different variables.
    """

    loss: Tensor
    invariance: Tensor
    variance: Tensor
    covariance: Tensor


def barlow_twins(z1: Tensor, z2: Tensor, *, redundancy: float = 0.005, eps: float = 1e-5) -> BarlowTerms:
    r"""Barlow Twins: the correlation matrix between the two views' embeddings should be the identity.

    .. math::

        \mathcal L = \sum_i (1 - C_{ii})^2 + \lambda \sum_i \sum_{j \ne i} C_{ij}^2, \qquad
        C_{ij} = \frac{\frac1N \sum_b \tilde z^A_{b,i} \tilde z^B_{b,j}}
        {\sqrt{\operatorname{var} z^A_i + \varepsilon} \sqrt{\operatorname{var} z^B_j + \varepsilon}}

    with z̃ centred over the batch and variances divided by N, each view by its own statistics. Convention: the paper's
    (λ = 0.005) and the authors' code (λ = 0.0051, and ε by a batch normalisation), without a scale: solo-learn's
    default is 0.025 times this. Early versions of lightly divide by the variance over N − 1, so that a perfect
    diagonal is (N − 1)/N. The cost of the second term is N²D rather than D²N where the batch is the smaller.

    Args:
        z1: embeddings of one view, (N, D), N ≥ 2.
        z2: those of the other, (N, D).
        redundancy: λ ≥ 0.
        eps: ε ≥ 0, in squared units of the embedding: a variable that is constant correlates with nothing.

    Returns:
        A BarlowTerms.

    Raises:
        ValueError: unequal shapes, a batch of one, values not finite, λ or ε negative, and with ε = 0 a variable that
            does not vary.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Information
    Maximization"; Zbontar, Jing, Misra, LeCun and Deny, Barlow Twins (ICML 2021), eqs. 1 and 2.

    >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> [round(term.item(), 3) for term in barlow_twins(z, z.flip(1), redundancy=0.1)]
    [2.2, 2.0, 0.2]
    """
    require_views(minimum=2, z1=z1, z2=z2)
    require_weight("redundancy", redundancy)
    a, b = _standardized("z1", z1, eps), _standardized("z2", z2, eps)
    diagonal = (a * b).mean(0)
    if len(a) < a.shape[1]:  # ‖AᵀB‖² = ⟨AAᵀ, BBᵀ⟩
        squares = ((a @ a.T) * (b @ b.T)).sum() / len(a) ** 2
        off = _not_negative(squares - diagonal.square().sum())
    else:
        off = _off_diagonal_squares(a.T @ b / len(a))
    parts = (1 - diagonal).square().sum(), redundancy * off
    return BarlowTerms(sum(parts), *parts)


def variance_hinge(z: Tensor, *, gamma: float = 1.0, eps: float = 1e-4) -> Tensor:
    r"""What the standard deviations of an embedding's variables lack from a target.

    .. math:: v(Z) = \frac1D \sum_j \Big[ \gamma - \sqrt{\operatorname{var}(z_j) + \varepsilon} \Big]^+

    The variance is divided by N − 1. ε is under the root: there the slope of a variable that has collapsed stays
    finite. It is 0 at the very point of collapse, where all samples are equal to the last digit.

    Args:
        z: (N, D), N ≥ 2.
        gamma: γ > 0, in units of the embedding.
        eps: ε > 0, in squared units.

    Returns:
        A scalar from 0 to γ.

    Raises:
        ValueError: a batch of one, values not finite, γ or ε not positive.

    Source: Bardes, Ponce and LeCun, VICReg (ICLR 2022), eqs. 1 and 2.

    >>> variance_hinge(torch.tensor([[1.0, 0.0], [1.0, 9.0]]), eps=0.01)
    tensor(0.4500)
    """
    require_embeddings("z", z, minimum=2)
    require_positive("gamma", gamma)
    return relu(gamma - (z.var(0) + require_positive("eps", eps)).sqrt()).mean()


def covariance_squares(z: Tensor) -> Tensor:
    r"""Squared covariances between the different variables of an embedding.

    .. math:: c(Z) = \frac1D \sum_{i \ne j} C_{ij}^2, \qquad C = \frac{1}{N - 1} \sum_b \tilde z_b \tilde z_b^\top

    Computed in N²D rather than D²N operations where the batch is smaller than the dimension.

    Args:
        z: (N, D), N ≥ 2.

    Returns:
        A scalar ≥ 0.

    Raises:
        ValueError: a batch of one, values not finite.

    Source: Bardes, Ponce and LeCun, VICReg (ICLR 2022), eqs. 3 and 4.

    >>> covariance_squares(torch.tensor([[1.0, 2.0], [-1.0, -2.0]]))  # C₁₂ = 4
    tensor(16.)
    """
    require_embeddings("z", z, minimum=2)
    centred, count, D = z - z.mean(0), len(z), z.shape[1]
    if count < D:  # ‖ZᵀZ‖² = ‖ZZᵀ‖²
        squares = (centred @ centred.T / (count - 1)).square().sum()
        return _not_negative(squares - z.var(0).square().sum()) / D
    return _off_diagonal_squares(centred.T @ centred / (count - 1)) / D


def vicreg(
    z1: Tensor,
    z2: Tensor,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    gamma: float = 1.0,
    eps: float = 1e-4,
) -> VICRegTerms:
    r"""VICReg: views near each other, every variable spread out, no two variables correlated.

    .. math::

        \mathcal L = \frac{\lambda}{ND} \sum_{ij} (z_{ij} - z'_{ij})^2 + \frac{\mu}{2} \big( v(Z) + v(Z') \big)
        + \nu \big( c(Z) + c(Z') \big)

    with v as :func:`variance_hinge` and c as :func:`covariance_squares`. Convention: the authors' code, which lightly
    follows. The paper's equations 5 and 6 have no 1/D in the first term and no ½ in the second; solo-learn has the 1/D
    but no ½. So for the paper's, pass λ D and 2 μ; for solo-learn's, 2 μ.

    Args:
        z1: embeddings of one view, (N, D), N ≥ 2.
        z2: those of the other, (N, D), from the same network or another one.
        invariance: λ ≥ 0.
        variance: μ ≥ 0.
        covariance: ν ≥ 0.
        gamma: as :func:`variance_hinge`.
        eps: as :func:`variance_hinge`.

    Returns:
        A VICRegTerms.

    Raises:
        ValueError: unequal shapes, a batch of one, values not finite, a weight negative, γ or ε not positive.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "VICReg:
    Variance-Invariance-Covariance Regularization"; Bardes, Ponce and LeCun, VICReg (ICLR 2022).

    >>> z = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    >>> vicreg(z, z + 1)
    VICRegTerms(loss=tensor(57.), invariance=tensor(25.), variance=tensor(0.), covariance=tensor(32.))
    """
    require_views(minimum=2, z1=z1, z2=z2)
    for name, weight in (("invariance", invariance), ("variance", variance), ("covariance", covariance)):
        require_weight(name, weight)
    spread = variance_hinge(z1, gamma=gamma, eps=eps) + variance_hinge(z2, gamma=gamma, eps=eps)
    parts = (
        invariance * mse_loss(z1, z2),
        variance / 2 * spread,
        covariance * (covariance_squares(z1) + covariance_squares(z2)),
    )
    return VICRegTerms(sum(parts), *parts)


def _standardized(name: str, z: Tensor, eps: float) -> Tensor:
    variance = z.var(0, correction=0)
    if require_weight("eps", eps) == 0 and has_values(variance) and (variance == 0).any():
        where = int((variance == 0).nonzero()[0])
        raise ValueError(f"{name} must vary in every dimension when eps is 0: dimension {where} does not")
    return (z - z.mean(0)) * (variance + eps).rsqrt()


def _off_diagonal_squares(c: Tensor) -> Tensor:
    diagonal = torch.eye(len(c), dtype=torch.bool, device=c.device)
    return c.masked_fill(diagonal, 0).square().sum()


def _not_negative(x: Tensor) -> Tensor:
    return x - x.detach().clamp(max=0)  # a difference of sums of squares: rounding may carry it below 0
