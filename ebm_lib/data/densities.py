r"""Sets drawn from a density with a closed form, and its logarithm: ground truth for a learned energy.

An energy is known up to a constant and a temperature; :math:`-\log p(y)` is the one with
:math:`\beta = 1` and :math:`Z = 1`. Noise, labels and seeds as in :mod:`ebm_lib.data.curves`, which has the
density of blurred rings.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ebm_lib.data.draw import blur, kind_of, normal, pick_labels, require_plane, shares, uniform
from ebm_lib.require import has_values, require_count, require_finite, require_nonempty, require_positive


def gaussian_mixture(
    n: int,
    means: Tensor,
    *,
    noise: float | Tensor = 0.2,
    weights: Sequence[float] | Tensor | None = None,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Round Gaussians with chosen centres, in any dimension.

    .. math:: p(y) = \sum_k w_k\, \mathcal N(y;\, \mu_k,\, \sigma_k^2 I)

    Its logarithm is :func:`ebm_lib.data.mixture_log_density`.

    Args:
        n: number of points.
        means: the centres μ, (K, D).
        noise: the standard deviation σ, one number or one for each centre, (K,).
        weights: the frequencies w, (K,), in any scale; equal if None. Not used where ``labels`` is given.
        labels: (n,) the centre k of each point; drawn by ``weights`` if None.
        generator: source of randomness.
        dtype: of the result; that of ``means`` if None.
        device: of the result; that of ``means`` if None.

    Returns:
        (n, D).

    Raises:
        ValueError: ``means`` not (K, D) or not finite, ``noise`` negative, ``weights`` or ``labels`` unsound.

    >>> gaussian_mixture(4, torch.zeros(3, 5)).shape
    torch.Size([4, 5])
    """
    if means.ndim != 2:
        raise ValueError(f"means must have shape (K, D), got {tuple(means.shape)}")
    require_finite("means", require_nonempty("means", means, 0))
    dtype, device = kind_of(means, dtype, device)
    means = means.to(dtype=dtype, device=device)
    which = pick_labels(n, len(means), labels, generator, device, weights=weights)
    if not isinstance(noise, Tensor):
        return blur(means[which], noise, generator)
    if noise.shape != (len(means),):
        raise ValueError(f"noise must be a number or have shape ({len(means)},), got shape {tuple(noise.shape)}")
    if has_values(noise) and require_finite("noise", noise).min() < 0:
        raise ValueError(f"noise must be at least 0, got {noise.tolist()}")
    spread = noise.to(dtype=dtype, device=device)[which, None]
    return means[which] + spread * normal((n, means.shape[1]), generator, dtype, device)


def mixture_log_density(
    y: Tensor,
    means: Tensor,
    noise: float | Tensor,
    *,
    weights: Sequence[float] | Tensor | None = None,
) -> Tensor:
    r"""Log density of a mixture of round Gaussians.

    .. math:: \log p(y) = \log\sum_k w_k\,(2\pi\sigma_k^2)^{-D/2}\, e^{-\|y - \mu_k\|^2 / 2\sigma_k^2}

    Args:
        y: points, (..., D).
        means: the centres μ, (K, D), or (..., K, D) where each point has its own, as the roads of a fork.
        noise: the standard deviation σ, positive: one number, or one for each centre, (K,).
        weights: the frequencies w, (K,), in any scale; equal if None.

    Returns:
        (...), in nats, of the dtype of ``y``.

    Raises:
        ValueError: shapes that do not fit, ``noise`` not positive, ``weights`` unsound, values not finite.

    >>> round(mixture_log_density(torch.zeros(1), torch.zeros(1, 1), 1.0).item(), 4)  # -log sqrt(2 pi)
    -0.9189
    """
    if means.ndim < 2 or y.ndim < 1 or means.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"means must have shape (..., K, D) with the D of y, got {tuple(means.shape)} and y {tuple(y.shape)}"
        )
    require_finite("y", y)
    require_finite("means", require_nonempty("means", means, -2))
    means = means.to(dtype=y.dtype, device=y.device)
    parts = means.shape[-2]
    if isinstance(noise, Tensor):
        if noise.shape != (parts,):
            raise ValueError(f"noise must be a number or have shape ({parts},), got shape {tuple(noise.shape)}")
        if has_values(noise) and require_finite("noise", noise).min() <= 0:
            raise ValueError(f"noise must be positive, got {noise.tolist()}")
        noise = noise.to(dtype=y.dtype, device=y.device)
        log_spread = noise.log()
    else:
        log_spread = math.log(require_positive("noise", noise))
    log_parts = -((y[..., None, :] - means) / (noise[..., None] if isinstance(noise, Tensor) else noise)).square()
    log_parts = log_parts.sum(-1) / 2 - y.shape[-1] * (log_spread + math.log(2 * math.pi) / 2)
    weights = torch.ones(parts) if weights is None else weights
    log_weights = shares(weights, parts).log().to(dtype=y.dtype, device=y.device)
    return torch.logsumexp(log_parts + log_weights, -1)


def ring_means(
    components: int = 8,
    radius: float = 2.0,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Centres at equal distances on a circle, the first on the positive horizontal axis.

    .. math:: \mu_k = R\,(\cos(2\pi k/K),\; \sin(2\pi k/K))

    Args:
        components: K.
        radius: R.
        dtype: of the result; torch's default if None.
        device: of the result.

    Returns:
        (K, 2).

    Raises:
        ValueError: ``components`` or ``radius`` not positive.

    >>> ring_means(4, 1.0).round().abs().tolist()
    [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """
    require_count("components", components)
    require_positive("radius", radius)
    dtype, device = kind_of(None, dtype, device)
    angle = torch.arange(components, dtype=dtype, device=device) * (2 * math.pi / components)
    return radius * torch.stack((angle.cos(), angle.sin()), -1)


def ring_of_gaussians(
    n: int,
    *,
    components: int = 8,
    radius: float = 2.0,
    noise: float = 0.2,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""A mixture of equal round Gaussians on a circle: separate modes for a sampler to find.

    .. math:: p(y) = \frac1K\sum_k \mathcal N(y;\, \mu_k,\, \sigma^2 I), \qquad \mu \text{ from } \texttt{ring\_means}

    Args:
        n: number of points.
        components: K.
        radius: of the circle.
        noise: the standard deviation σ of each Gaussian.
        labels: (n,) the Gaussian of each point; drawn with equal chance if None.
        generator: source of randomness.
        dtype: of the result; torch's default if None.
        device: of the result.

    Returns:
        (n, 2).

    Raises:
        ValueError: ``components`` or ``radius`` not positive, ``labels`` unsound, ``noise`` negative.

    >>> ring_of_gaussians(6, components=3).shape
    torch.Size([6, 2])
    """
    dtype, device = kind_of(labels, dtype, device)
    means = ring_means(components, radius, dtype=dtype, device=device)
    return gaussian_mixture(n, means, noise=noise, labels=labels, generator=generator)


def grid_means(
    side: int = 5,
    spacing: float = 1.0,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Centres on a square grid about the origin, column by column.

    .. math:: \mu_{is + j} = a\left(i - \tfrac{s-1}2,\; j - \tfrac{s-1}2\right), \qquad i, j = 0, \dots, s-1

    Args:
        side: s, centres along a side.
        spacing: a, the distance between neighbours.
        dtype: of the result; torch's default if None.
        device: of the result.

    Returns:
        (s², 2).

    Raises:
        ValueError: ``side`` or ``spacing`` not positive.

    >>> grid_means(2, 1.0).tolist()
    [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]
    """
    require_count("side", side)
    require_positive("spacing", spacing)
    dtype, device = kind_of(None, dtype, device)
    line = spacing * (torch.arange(side, dtype=dtype, device=device) - (side - 1) / 2)
    return torch.cartesian_prod(line, line)


def grid_of_gaussians(
    n: int,
    *,
    side: int = 5,
    spacing: float = 1.0,
    noise: float = 0.1,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""A mixture of equal round Gaussians on a square grid: many modes, the test of mode collapse.

    .. math:: p(y) = \frac1{s^2}\sum_k \mathcal N(y;\, \mu_k,\, \sigma^2 I), \qquad
        \mu \text{ from } \texttt{grid\_means}

    Args:
        n: number of points.
        side: s, Gaussians along a side.
        spacing: distance between neighbours.
        noise: the standard deviation σ of each Gaussian.
        labels: (n,) the Gaussian of each point; drawn with equal chance if None.
        generator: source of randomness.
        dtype: of the result; torch's default if None.
        device: of the result.

    Returns:
        (n, 2).

    Raises:
        ValueError: ``side`` or ``spacing`` not positive, ``labels`` unsound, ``noise`` negative.

    >>> grid_of_gaussians(6, side=3).shape
    torch.Size([6, 2])
    """
    dtype, device = kind_of(labels, dtype, device)
    means = grid_means(side, spacing, dtype=dtype, device=device)
    return gaussian_mixture(n, means, noise=noise, labels=labels, generator=generator)


def checkerboard(
    n: int,
    *,
    cells: int = 4,
    half_width: float = 2.0,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Uniform on the dark cells of a checkerboard: a density with jumps.

    .. math:: p(y) = \frac{2}{(2h)^2} \;\text{ where column and row add up to an even number, else } 0

    The board covers :math:`[-h, h)^2`; columns and rows count from its lower left corner, which is dark.

    Args:
        n: number of points.
        cells: cells along a side, an even number.
        half_width: h.
        noise: standard deviation of the noise on each coordinate; with any, the density above is blurred.
        generator: source of randomness.
        dtype: of the result; torch's default if None.
        device: of the result.

    Returns:
        (n, 2).

    Raises:
        ValueError: ``cells`` odd or below 2, ``half_width`` not positive, ``noise`` negative.

    >>> y = checkerboard(100, cells=2, half_width=1.0)
    >>> bool((y[:, 0] * y[:, 1] >= 0).all())
    True
    """
    _require_board(cells, half_width)
    require_count("n", n)
    dtype, device = kind_of(None, dtype, device)
    # The column is free; the row is one of the half that match it; the place in the cell is free again, but for
    # a margin of rounding size, without which a point could round over the edge into a light cell.
    draw = uniform((n, 4), generator, dtype, device)
    col = (draw[:, 0] * cells).floor()
    row = 2 * (draw[:, 1] * (cells // 2)).floor() + col.remainder(2)
    margin = 4 * cells * torch.finfo(dtype).eps
    place = margin + (1 - 2 * margin) * draw[:, 2:]
    y = (torch.stack((col, row), -1) + place) * (2 * half_width / cells) - half_width
    return blur(y, noise, generator)


def checkerboard_log_density(y: Tensor, *, cells: int = 4, half_width: float = 2.0) -> Tensor:
    r"""Log density of a noise-free :func:`ebm_lib.data.checkerboard`: one number on the dark cells, -inf elsewhere.

    .. math:: \log p(y) = \log\frac{2}{(2h)^2} \;\text{ on the dark cells}

    Args:
        y: points, (..., 2).
        cells: cells along a side, an even number.
        half_width: h; the board is :math:`[-h, h)^2`.

    Returns:
        (...), in nats, of the dtype of ``y``.

    Raises:
        ValueError: last dimension not 2, ``cells`` odd, ``half_width`` not positive, values not finite.

    >>> checkerboard_log_density(torch.tensor([[-0.5, -0.5], [-0.5, 0.5]]), cells=2, half_width=1.0).exp().tolist()
    [0.5, 0.0]
    """
    require_plane("y", y)
    _require_board(cells, half_width)
    index = ((y + half_width) * (cells / (2 * half_width))).floor()
    dark = (index.sum(-1).remainder(2) == 0) & ((index >= 0) & (index < cells)).all(-1)
    level = math.log(2 / (2 * half_width) ** 2)
    return torch.full(dark.shape, level, dtype=y.dtype, device=y.device).masked_fill(~dark, -math.inf)


def _require_board(cells: int, half_width: float) -> None:
    require_count("cells", cells, minimum=2)
    if cells % 2:
        raise ValueError(f"cells must be even, so that dark and light cells cover the same area, got {cells}")
    require_positive("half_width", half_width)
