"""Data sets of pairs (x, y) in which one x has many right answers y: what a regression cannot say.

Drawn anew at each call, as the sets of :mod:`ebm_lib.data.curves`, with the noise on y as the last draw.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.data.draw import blur, column, kind_of, pick_labels
from ebm_lib.require import require_count, require_finite, require_positive


class Pairs(NamedTuple):
    """Observed x and what was seen with it.

    Attributes:
        x: (n, 1).
        y: (n, D).
    """

    x: Tensor
    y: Tensor


def ellipse_radii(
    x: Tensor,
    *,
    first: Sequence[float] = (2.0, 1.5),
    last: Sequence[float] = (1.5, 2.0),
    growth: float = 2.0,
) -> Tensor:
    r"""The half axes of the ellipse that belongs to each x.

    .. math:: r(x) = e^{g x}\,\bigl((1 - x)\,a + x\,b\bigr)

    Args:
        x: (..., 1); the family is meant for x in [0, 1].
        first: a, the half axes (r₁, r₂) at x = 0.
        last: b, the half axes at x = 1, before growth.
        growth: g; 0 turns the family's growth off, and the sizes stay between a and b.

    Returns:
        (..., 2).

    Raises:
        ValueError: last dimension of ``x`` not 1, half axes not two positive numbers, values not finite.

    Source: Canziani, practicum "Inference for latent variable energy-based models" (NYU Deep Learning, spring
    2020, week 15): the horn.

    >>> ellipse_radii(torch.tensor([[0.0], [1.0]]), growth=0.0).tolist()
    [[2.0, 1.5], [1.5, 2.0]]
    """
    if x.ndim < 1 or x.shape[-1] != 1:
        raise ValueError(f"x must have shape (..., 1), got {tuple(x.shape)}")
    require_finite("x", x)
    if not math.isfinite(growth):
        raise ValueError(f"growth must be finite, got {growth}")
    for name, pair in (("first", first), ("last", last)):
        if len(pair) != 2:
            raise ValueError(f"{name} must be two positive numbers (r1, r2), got {len(pair)} of them")
        for i, r in enumerate(pair):
            require_positive(f"{name}[{i}]", r)
    a, b = (torch.tensor(pair, dtype=x.dtype, device=x.device) for pair in (first, last))
    return (growth * x).exp() * ((1 - x) * a + x * b)


def ellipse_family(
    n: int,
    *,
    first: Sequence[float] = (2.0, 1.5),
    last: Sequence[float] = (1.5, 2.0),
    growth: float = 2.0,
    noise: float = 0.05,
    x: Tensor | None = None,
    z: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Pairs:
    r"""A family of ellipses, one for each x, with the angle unseen: the horn.

    .. math:: y = (r_1(x) \sin z,\; r_2(x) \cos z) + \epsilon, \qquad x \sim U[0, 1),\; z \sim U[0, 2\pi)

    with the half axes r(x) of :func:`ellipse_radii`. A regression from x to y can only answer the centre.

    Args:
        n: number of pairs.
        first: half axes at x = 0.
        last: half axes at x = 1, before growth.
        growth: rate of the exponential growth with x.
        noise: standard deviation of ε.
        x: (n, 1); drawn uniformly from [0, 1) if None.
        z: angles in radians, (n, 1); drawn uniformly if None.
        generator: source of randomness.
        dtype: of the result; that of ``x`` (else ``z``) if None, else torch's default.
        device: of the result; that of ``x`` (else ``z``) if None.

    Returns:
        :class:`Pairs` with x (n, 1) and y (n, 2).

    Raises:
        ValueError: shapes of ``x`` or ``z`` that do not fit, half axes not positive, ``noise`` negative.

    Source: as :func:`ellipse_radii`, with the angle's place as in LeCun, The Energy-Based View of
    Self-Supervised Learning (GTC 2021), where sine goes with the first axis.

    >>> x, y = ellipse_family(100, noise=0.0)
    >>> bool(((y / ellipse_radii(x)).square().sum(-1) - 1).abs().max() < 1e-5)
    True
    """
    dtype, device = kind_of(x if x is not None else z, dtype, device)
    x = column("x", n, x, generator, dtype, device)
    angle = column("z", n, z, generator, dtype, device, high=2 * math.pi)
    radii = ellipse_radii(x, first=first, last=last, growth=growth)
    return Pairs(x, blur(radii * torch.cat((angle.sin(), angle.cos()), -1), noise, generator))


def fork_roads(x: Tensor, *, branches: int = 2, split: float = 0.25, spread: float = 1.0) -> Tensor:
    r"""Where each road of the fork runs at distance x: all the right answers for y.

    .. math:: f_k(x) = c_k\, t^2 (3 - 2t), \qquad t = \min\!\left(1, \max\!\left(0, \frac{x - s}{1 - s}\right)\right)

    with :math:`c_k` equally spaced from -spread to spread: one road up to the split s, then one for each branch.

    Args:
        x: distance travelled, (..., 1); the roads end at x = 1.
        branches: number of roads after the split, at least 2.
        split: s, in [0, 1).
        spread: how far the outermost roads are from the middle at x = 1.

    Returns:
        (..., branches), lateral positions in increasing order (all equal before the split).

    Raises:
        ValueError: last dimension of ``x`` not 1, ``branches`` below 2, ``split`` outside [0, 1), ``spread`` not
            positive, values not finite.

    >>> fork_roads(torch.tensor([[0.0], [1.0]]), branches=3).abs().tolist()
    [[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]]
    """
    if x.ndim < 1 or x.shape[-1] != 1:
        raise ValueError(f"x must have shape (..., 1), got {tuple(x.shape)}")
    require_finite("x", x)
    require_count("branches", branches, minimum=2)
    require_positive("spread", spread)
    if not 0 <= split < 1:
        raise ValueError(f"split must lie in [0, 1), got {split}")
    t = ((x - split) / (1 - split)).clamp(0, 1)
    return torch.linspace(-spread, spread, branches, dtype=x.dtype, device=x.device) * (t * t * (3 - 2 * t))


def fork(
    n: int,
    *,
    branches: int = 2,
    split: float = 0.25,
    spread: float = 1.0,
    noise: float = 0.03,
    weights: Sequence[float] | Tensor | None = None,
    x: Tensor | None = None,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Pairs:
    r"""The fork in the road: one x, several futures y, and their average is off every road.

    .. math:: y = f_k(x) + \epsilon, \qquad x \sim U[0, 1),\; k \sim w, \qquad
        p(y \mid x) = \sum_k w_k\, \mathcal N(y;\, f_k(x),\, \sigma^2)

    with the roads f of :func:`fork_roads`. The exact log density is
    ``mixture_log_density(y, fork_roads(x)[..., None], noise, weights=weights)``.

    Args:
        n: number of pairs.
        branches: number of roads after the split.
        split: the distance at which the road forks, in [0, 1).
        spread: how far the outermost roads end from the middle.
        noise: σ, the standard deviation of ε.
        weights: (branches,) how often each road is taken, in any scale; equal if None.
        x: distance travelled, (n, 1); drawn uniformly from [0, 1) if None.
        labels: (n,) the road k that each takes; drawn by ``weights`` if None.
        generator: source of randomness.
        dtype: of the result; that of ``x`` if None, else torch's default.
        device: of the result; that of ``x`` if None.

    Returns:
        :class:`Pairs` with x (n, 1) and y (n, 1).

    Raises:
        ValueError: arguments of :func:`fork_roads` out of range, ``x``, ``labels`` or ``weights`` unsound,
            ``noise`` negative.

    Source: our example for LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), slide
    "Energy-Based Models", where one input has several possible outputs.

    >>> x, y = fork(4, x=torch.ones(4, 1), labels=torch.tensor([0, 1, 0, 1]), noise=0.0)
    >>> y.flatten().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """
    dtype, device = kind_of(x if x is not None else labels, dtype, device)
    x = column("x", n, x, generator, dtype, device)
    roads = fork_roads(x, branches=branches, split=split, spread=spread)
    road = pick_labels(n, branches, labels, generator, x.device, weights=weights)
    return Pairs(x, blur(roads.gather(-1, road[:, None]), noise, generator))
