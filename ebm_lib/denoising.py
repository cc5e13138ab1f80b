r"""Denoising: corrupt a point and learn the way back, a contrastive method with negatives of known height.

.. math:: \hat y = \text{corrupt}(y), \qquad r_w(\hat y) \approx y, \qquad F_w(y) = \lVert y - r_w(y) \rVert^2

A function r that undoes the corruption leaves good points where they are and moves bad ones by the distance to the
data: the energy F is low on the data and, at a corrupted point, about the squared distance back. The corruptions draw
ŷ; :func:`denoising_loss` trains r; :func:`optimal_denoiser` is the best r there is when the noise is Gaussian, and
:func:`denoiser_of` and :func:`score_of` go from an energy to its denoiser and from a denoiser to its score.

A denoiser is any callable (..., D) → (..., D).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.data.densities import shares
from ebm_lib.data.draw import normal, uniform
from ebm_lib.energy import Energy
from ebm_lib.nn import random_mask
from ebm_lib.require import has_values, require_count, require_finite, require_points, require_positive
from ebm_lib.score import Field, score

Denoiser = Callable[[Tensor], Tensor]


class Corrupted(NamedTuple):
    """Corrupted points and where they were corrupted.

    Attributes:
        y_hat: ŷ, (..., D).
        mask: (..., D) bool, true where the coordinate was drawn anew or hidden.
    """

    y_hat: Tensor
    mask: Tensor


def add_noise(y: Tensor, sigma: float | Tensor, *, generator: torch.Generator | None = None) -> Corrupted:
    r"""Corrupt every coordinate by Gaussian noise.

    .. math:: \hat y = y + \sigma\,\xi, \qquad \xi \sim \mathcal N(0, I)

    Args:
        y: (..., D), floating point.
        sigma: σ > 0, in units of y: a number, or one for each point, (...).
        generator: source of randomness.

    Returns:
        A Corrupted, whose mask is true everywhere.

    Raises:
        ValueError: y not finite or not floating point, σ not positive and finite or of another shape.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods in NLP / Denoising
    AE / Masked AE"; Vincent, Larochelle, Lajoie, Bengio and Manzagol, Stacked Denoising Autoencoders (JMLR 2010).

    >>> add_noise(torch.zeros(4, 2), 0.5).mask.all()
    tensor(True)
    """
    require_points("y", y)
    noise = normal(y.shape, generator, y.dtype, y.device)
    return Corrupted(y + _require_sigma(sigma, y) * noise, torch.ones_like(y, dtype=torch.bool))


def hide(y: Tensor, p: float, *, value: float = 0.0, generator: torch.Generator | None = None) -> Corrupted:
    r"""Hide each coordinate with probability p: masking noise.

    .. math:: \hat y_i = \begin{cases} v & \text{with probability } p \\ y_i & \text{otherwise} \end{cases}

    Args:
        y: (..., D), floating point.
        p: from 0 to 1, for each coordinate on its own. (The paper hides a fixed number of them: p is their share.)
        value: v, what stands where something was hidden.
        generator: source of randomness.

    Returns:
        A Corrupted, whose mask is true where a coordinate was hidden.

    Raises:
        ValueError: y not finite or not floating point, p not a probability.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods in NLP / Denoising
    AE / Masked AE"; Vincent, Larochelle, Bengio and Manzagol, Extracting and Composing Robust Features with Denoising
    Autoencoders (ICML 2008).

    >>> hide(torch.ones(1, 3), 1.0, value=-1.0).y_hat
    tensor([[-1., -1., -1.]])
    """
    require_points("y", y)
    mask = random_mask(y.shape, p, generator=generator, device=y.device)
    return Corrupted(y.masked_fill(mask, value), mask)


def salt_and_pepper(
    y: Tensor, p: float, *, low: float = 0.0, high: float = 1.0, generator: torch.Generator | None = None
) -> Corrupted:
    r"""Set each coordinate with probability p to one of two extremes, by the toss of a coin.

    .. math:: \hat y_i = \begin{cases} \text{low or high, each with probability } p/2 \\ y_i & \text{otherwise}
        \end{cases}

    Args:
        y: (..., D), floating point.
        p: from 0 to 1.
        low: pepper.
        high: salt, not below ``low``.
        generator: source of randomness.

    Returns:
        A Corrupted, whose mask is true where a coordinate was set, even to what it was before.

    Raises:
        ValueError: y not finite or not floating point, p not a probability, high below low.

    Source: Vincent, Larochelle, Lajoie, Bengio and Manzagol, Stacked Denoising Autoencoders (JMLR 2010), section 3.3.

    >>> salt_and_pepper(torch.full((1, 500), 0.5), 1.0).y_hat.unique()
    tensor([0., 1.])
    """
    require_points("y", y)
    if not low <= high:
        raise ValueError(f"high must be at least low, got low {low} and high {high}")
    mask = random_mask(y.shape, p, generator=generator, device=y.device)
    salt = random_mask(y.shape, 0.5, generator=generator, device=y.device)
    grains = torch.full_like(y, low).masked_fill(salt, high)
    return Corrupted(torch.where(mask, grains, y), mask)


def hide_blocks(
    y: Tensor,
    shape: tuple[int, int],
    size: tuple[int, int],
    *,
    count: int = 1,
    value: float = 0.0,
    generator: torch.Generator | None = None,
) -> Corrupted:
    r"""Hide rectangles of an image: neighbours that could tell what is missing go together.

    .. math:: \hat y_{ij} = v \;\text{ where } a \le i < a + h,\; b \le j < b + w,
        \qquad a \sim U\{0, \dots, H - h\},\; b \sim U\{0, \dots, W - w\}

    Args:
        y: images row by row, (..., H·W), floating point.
        shape: (H, W).
        size: (h, w) of the rectangle.
        count: rectangles in each image; they may overlap.
        value: v, what stands where something was hidden.
        generator: source of randomness.

    Returns:
        A Corrupted, whose mask is true where a pixel was hidden.

    Raises:
        ValueError: y not finite or not floating point, sizes that do not fit, count below 1.
        TypeError: sizes or count not whole numbers.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Denoising AE in continuous domains?";
    Pathak, Krähenbühl, Donahue, Darrell and Efros, Context Encoders: Feature Learning by Inpainting (CVPR 2016).

    >>> hide_blocks(torch.ones(1, 12), (3, 4), (3, 4)).y_hat.sum()
    tensor(0.)
    """
    require_points("y", y)
    require_count("count", count)
    for name, pair in (("shape", shape), ("size", size)):
        if len(pair) != 2:
            raise ValueError(f"{name} must be two numbers, of rows and of columns, got {tuple(pair)}")
        for number in pair:
            require_count(name, number, minimum=0)
    if shape[0] * shape[1] != y.shape[-1]:
        raise ValueError(f"shape must be that of the images, H·W = {y.shape[-1]}, got {tuple(shape)}")
    mask = torch.ones(*y.shape[:-1], count, *shape, dtype=torch.bool, device=y.device)
    for axis, (whole, part) in enumerate(zip(shape, size, strict=True)):
        if not 1 <= part <= whole:
            raise ValueError(f"size must lie from 1 to the image's {tuple(shape)}, got {tuple(size)}")
        draw = uniform((*y.shape[:-1], count, 1), generator, torch.float64, y.device)
        start = (draw * (whole - part + 1)).long()
        line = torch.arange(whole, device=y.device)
        inside = (line >= start) & (line < start + part)
        mask = mask & inside.unsqueeze(-1 if axis == 0 else -2)
    mask = mask.any(-3).flatten(-2)
    return Corrupted(y.masked_fill(mask, value), mask)


def denoising_loss(denoiser: Denoiser, y: Tensor, y_hat: Tensor, *, mask: Tensor | None = None) -> Tensor:
    r"""Squared distance between the clean point and what the denoiser makes of the corrupted one.

    .. math:: \mathcal L = \lVert r(\hat y) - y \rVert^2, \qquad
        \mathcal L_\text{mask} = \sum_{i \text{ hidden}} \big(r(\hat y)_i - y_i\big)^2

    Its optimum is the mean of the clean points that could have become ŷ, :math:`r(\hat y) = \mathbb E[y \mid \hat y]`:
    for Gaussian noise :func:`optimal_denoiser`, for images a blur. With a mask only what was hidden counts, as in a
    masked auto-encoder.

    Args:
        denoiser: r, (..., D) → (..., D).
        y: the clean points, (..., D).
        y_hat: the corrupted ones, of the same shape.
        mask: bool, of the same shape: which coordinates count; all if None.

    Returns:
        One value per point, (...), ≥ 0: a sum over coordinates, and no factor ½.

    Raises:
        ValueError: points, mask or output of different shapes, not finite, or a mask that is not bool.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods in NLP / Denoising
    AE / Masked AE"; Vincent, Larochelle, Bengio and Manzagol, Extracting and Composing Robust Features with Denoising
    Autoencoders (ICML 2008).

    >>> denoising_loss(lambda y: 0 * y, torch.tensor([[3.0, 4.0]]), torch.tensor([[5.0, 5.0]]))
    tensor([25.])
    """
    require_points("y", y)
    require_points("y_hat", y_hat)
    if y_hat.shape != y.shape:
        raise ValueError(f"y_hat must have the shape of y, {tuple(y.shape)}, got {tuple(y_hat.shape)}")
    error = (_restored(denoiser, y_hat) - y).square()
    if mask is not None:
        if mask.shape != y.shape or mask.dtype != torch.bool:
            raise ValueError(f"mask must be bool of shape {tuple(y.shape)}, got {mask.dtype} of {tuple(mask.shape)}")
        error = error * mask
    return error.sum(-1)


def reconstruction_energy(denoiser: Denoiser) -> Energy:
    r"""The energy of an auto-encoder: how far it moves a point.

    .. math:: F(y) = \lVert y - r(y) \rVert^2

    For the optimal denoiser of Gaussian noise it is :math:`\sigma^4 \lVert \nabla F_\sigma(y) \rVert^2`, where
    :math:`F_\sigma = -\log p_\sigma` is the energy of the data smoothed by the noise: it is not :math:`F_\sigma`, but
    its squared slope. So it is low on the data and also wherever else that slope is 0: on the ridge half way between
    two branches of the data, and far away only as far as the noise reached.

    Args:
        denoiser: r, an auto-encoder of any kind.

    Returns:
        F, an energy of y, ≥ 0.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods in NLP / Denoising
    AE / Masked AE"; Zhao, Mathieu and LeCun, Energy-Based Generative Adversarial Networks (ICLR 2017), which takes the
    root of it.

    >>> reconstruction_energy(lambda y: y / 2)(torch.tensor([[2.0, 4.0]]))
    tensor([5.])
    """
    return lambda y: (y - _restored(denoiser, y)).square().sum(-1)


def optimal_denoiser(
    y_hat: Tensor,
    data: Tensor,
    sigma: float | Tensor,
    *,
    noise: float = 0.0,
    weights: Sequence[float] | Tensor | None = None,
) -> Tensor:
    r"""The best denoiser there is for Gaussian noise, in closed form: for a finite data set, or a Gaussian mixture.

    .. math::

        & r_*(\hat y) = \mathbb E[y \mid \hat y] = \sum_k s_k\,\big(\mu_k + \tfrac{\tau^2}{\tau^2 + \sigma^2}
        (\hat y - \mu_k)\big), \\
        & s_k \propto w_k\, e^{-\lVert \hat y - \mu_k \rVert^2 / 2(\tau^2 + \sigma^2)}

    for data from round Gaussians of standard deviation τ about μ; at τ = 0 the data are the points μ themselves, and r
    is an average of them, weighted by nearness. It equals Tweedie's formula :math:`\hat y + \sigma^2 \nabla \log
    p_\sigma(\hat y)`, with :math:`\log p_\sigma` from :func:`ebm_lib.data.mixture_log_density` at the standard
    deviation :math:`\sqrt{\tau^2 + \sigma^2}`: its residual is σ² times the score of the smoothed density.

    Args:
        y_hat: (..., D).
        data: μ, (N, D).
        sigma: σ > 0 of the noise to undo: a number, or one for each point, (...).
        noise: τ ≥ 0 of the data about μ.
        weights: w, (N,), in any scale; equal if None.

    Returns:
        (..., D).

    Raises:
        ValueError: shapes that do not fit, values or their squared distances not finite, σ not positive, τ negative,
            weights unsound.

    Source: Efron, Tweedie's Formula and Selection Bias (JASA 2011); Vincent, A Connection Between Score Matching and
    Denoising Autoencoders (Neural Computation 2011).

    >>> optimal_denoiser(torch.tensor([[0.0], [9.0]]), torch.tensor([[-1.0], [1.0]]), sigma=0.5)
    tensor([[0.],
            [1.]])
    """
    require_points("y_hat", y_hat)
    require_points("data", data)
    if data.ndim != 2 or len(data) == 0 or data.shape[-1] != y_hat.shape[-1]:
        raise ValueError(f"data must be (N, D) with N ≥ 1 and D = {y_hat.shape[-1]}, got {tuple(data.shape)}")
    if noise != 0:
        require_positive("noise", noise)
    data = data.to(y_hat)
    variance, least = _require_sigma(sigma, y_hat) ** 2 + noise**2, torch.finfo(y_hat.dtype).tiny
    variance = variance.clamp(min=least) if isinstance(variance, Tensor) else max(variance, least)  # not 0 by underflow
    away = y_hat.unsqueeze(-2) - data
    squared, log_weight = require_finite("the squared distances of y_hat from data", away.square().sum(-1)), 0.0
    if weights is not None:
        log_weight = shares(weights, len(data)).log().to(y_hat)
        squared = squared.masked_fill(log_weight == -math.inf, math.inf)  # else the nearest might be one of weight 0
    # Where every exponent overflows only the nearest counts, or those equally near.
    nearest = squared.detach().amin(-1, keepdim=True)
    nearest = torch.where(torch.isposinf(nearest / (2 * variance)), nearest, 0.0)
    log_share = log_weight - (squared - nearest) / (2 * variance)
    share = torch.softmax(log_share, dim=-1)
    return share @ data + noise**2 / variance * (share.unsqueeze(-1) * away).sum(-2)


def denoiser_of(energy: Energy, sigma: float | Tensor) -> Denoiser:
    r"""The denoiser that an energy implies: one step down its slope, of length σ².

    .. math:: r(\hat y) = \hat y - \sigma^2\, \nabla F(\hat y)

    The optimal one where F is the energy of the data smoothed by noise of this σ (Tweedie's formula).

    Args:
        energy: F(y), differentiable in y.
        sigma: σ > 0: a number, or one for each point.

    Returns:
        r, (..., D) → (..., D), differentiable in the parameters of the energy.

    Source: Robbins, An Empirical Bayes Approach to Statistics (1956); Efron, Tweedie's Formula and Selection Bias (JASA
    2011).

    >>> denoiser_of(lambda y: y.square().sum(-1) / 2, sigma=0.5)(torch.tensor([[4.0]]))
    tensor([[3.]])
    """
    return lambda y_hat: y_hat + _require_sigma(sigma, y_hat) ** 2 * score(energy, y_hat)


def score_of(denoiser: Denoiser, sigma: float | Tensor) -> Field:
    r"""The score that a denoiser implies: its residual, divided by σ².

    .. math:: s(y) = \frac{r(y) - y}{\sigma^2} \approx \nabla \log p_\sigma(y)

    A vector field, to sample with or to hand to :mod:`ebm_lib.score` with ``field=True``. It is the gradient of an
    energy only if the Jacobian of r is symmetric, which that of the optimal one is and that of a network need not be.

    Args:
        denoiser: r, (..., D) → (..., D).
        sigma: σ > 0 of the noise that it undoes: a number, or one for each point.

    Returns:
        s, (..., D) → (..., D).

    Source: Vincent, A Connection Between Score Matching and Denoising Autoencoders (Neural Computation 2011); Alain and
    Bengio, What Regularized Auto-Encoders Learn from the Data-Generating Distribution (JMLR 2014).

    >>> score_of(lambda y: 0.8 * y, sigma=0.5)(torch.tensor([[5.0]]))
    tensor([[-4.]])
    """
    return lambda y: (_restored(denoiser, y) - y) / _require_sigma(sigma, y) ** 2


def _require_sigma(sigma: float | Tensor, y: Tensor) -> float | Tensor:
    """Return σ so that it multiplies y: a number as it is, one for each point as a column."""
    if not isinstance(sigma, Tensor):
        return require_positive("sigma", sigma)
    if sigma.shape != y.shape[:-1]:
        raise ValueError(f"sigma must be a number or one per point, {tuple(y.shape[:-1])}, got {tuple(sigma.shape)}")
    if has_values(require_finite("sigma", sigma)) and (sigma <= 0).any():
        raise ValueError(f"sigma must be positive, the lowest is {sigma.min().item():.4g}")
    return sigma.to(y).unsqueeze(-1)


def _restored(denoiser: Denoiser, y: Tensor) -> Tensor:
    restored = denoiser(y)
    if restored.shape != y.shape:
        raise ValueError(f"denoiser must return a point per point, {tuple(y.shape)}, got {tuple(restored.shape)}")
    return require_finite("denoised points", restored)
