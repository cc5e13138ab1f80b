r"""Gabor functions, and their least-squares fit to learned filters: how much a filter looks like a simple cell's.

.. math::

    g(x, y) = A\, \exp\!\Big(-\frac{u^2}{2\sigma_u^2} - \frac{v^2}{2\sigma_v^2}\Big) \cos(2\pi f u + \varphi), \qquad
    \begin{aligned}
    u &= (x - x_0) \cos\theta + (y - y_0) \sin\theta \\
    v &= -(x - x_0) \sin\theta + (y - y_0) \cos\theta
    \end{aligned}

x counts pixels to the right and y downwards, from the centre of the top left pixel. θ is the direction in which the
brightness changes, so the bars stand across it.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.latent.model import blocks
from ebm_lib.require import has_values, require_count, require_finite, require_nonempty

WIDTHS = (0.12, 0.25)  # of the envelope where a fit starts, in sides of the filter
PEAKS = 2  # of the spectrum, where a fit starts
NARROWEST = 0.4  # pixels: less is between the pixels


class GaborFit(NamedTuple):
    """The Gabor function nearest to each filter.

    Attributes:
        center: (x₀, y₀) in pixels, (K, 2).
        orientation: θ in radians, 0 ≤ θ < π, (K,): 0 for upright bars, π/2 for level ones.
        frequency: f > 0 in cycles per pixel, (K,).
        phase: φ in radians, −π < φ ≤ π, (K,): 0 or π for an even function, ±π/2 for an odd one.
        sigma: σᵤ across the bars and σᵥ along them in pixels, (K, 2).
        amplitude: A > 0 in the filter's units, (K,).
        r2: share of the filter's variance that the fit explains, (K,): at most 1.
        fitted: the functions themselves, (K, H, W).
    """

    center: Tensor
    orientation: Tensor
    frequency: Tensor
    phase: Tensor
    sigma: Tensor
    amplitude: Tensor
    r2: Tensor
    fitted: Tensor


def gabor_function(
    shape: tuple[int, int],
    center: Tensor,
    orientation: Tensor,
    frequency: Tensor,
    phase: Tensor,
    sigma: Tensor,
    amplitude: float | Tensor = 1.0,
) -> Tensor:
    """Draw Gabor functions on pixels: the formula at the head of this module.

    Args:
        shape: height and width in pixels.
        center: (x₀, y₀), (..., 2), in pixels.
        orientation: θ, (...), in radians.
        frequency: f, (...), in cycles per pixel.
        phase: φ, (...), in radians.
        sigma: (σᵤ, σᵥ), (..., 2), in pixels.
        amplitude: A, (...).

    Returns:
        Pictures, (..., height, width).

    Raises:
        ValueError: sizes below 1, center or sigma without two entries, an envelope that is not positive, values that
            are not finite.

    Source: Daugman, Uncertainty relation for resolution in space, spatial frequency, and orientation optimized by
    two-dimensional visual cortical filters (Journal of the Optical Society of America A 2, 1985).

    >>> middle, one = torch.tensor([1.0, 1.0]), torch.tensor(1.0)
    >>> gabor_function((3, 3), middle, 0 * one, one / 4, 0 * one, torch.tensor([1e3, 1e3])).round().abs()
    tensor([[0., 1., 0.],
            [0., 1., 0.],
            [0., 1., 0.]])
    """
    height, width = require_count("shape[0]", shape[0]), require_count("shape[1]", shape[1])
    for name, pair in (("center", center), ("sigma", sigma)):
        if pair.ndim == 0 or pair.shape[-1] != 2:
            raise ValueError(f"{name} must be (..., 2), got shape {tuple(pair.shape)}")
    for name, value in (("center", center), ("orientation", orientation), ("frequency", frequency), ("phase", phase)):
        require_finite(name, value)
    require_finite("sigma", sigma)
    if has_values(sigma) and (sigma <= 0).any():
        raise ValueError(f"sigma must be positive, its lowest is {sigma.min().item()}")
    amplitude = torch.as_tensor(amplitude, dtype=center.dtype, device=center.device)
    parts = (center[..., 0], center[..., 1], orientation, frequency, sigma[..., 0].log(), sigma[..., 1].log())
    waves = (amplitude * torch.cos(phase), -amplitude * torch.sin(phase))
    parameters = torch.stack(torch.broadcast_tensors(*parts, *waves), -1)
    return _value(parameters, _pixels(height, width, center)).unflatten(-1, (height, width))


def fit_gabor(filters: Tensor, *, steps: int = 60, block_size: int | None = None) -> GaborFit:
    r"""Fit a Gabor function to each filter by least squares.

    .. math::

        \min \sum_{x,y} \big(w(x, y) - g(x, y)\big)^2, \qquad
        R^2 = 1 - \frac{\sum (w - g)^2}{\sum (w - \bar w)^2}

    Levenberg–Marquardt, all filters at once, from four starts each: the two highest peaks of the filter's spectrum,
    with a narrow and a wide envelope around its centre of mass. The best end is kept. The centre stays on the filter,
    the wave between half a cycle per side and what pixels can show, the envelope between 0.4 pixels and two sides:
    without bounds a slow wave under a huge amplitude imitates other shapes. A blob comes out at the lowest frequency,
    where its orientation means nothing.

    Args:
        filters: (K, H, W), at least 4 × 4 pixels, none constant.
        steps: iterations.
        block_size: filters at a time; None keeps temporaries small.

    Returns:
        GaborFit, of the filters' dtype and device. The fit itself runs in float64.

    Raises:
        ValueError: not (K, H, W), too small, not finite, or a filter without contrast.

    Source: LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), "Learned Features: V1-like receptive
    fields"; Jones and Palmer, An evaluation of the two-dimensional Gabor filter model of simple receptive fields in cat
    striate cortex (Journal of Neurophysiology 58, 1987).

    >>> t = lambda *x: torch.tensor(x)
    >>> drawn = gabor_function((12, 12), t([5.0, 6.0]), t(0.5), t(0.15), t(1.0), t([2.0, 3.0]))
    >>> found = fit_gabor(drawn)
    >>> [round(v.item(), 3) for v in (found.orientation, found.frequency, found.phase, found.r2)]
    [0.5, 0.15, 1.0, 1.0]
    """
    if filters.ndim != 3 or min(filters.shape[1:]) < 4:
        raise ValueError(f"filters must be (K, height, width) with at least 4 × 4 pixels, got {tuple(filters.shape)}")
    require_nonempty("filters", filters, 0)
    if not filters.is_floating_point():
        raise ValueError(f"filters must be floating point, got {filters.dtype}")
    require_finite("filters", filters)
    require_count("steps", steps)
    count, height, width = filters.shape
    flat = filters.flatten(1).double()
    centred = flat - flat.mean(-1, keepdim=True)
    if has_values(flat):
        bare = centred.norm(dim=-1) <= 1e-7 * flat.norm(dim=-1)
        if bare.any():
            raise ValueError(f"filters must have contrast, and number {int(bare.nonzero()[0])} is constant")
    size = flat.norm(dim=-1, keepdim=True)
    flat = flat / size
    row_bytes = len(WIDTHS) * PEAKS * height * width * 8 * 8 * 4  # the Jacobian, and as much again three times
    parameters = torch.cat([_search(flat[part], height, width, steps) for part in blocks(count, row_bytes, block_size)])
    fitted = _value(parameters, _pixels(height, width, parameters)) * size
    residual = (flat * size - fitted).square().sum(-1)
    x, y, turn, frequency, log_u, log_v, even, odd = parameters.unbind(-1)
    # Seen from the other end, where θ was turned by half a circle, u changes sign, and so the sine. What would be
    # rounded up to π is 0.
    half_turns = torch.floor(turn / math.pi + 4 * torch.finfo(filters.dtype).eps)
    orientation = (turn - half_turns * math.pi).clamp_min(0)
    odd = torch.where(half_turns % 2 == 1, -odd, odd)
    phase = torch.atan2(-odd, even)
    result = (
        torch.stack([x, y], -1),
        orientation,
        frequency,
        torch.where(phase + math.pi < 4 * torch.finfo(filters.dtype).eps, math.pi, phase),
        torch.stack([log_u, log_v], -1).exp(),
        torch.hypot(even, odd) * size[:, 0],
        1 - residual / centred.square().sum(-1),
        fitted.unflatten(-1, (height, width)),
    )
    return GaborFit(*(value.to(filters.dtype) for value in result))


def _pixels(height: int, width: int, like: Tensor) -> Tensor:
    """Positions (x, y) of all pixels, row by row, (H · W, 2)."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=like.dtype, device=like.device),
        torch.arange(width, dtype=like.dtype, device=like.device),
        indexing="ij",
    )
    return torch.stack([x, y], -1).flatten(0, 1)


def _parts(p: Tensor, pixels: Tensor) -> tuple[Tensor, ...]:
    x0, y0, turn, frequency, log_u, log_v, even, odd = p.unsqueeze(-2).unbind(-1)
    dx, dy = pixels[:, 0] - x0, pixels[:, 1] - y0
    cos, sin = torch.cos(turn), torch.sin(turn)
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    a, b = u.square() * (-2 * log_u).exp(), v.square() * (-2 * log_v).exp()  # (u/σᵤ)², (v/σᵥ)²
    envelope = torch.exp(-(a + b) / 2)
    wave = 2 * math.pi * frequency * u
    c, s = envelope * torch.cos(wave), envelope * torch.sin(wave)
    return u, v, a, b, c, s, even * c + odd * s, odd * c - even * s


def _value(p: Tensor, pixels: Tensor) -> Tensor:
    """Gabor functions at the pixels, (..., P), from (..., 8): x₀, y₀, θ, f, log σᵤ, log σᵥ, and A cos φ, −A sin φ."""
    return _parts(p, pixels)[6]


def _value_and_jacobian(p: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    u, v, a, b, c, s, g, quadrature = _parts(p, pixels)
    _, _, turn, frequency, log_u, log_v, _, _ = p.unsqueeze(-2).unbind(-1)
    cos, sin = torch.cos(turn), torch.sin(turn)
    by_u = 2 * math.pi * frequency * quadrature - g * u * (-2 * log_u).exp()
    by_v = -g * v * (-2 * log_v).exp()
    columns = (
        sin * by_v - cos * by_u,
        -sin * by_u - cos * by_v,
        v * by_u - u * by_v,
        2 * math.pi * u * quadrature,
        g * a,
        g * b,
        c,
        s,
    )
    return g, torch.stack(columns, -1)


def _starts(flat: Tensor, height: int, width: int) -> Tensor:
    """Where the searches begin, (K, starts, 8)."""
    pixels = _pixels(height, width, flat)
    power = flat.square()
    center = power @ pixels / power.sum(-1, keepdim=True)
    fine = 4 * max(height, width)
    spectrum = torch.fft.rfft2(flat.unflatten(-1, (height, width)), s=(fine, fine)).abs()
    fy = torch.fft.fftfreq(fine, dtype=flat.dtype, device=flat.device)[:, None].expand(spectrum.shape[1:])
    fx = torch.fft.rfftfreq(fine, dtype=flat.dtype, device=flat.device).expand(spectrum.shape[1:])
    spectrum = spectrum.flatten(1)
    fx, fy = fx.flatten(), fy.flatten()
    slowest = 0.5 / max(height, width)
    spectrum = spectrum.masked_fill(torch.hypot(fx, fy) < slowest, 0.0)
    starts = []
    for _ in range(PEAKS):
        peak = spectrum.argmax(-1)
        frequency, turn = torch.hypot(fx[peak], fy[peak]), torch.atan2(fy[peak], fx[peak])
        for share in WIDTHS:
            log_sigma = torch.full_like(turn, math.log(share * max(height, width)))
            zero = torch.zeros_like(turn)
            p = torch.stack([center[:, 0], center[:, 1], turn, frequency, log_sigma, log_sigma, zero + 1, zero], -1)
            *_, c, s, _, _ = _parts(p, pixels)
            basis = torch.stack([c, s], -1)
            gram = basis.mT @ basis + 1e-9 * torch.eye(2, dtype=flat.dtype, device=flat.device)
            waves = torch.linalg.solve(gram, (basis.mT @ flat.unsqueeze(-1)).squeeze(-1))
            starts.append(torch.cat([p[:, :6], waves], -1))
        # the next peak is elsewhere: farther than one cycle per side, from this one and from its mirror image
        near = [torch.hypot(fx - side * fx[peak, None], fy - side * fy[peak, None]) for side in (1, -1)]
        spectrum = spectrum.masked_fill(torch.minimum(*near) < 2 * slowest, 0.0)
    return torch.stack(starts, 1)


def _bounded(p: Tensor, height: int, width: int) -> Tensor:
    x, y, turn, frequency, log_u, log_v, even, odd = p.unbind(-1)
    side = max(height, width)
    nyquist = 0.5 / torch.maximum(torch.cos(turn).abs(), torch.sin(turn).abs())
    frequency = torch.minimum(frequency.clamp_min(0.5 / side), nyquist)
    low, high = math.log(NARROWEST), math.log(2 * side)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    return torch.stack([x, y, turn, frequency, log_u.clamp(low, high), log_v.clamp(low, high), even, odd], -1)


def _search(flat: Tensor, height: int, width: int, steps: int) -> Tensor:
    """Levenberg–Marquardt from all starts; the best end of each filter, (K, 8)."""
    pixels = _pixels(height, width, flat)
    p = _bounded(_starts(flat, height, width), height, width)
    target = flat[:, None]
    damping = torch.full(p.shape[:-1], 1e-2, dtype=p.dtype, device=p.device)
    error = (target - _value(p, pixels)).square().sum(-1)
    floor = 1e-12 * torch.eye(8, dtype=p.dtype, device=p.device)
    for _ in range(steps):
        value, jacobian = _value_and_jacobian(p, pixels)
        normal = jacobian.mT @ jacobian
        slope = jacobian.mT @ (target - value).unsqueeze(-1)
        raised = normal + torch.diag_embed(damping.unsqueeze(-1) * (normal.diagonal(dim1=-2, dim2=-1) + 1e-9)) + floor
        trial = _bounded(p + torch.linalg.solve(raised, slope).squeeze(-1), height, width)
        now = (target - _value(trial, pixels)).square().sum(-1)
        better = now < error
        p = torch.where(better.unsqueeze(-1), trial, p)
        error = torch.where(better, now, error)
        damping = torch.where(better, damping / 5, damping * 4).clamp(1e-9, 1e9)
    best = error.argmin(-1)
    return p.gather(1, best[:, None, None].expand(-1, 1, 8)).squeeze(1)
