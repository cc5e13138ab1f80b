r"""SIGReg: the embeddings of a batch should look like draws from an isotropic Gaussian, in every direction.

.. math:: z \sim \mathcal N(0, I) \iff a \cdot z \sim \mathcal N(0, 1) \text{ for every direction } a

so a test of normality on random one-dimensional projections is a regulariser of the whole distribution.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from ebm_lib.data.draw import kind_of, normal
from ebm_lib.joint._require import require_embeddings, require_weight, unit
from ebm_lib.require import has_values, require_count, require_points, require_positive


class LeJEPATerms(NamedTuple):
    """LeJEPA's criterion and what it is the sum of, each with its weight.

    Attributes:
        loss: the sum.
        prediction: squared distance of all views to the mean of the large ones.
        gaussianity: SIGReg of all views.
    """

    loss: Tensor
    prediction: Tensor
    gaussianity: Tensor


def epps_pulley(x: Tensor, *, knots: int = 17, t_max: float = 3.0) -> Tensor:
    r"""Epps–Pulley statistic: how far the empirical characteristic function is from that of N(0, 1).

    .. math::

        T = N \int_{-t_{\max}}^{t_{\max}} \Big| \frac1N \sum_n e^{i t x_n} - e^{-t^2/2} \Big|^2 e^{-t^2/2}\,dt

    by the trapezoidal rule, on t ≥ 0 alone since the integrand is even. Against the whole line it has the closed form
    :math:`\sqrt{2\pi}\,\big(\frac1N \sum_{jk} e^{-(x_j - x_k)^2/2} - \sqrt2 \sum_j e^{-x_j^2/4} + N/\sqrt3\big)`. Slope
    and value stay bounded however far the samples are off.

    Convention: the authors' code, with 17 knots on [0, 3] and the factor N. The paper's algorithm has 17 on [−5, 5],
    which are ``knots=9, t_max=5.0`` here; without the factor N divide by it.

    Args:
        x: samples, (..., N).
        knots: points of the rule on [0, t_max], at least 2.
        t_max: > 0, in inverse units of x.

    Returns:
        One number for each sample set, (...), ≥ 0.

    Raises:
        ValueError: no samples, values not finite, knots or t_max out of range.

    Source: Epps and Pulley, A test for normality based on the empirical characteristic function (Biometrika 70, 1983);
    Balestriero and LeCun, LeJEPA (arXiv:2511.08544, 2025), section 4.2.

    >>> x = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    >>> [round(epps_pulley(x * scale).item(), 1) for scale in (1.0, 0.5)]
    [0.2, 292.9]
    """
    require_points("x", x)
    require_count("knots", knots, minimum=2)
    t = torch.linspace(0, require_positive("t_max", t_max), knots, dtype=x.dtype, device=x.device)
    target = (-t.square() / 2).exp()
    weight = 2 * t_max / (knots - 1) * target
    weight[0], weight[-1] = weight[0] / 2, weight[-1] / 2
    # e^{i(k+1)tx} = e^{iktx} e^{itx}: one cosine and one sine of each sample serve all knots
    cos, sin = (x * t[1]).cos(), (x * t[1]).sin()
    real, imaginary, gaps = torch.ones_like(x), torch.zeros_like(x), []
    for k in range(knots):
        gaps.append((real.mean(-1) - target[k]).square() + imaginary.mean(-1).square())
        real, imaginary = real * cos - imaginary * sin, imaginary * cos + real * sin
    return x.shape[-1] * (torch.stack(gaps, -1) @ weight)


def random_directions(
    D: int,
    count: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw directions uniformly from the unit sphere, as columns, (D, count).

    Raises:
        ValueError: sizes below 1, a dtype that is not floating point.

    >>> random_directions(3, 5).norm(dim=0).allclose(torch.ones(5))
    True
    """
    shape = (require_count("count", count), require_count("D", D))
    drawn = normal(shape, generator, *kind_of(None, dtype, device))
    return unit("directions", drawn).T


def sigreg(
    z: Tensor,
    *,
    slices: int = 256,
    knots: int = 17,
    t_max: float = 3.0,
    directions: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""SIGReg: the mean Epps–Pulley statistic over random directions, drawn anew at each call.

    .. math:: \text{SIGReg}(Z) = \frac{1}{|A|} \sum_{a \in A} T\big(\{a \cdot z_n\}_{n=1}^N\big)

    Convention: with the factor N of :func:`epps_pulley`, as the paper, its code and lightly have it: the statistic of
    a perfect batch does not depend on N, that of a collapsed one grows with it. A version without it is 1/N of this.

    Args:
        z: (N, D), N ≥ 2.
        slices: how many directions: 256 in the authors' minimal code, 1,024 in lightly.
        knots: as :func:`epps_pulley`.
        t_max: as :func:`epps_pulley`.
        directions: unit vectors as columns, (D, A), in place of random ones.
        generator: where they come from.

    Returns:
        A scalar ≥ 0.

    Raises:
        ValueError: a batch of one, values not finite, directions of another width or not of length 1.

    Source: Balestriero and LeCun, LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics
    (arXiv:2511.08544, 2025), definition of SIGReg and algorithm 1.

    >>> z = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    >>> [bool(sigreg(v) > 10) for v in (z, torch.zeros(512, 8), z[:, :1].expand(-1, 8))]
    [False, True, True]
    """
    require_embeddings("z", z, minimum=2)
    directions = _directions(z, slices, directions, generator)
    return epps_pulley(directions.T @ z.T, knots=knots, t_max=t_max).mean()


def lejepa(
    views: Sequence[Tensor],
    *,
    weight: float = 0.05,
    targets: int | None = None,
    slices: int = 256,
    knots: int = 17,
    t_max: float = 3.0,
    directions: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> LeJEPATerms:
    r"""LeJEPA: all views near the mean of the large ones, and the embeddings Gaussian by :func:`sigreg`.

    .. math::

        \mathcal L = \frac{1 - \lambda}{VND} \sum_v \sum_n \Big\lVert z_{v,n} - \frac{1}{V_g} \sum_{g=1}^{V_g} z_{g,n}
        \Big\rVert^2 + \frac{\lambda}{V} \sum_v \text{SIGReg}(Z_v)

    No stop-gradient, no teacher, no predictor. Convention: the authors' code and lightly's ``LeJEPALoss``, the mean
    over dimensions where the paper has the squared length. All views share the directions.

    Args:
        views: embeddings, each (N, D); at least two views.
        weight: λ from 0 to 1; the authors use 0.01 to 0.1.
        targets: V_g, how many of the first views make the mean; None takes all.
        slices: as :func:`sigreg`.
        knots: as :func:`sigreg`.
        t_max: as :func:`sigreg`.
        directions: as :func:`sigreg`.
        generator: as :func:`sigreg`.

    Returns:
        A LeJEPATerms.

    Raises:
        ValueError: fewer than two views, unequal shapes, values not finite, λ or V_g out of range.

    Source: Balestriero and LeCun, LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics
    (arXiv:2511.08544, 2025), equation of the loss and algorithm 2.

    >>> z = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    >>> loss, prediction, gaussianity = lejepa([z, z + 1], weight=0.05)
    >>> round(prediction.item(), 4), bool(gaussianity > 1)
    (0.2375, True)
    """
    targets = len(views) if targets is None else require_count("targets", targets)
    if len(views) < 2 or targets > len(views):
        raise ValueError(f"views must be at least two, 1 to all of them targets, got {len(views)} and {targets}")
    for v, z in enumerate(views):
        require_embeddings(f"views[{v}]", z, minimum=2)
        if z.shape != views[0].shape:
            raise ValueError(f"views[{v}] must have shape {tuple(views[0].shape)}, got {tuple(z.shape)}")
    if require_weight("weight", weight) > 1:
        raise ValueError(f"weight must be at most 1, got {weight}")
    directions = _directions(views[0], slices, directions, generator)
    centre = sum(views[:targets]) / targets
    distance = sum(mse_loss(z, centre) for z in views) / len(views)
    normality = sum(sigreg(z, knots=knots, t_max=t_max, directions=directions) for z in views) / len(views)
    parts = (1 - weight) * distance, weight * normality
    return LeJEPATerms(sum(parts), *parts)


def _directions(z: Tensor, slices: int, given: Tensor | None, generator: torch.Generator | None) -> Tensor:
    if given is None:
        require_count("slices", slices)
        return random_directions(z.shape[1], slices, generator=generator, dtype=z.dtype, device=z.device)
    if given.ndim != 2 or len(given) != z.shape[1] or given.shape[1] == 0 or given.dtype != z.dtype:
        raise ValueError(
            f"directions must be ({z.shape[1]}, A), columns of length 1 in {z.dtype}, "
            f"got {tuple(given.shape)} in {given.dtype}"
        )
    if has_values(given):
        off = (torch.linalg.vector_norm(given.detach(), dim=0) - 1).abs()
        if not (off < torch.finfo(given.dtype).eps ** 0.5).all():
            raise ValueError(f"directions must be columns of length 1, and one is off by {off.max().item():.3g}")
    return given
