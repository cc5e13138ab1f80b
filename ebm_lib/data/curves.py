r"""Two-dimensional sets of points on curves whose equation is known.

Each function returns ``n`` independent points, (n, 2); Gaussian noise of standard deviation ``noise`` is added to
each coordinate as the last draw, so that the same seed with ``noise=0`` gives the same points without noise. Where
a set has parts (two moons, rings, arms), ``labels`` chooses the part of each point; where it has a latent position,
``z`` does.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ebm_lib.data.draw import blur, column, kind_of, normal, pick_labels, require_plane, uniform
from ebm_lib.require import require_count, require_positive


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack((radius * angle.cos(), radius * angle.sin()), -1)


def ellipse(
    n: int,
    *,
    radii: Sequence[float] = (2.0, 1.0),
    noise: float = 0.05,
    z: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Points on an ellipse, each at an angle that nobody reports: the lecture's first latent variable.

    .. math:: y = (r_1 \sin z,\; r_2 \cos z) + \epsilon, \qquad z \sim U[0, 2\pi),
        \qquad \frac{y_1^2}{r_1^2} + \frac{y_2^2}{r_2^2} = 1 \text{ without noise}

    Args:
        n: number of points.
        radii: the half axes r₁ and r₂.
        noise: standard deviation of ε, in the units of y.
        z: angles in radians, (n, 1); drawn uniformly if None.
        generator: source of randomness.
        dtype: of the result; that of ``z`` if None, else torch's default.
        device: of the result; that of ``z`` if None.

    Returns:
        (n, 2).

    Raises:
        ValueError: ``radii`` not two positive numbers, ``z`` of another shape, ``noise`` negative.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), slide "Inference with Latent
    Variable EBMs".

    >>> y = ellipse(100, radii=(3.0, 1.0), noise=0.0)
    >>> bool(((y / torch.tensor([3.0, 1.0])).square().sum(-1) - 1).abs().max() < 1e-5)
    True
    """
    if len(radii) != 2:
        raise ValueError(f"radii must be two positive numbers (r1, r2), got {len(radii)} of them")
    r1, r2 = (require_positive(f"radii[{i}]", r) for i, r in enumerate(radii))
    dtype, device = kind_of(z, dtype, device)
    angle = column("z", n, z, generator, dtype, device, high=2 * math.pi)
    return blur(torch.cat((r1 * angle.sin(), r2 * angle.cos()), -1), noise, generator)


def two_moons(
    n: int,
    *,
    noise: float = 0.05,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Two interleaved half circles, in scikit-learn's place and size.

    .. math:: y = (\cos t,\; \sin t) \;\text{ or }\; (1 - \cos t,\; \tfrac12 - \sin t), \qquad t \sim U[0, \pi)

    Args:
        n: number of points.
        noise: standard deviation of the noise on each coordinate.
        labels: (n,) 0 for the upper moon, 1 for the lower; drawn with equal chance if None.
        generator: source of randomness.
        dtype: of the result; torch's default if None.
        device: of the result.

    Returns:
        (n, 2).

    Raises:
        ValueError: ``labels`` of another shape or range, ``noise`` negative.

    >>> upper = two_moons(100, noise=0.0, labels=torch.zeros(100, dtype=torch.long))
    >>> bool((upper.norm(dim=-1) - 1).abs().max() < 1e-6)
    True
    """
    dtype, device = kind_of(labels, dtype, device)
    moon = pick_labels(n, 2, labels, generator, device)
    t = math.pi * uniform((n,), generator, dtype, device)
    upper = _polar(torch.ones_like(t), t)
    lower = torch.tensor([1.0, 0.5], dtype=dtype, device=device) - upper
    return blur(torch.where(moon[:, None] == 0, upper, lower), noise, generator)


def spiral(
    n: int,
    *,
    arms: int = 2,
    turns: float = 1.5,
    radius: float = 2.0,
    noise: float = 0.05,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Archimedean spiral arms, with points spread about evenly along them.

    .. math:: y = R\,t\,(\cos\phi,\; \sin\phi) + \epsilon, \qquad
        \phi = 2\pi\left(\text{turns}\cdot t + \frac{k}{\text{arms}}\right), \qquad t = \sqrt{u},\; u \sim U[0, 1)

    Args:
        n: number of points.
        arms: number of arms.
        turns: how often each arm goes round.
        radius: R, where the arms end.
        noise: standard deviation of ε.
        labels: (n,) the arm k of each point; drawn with equal chance if None.
        generator: source of randomness.
        dtype: of the result; torch's default if None.
        device: of the result.

    Returns:
        (n, 2).

    Raises:
        ValueError: ``arms``, ``turns`` or ``radius`` not positive, ``labels`` unsound, ``noise`` negative.

    >>> spiral(5, arms=3).shape
    torch.Size([5, 2])
    """
    require_count("arms", arms)
    require_positive("turns", turns)
    require_positive("radius", radius)
    dtype, device = kind_of(labels, dtype, device)
    arm = pick_labels(n, arms, labels, generator, device)
    # An arc's length grows as t dt: the square root undoes the crowding at the centre.
    t = uniform((n,), generator, dtype, device).sqrt()
    return blur(_polar(radius * t, 2 * math.pi * (turns * t + arm.to(dtype) / arms)), noise, generator)


def swiss_roll(
    n: int,
    *,
    radius: float = 2.0,
    noise: float = 0.05,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""The rolled-up sheet seen from its end: one spiral that starts away from the centre.

    .. math:: y = R\,\frac{t}{4.5\pi}\,(\cos t,\; \sin t) + \epsilon, \qquad t = 1.5\pi(1 + 2u),\; u \sim U[0, 1)

    It is scikit-learn's roll, without its axis and scaled to the outer radius R (there: :math:`4.5\pi`).

    Args:
        n: number of points.
        radius: R, where the roll ends; it starts at R/3.
        noise: standard deviation of ε.
        generator: source of randomness.
        dtype: of the result; torch's default if None.
        device: of the result.

    Returns:
        (n, 2).

    Raises:
        ValueError: ``radius`` not positive, ``noise`` negative.

    >>> far = swiss_roll(200, radius=3.0, noise=0.0).norm(dim=-1)
    >>> bool(far.min() > 0.99 and far.max() < 3.01)
    True
    """
    require_positive("radius", radius)
    require_count("n", n)
    dtype, device = kind_of(None, dtype, device)
    t = 1.5 * math.pi * (1 + 2 * uniform((n,), generator, dtype, device))
    return blur(_polar(radius / (4.5 * math.pi) * t, t), noise, generator)


def pinwheel(
    n: int,
    *,
    arms: int = 5,
    twist: float = 0.25,
    length: float = 0.3,
    noise: float = 0.1,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Bent arms around a centre, dense in their middle.

    .. math:: y = 2f\,(\cos\phi,\; \sin\phi) + \epsilon, \qquad f \sim \mathcal N(1, \ell^2), \qquad
        \phi = \frac{2\pi k}{\text{arms}} + \text{twist}\cdot e^f

    The published set has its noise across the arm only; here it is round, as in every other set.

    Args:
        n: number of points.
        arms: number of arms.
        twist: how much an arm bends, in radians.
        length: ℓ, the spread along an arm.
        noise: standard deviation of ε.
        labels: (n,) the arm k of each point; drawn with equal chance if None.
        generator: source of randomness.
        dtype: of the result; torch's default if None.
        device: of the result.

    Returns:
        (n, 2).

    Raises:
        ValueError: ``arms`` or ``length`` not positive, ``twist`` not finite, ``labels`` unsound, ``noise`` negative.

    Source: after Johnson, Duvenaud, Wiltschko, Datta, Adams, "Composing graphical models with neural networks
    for structured representations and fast inference" (2016).

    >>> pinwheel(5).shape
    torch.Size([5, 2])
    """
    require_count("arms", arms)
    require_positive("length", length)
    if not math.isfinite(twist):
        raise ValueError(f"twist must be finite, got {twist}")
    dtype, device = kind_of(labels, dtype, device)
    arm = pick_labels(n, arms, labels, generator, device)
    f = 1 + length * normal((n,), generator, dtype, device)
    return blur(_polar(2 * f, 2 * math.pi / arms * arm.to(dtype) + twist * f.exp()), noise, generator)


def rings(
    n: int,
    *,
    radii: Sequence[float] = (1.0, 2.0),
    noise: float = 0.05,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Concentric circles, each with the same share of the points.

    .. math:: y = r_k\,(\cos z,\; \sin z) + \epsilon, \qquad z \sim U[0, 2\pi)

    The log density, noise included, is :func:`ebm_lib.data.rings_log_density`.

    Args:
        n: number of points.
        radii: r, one for each circle.
        noise: standard deviation of ε.
        labels: (n,) the circle k of each point; drawn with equal chance if None.
        generator: source of randomness.
        dtype: of the result; torch's default if None.
        device: of the result.

    Returns:
        (n, 2).

    Raises:
        ValueError: no radius, or one that is not positive; ``labels`` unsound, ``noise`` negative.

    >>> y = rings(50, radii=(0.5,), noise=0.0)
    >>> bool((y.norm(dim=-1) - 0.5).abs().max() < 1e-6)
    True
    """
    dtype, device = kind_of(labels, dtype, device)
    radius = _radii(radii, dtype, device)
    ring = pick_labels(n, len(radius), labels, generator, device)
    angle = 2 * math.pi * uniform((n,), generator, dtype, device)
    return blur(_polar(radius[ring], angle), noise, generator)


def _radii(radii: Sequence[float], dtype: torch.dtype, device: torch.device | None) -> Tensor:
    if len(radii) == 0:
        raise ValueError("radii must name at least one circle, got none")
    return torch.tensor([require_positive(f"radii[{i}]", r) for i, r in enumerate(radii)], dtype=dtype, device=device)


def rings_log_density(y: Tensor, *, radii: Sequence[float] = (1.0, 2.0), noise: float = 0.05) -> Tensor:
    r"""Log density of :func:`ebm_lib.data.rings`, the noise included.

    A circle blurred by a round Gaussian is an integral over the angle that Bessel's function solves:

    .. math:: p(y) = \frac1K \sum_k \frac{1}{2\pi\sigma^2}\, e^{-(\|y\|^2 + r_k^2)/2\sigma^2}\,
        I_0\!\left(\frac{\|y\|\,r_k}{\sigma^2}\right)

    Args:
        y: points, (..., 2).
        radii: r, one for each circle.
        noise: σ, positive.

    Returns:
        (...), in nats, of the dtype of ``y``.

    Raises:
        ValueError: last dimension not 2, ``radii`` or ``noise`` not positive, values not finite.

    >>> y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> on, turned, centre = rings_log_density(y, radii=(1.0,), noise=0.1).tolist()
    >>> on == turned, on > centre
    (True, True)
    """
    require_plane("y", y)
    require_positive("noise", noise)
    r = _radii(radii, y.dtype, y.device)
    distance = torch.linalg.vector_norm(y, dim=-1, keepdim=True)
    # i0e(x) = exp(-x) I0(x) takes the growth out of I0, which overflows at x = 700 (and 90 in float32).
    log_parts = -((distance - r) / noise).square() / 2 + torch.special.i0e(distance * r / noise**2).log()
    return torch.logsumexp(log_parts, -1) - math.log(len(radii) * 2 * math.pi * noise**2)
