r"""Measures of a representation without labels: how far it is spread, over how many dimensions, and how evenly.

.. math:: \text{collapse} = \text{the embeddings of different samples are, or lie along, almost the same}
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.joint._require import require_embeddings, require_views, unit
from ebm_lib.require import require_positive


class Collapse(NamedTuple):
    """A verdict and the numbers it was reached by.

    Attributes:
        verdict: ``"none"``, ``"complete"`` or ``"dimensional"``.
        spread: relative spread, from 0 to 1.
        rank: effective rank of the centred embeddings.
    """

    verdict: str
    spread: float
    rank: float


@torch.no_grad()
def spread(z: Tensor) -> Tensor:
    """Standard deviation of each dimension over the samples, (D,), in units of the embedding (divided by N − 1).

    Raises:
        ValueError: fewer than two samples, values not finite.

    >>> spread(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))
    tensor([1.4142, 0.0000])
    """
    require_embeddings("z", z, minimum=2)
    return z.std(0)


@torch.no_grad()
def relative_spread(z: Tensor) -> Tensor:
    r"""How much of the embeddings' length is due to what differs between samples, a scalar from 0 to 1.

    .. math:: \sqrt{\frac{\frac1N \sum_i \lVert z_i - \bar z \rVert^2}{\frac1N \sum_i \lVert z_i \rVert^2}}

    0 where all are equal, 1 where their mean is zero; it does not depend on their scale. All zero counts as equal.

    Raises:
        ValueError: fewer than two samples, values not finite.

    >>> relative_spread(torch.tensor([[3.0, 4.0], [3.0, -4.0]]))
    tensor(0.8000)
    """
    require_embeddings("z", z, minimum=2)
    z = z / z.abs().amax().clamp(min=torch.finfo(z.dtype).tiny)
    total = z.square().sum()
    return torch.where(total > 0, (z - z.mean(0)).square().sum() / total, 0).clamp(max=1).sqrt()


@torch.no_grad()
def effective_rank(z: Tensor, *, center: bool = False) -> Tensor:
    r"""Effective rank: over how many directions a set of embeddings is spread.

    .. math:: \text{erank} = e^{H(p)}, \qquad p_k = \frac{\sigma_k}{\sum_j \sigma_j}

    with σ the singular values of the N × D matrix. From 1 to min(N, D); 0 for a matrix of zeros. Convention: Roy and
    Vetterli's, uncentred, which is also RankMe up to the 1e-7 that the latter adds to each p. Variances in place of
    standard deviations would give a smaller number.

    Args:
        z: (N, D), N ≥ 2; RankMe wants many more than D.
        center: subtract the mean first, so that a common offset is no direction.

    Returns:
        A scalar.

    Raises:
        ValueError: fewer than two samples, values not finite.

    Source: Roy and Vetterli, The effective rank (EUSIPCO 2007); Garrido, Balestriero, Najman and LeCun, RankMe (ICML
    2023).

    >>> effective_rank(torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0])))
    tensor(3.)
    """
    require_embeddings("z", z, minimum=2)
    points = z.double()
    rounding = max(z.shape) * torch.finfo(points.dtype).eps * torch.linalg.vector_norm(points)
    sigma = torch.linalg.svdvals(points - points.mean(0) if center else points)
    # What rounding leaves of a mean that was subtracted is no direction
    sigma = torch.where(sigma > rounding, sigma, 0)
    p = sigma / sigma.sum().clamp(min=torch.finfo(sigma.dtype).tiny)
    return torch.where(sigma[0] > 0, (-torch.xlogy(p, p).sum()).exp(), 0).to(z.dtype)


@torch.no_grad()
def alignment(z1: Tensor, z2: Tensor, *, power: float = 2.0) -> Tensor:
    r"""How far apart the two views of a sample are on the unit sphere; low is good.

    .. math:: \ell_{\text{align}} = \frac1N \sum_i \lVert \bar z_{1,i} - \bar z_{2,i} \rVert^\alpha

    Args:
        z1: (N, D).
        z2: (N, D).
        power: α > 0.

    Returns:
        A scalar, from 0 to 2 to the power α.

    Raises:
        ValueError: unequal shapes, values not finite, a zero vector, α not positive.

    Source: Wang and Isola, Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere (ICML 2020).

    >>> alignment(torch.tensor([[1.0, 0.0]]), torch.tensor([[-3.0, 0.0]]))
    tensor(4.)
    """
    require_views(z1=z1, z2=z2)
    require_positive("power", power)
    return torch.linalg.vector_norm(unit("z1", z1) - unit("z2", z2), dim=-1).pow(power).mean()


@torch.no_grad()
def uniformity(z: Tensor, *, t: float = 2.0) -> Tensor:
    r"""How evenly the embeddings cover the unit sphere; low is good.

    .. math:: \ell_{\text{uniform}} = \log \frac{2}{N(N-1)} \sum_{i < j} e^{-t \lVert \bar z_i - \bar z_j \rVert^2}

    0 where all are equal; for many points spread evenly in many dimensions it tends to −2t.

    Args:
        z: (N, D), N ≥ 2.
        t: > 0.

    Returns:
        A scalar, from −4t to 0.

    Raises:
        ValueError: fewer than two samples, values not finite, a zero vector, t not positive.

    Source: Wang and Isola, Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere (ICML 2020).

    >>> uniformity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))
    tensor(-8.)
    """
    require_embeddings("z", z, minimum=2)
    require_positive("t", t)
    z = unit("z", z)
    pairs = (z @ z.T)[*torch.triu_indices(len(z), len(z), 1, device=z.device)]
    return (-2 * t * (1 - pairs).clamp(min=0)).logsumexp(0) - math.log(len(z) * (len(z) - 1) / 2)


@torch.no_grad()
def collapse(z: Tensor, *, spread_below: float = 0.1, rank_below: float = 2.0) -> Collapse:
    r"""Tell whether embeddings have collapsed, to a point or to a line.

    Complete: the relative spread is under ``spread_below``, so that all samples have nearly the same embedding.
    Dimensional: the effective rank of the centred embeddings is under ``rank_below``, so that what differs between
    samples lies along little more than one direction. Apply it to embeddings, what the loss sees: a representation that
    is a mean of rectified features has a large mean without being collapsed.

    Args:
        z: (N, D), N ≥ 2; many more than D.
        spread_below: threshold of :func:`relative_spread`.
        rank_below: threshold of :func:`effective_rank`, centred.

    Returns:
        A Collapse.

    Raises:
        ValueError: fewer than two samples, values not finite, thresholds not positive.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Joint Embedding Architectures &
    Methods to prevent collapse."; Jing, Vincent, LeCun and Tian, Understanding Dimensional Collapse in Contrastive
    Self-supervised Learning (ICLR 2022).

    >>> noise = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    >>> [collapse(z).verdict for z in (noise, 5 + 0.01 * noise, noise[:, :1].expand(-1, 16))]
    ['none', 'complete', 'dimensional']
    """
    require_positive("spread_below", spread_below)
    require_positive("rank_below", rank_below)
    width, rank = relative_spread(z).item(), effective_rank(z, center=True).item()
    verdict = "complete" if width < spread_below else "dimensional" if rank < rank_below else "none"
    return Collapse(verdict, width, rank)
