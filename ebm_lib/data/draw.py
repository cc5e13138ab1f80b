"""Random draws that every data set here makes: one place for device, dtype, generator and their checks."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ebm_lib.require import has_values, require_count, require_finite


def kind_of(
    given: Tensor | None, dtype: torch.dtype | None, device: torch.device | str | None
) -> tuple[torch.dtype, torch.device | None]:
    """Say what a result is made of: as asked for, else as the given tensor, else torch's defaults.

    >>> kind_of(torch.zeros(1, dtype=torch.float64), None, None)
    (torch.float64, device(type='cpu'))
    """
    if dtype is None:
        dtype = given.dtype if given is not None and given.is_floating_point() else torch.get_default_dtype()
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point dtype, got {dtype}")
    if device is None and given is not None:
        device = given.device
    return dtype, None if device is None else torch.device(device)


def _moved(drawn: Tensor, device: torch.device | None) -> Tensor:
    return drawn if device is None else drawn.to(device)


def _drawing_device(generator: torch.Generator | None, device: torch.device | None) -> torch.device | None:
    # A generator draws on its own device only: numbers are drawn there and moved, so that one seed on the CPU
    # gives the same points on every device.
    return device if generator is None else generator.device


def uniform(
    shape: Sequence[int], generator: torch.Generator | None, dtype: torch.dtype, device: torch.device | None
) -> Tensor:
    """Uniform numbers in [0, 1), of the given shape.

    >>> uniform((3, 1), None, torch.float64, None).shape
    torch.Size([3, 1])
    """
    where = _drawing_device(generator, device)
    return _moved(torch.rand(tuple(shape), generator=generator, dtype=dtype, device=where), device)


def coins(
    shape: Sequence[int], generator: torch.Generator | None, dtype: torch.dtype, device: torch.device | None
) -> Tensor:
    """Uniform numbers in [0, 1) to hold against a probability: single precision at least.

    Half precision has steps of 1/256 or 1/2048: a chance below that would come true as often as the step is wide.

    >>> coins((2,), None, torch.bfloat16, None).dtype
    torch.float32
    """
    return uniform(shape, generator, dtype if torch.finfo(dtype).bits >= 32 else torch.float32, device)


def normal(
    shape: Sequence[int], generator: torch.Generator | None, dtype: torch.dtype, device: torch.device | None
) -> Tensor:
    """Standard Gaussian numbers, of the given shape.

    >>> normal((3, 1), None, torch.float64, None).dtype
    torch.float64
    """
    where = _drawing_device(generator, device)
    return _moved(torch.randn(tuple(shape), generator=generator, dtype=dtype, device=where), device)


def blur(y: Tensor, noise: float, generator: torch.Generator | None) -> Tensor:
    """Add Gaussian noise of standard deviation ``noise`` to each coordinate.

    It is each data set's last draw, so that the same seed with ``noise=0`` gives the same points without noise.

    Raises:
        ValueError: ``noise`` negative or not finite.

    >>> blur(torch.ones(2, 2), 0.0, None).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    if isinstance(noise, bool) or not isinstance(noise, int | float):
        raise TypeError(f"noise must be a number, got {type(noise).__name__}")
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise must be a finite standard deviation of at least 0, got {noise}")
    return y if noise == 0 else y + noise * normal(y.shape, generator, y.dtype, y.device)


def pick_labels(
    n: int,
    classes: int,
    labels: Tensor | None,
    generator: torch.Generator | None,
    device: torch.device | None,
    *,
    weights: Sequence[float] | Tensor | None = None,
) -> Tensor:
    """Which of several parts each of ``n`` points comes from: ``labels`` if given and sound, else drawn.

    Args:
        n: how many.
        classes: how many parts, K.
        labels: (n,) whole numbers from 0 to K-1, or None to draw them independently.
        generator: for the draw.
        device: where the result goes.
        weights: (K,) relative frequencies of the parts; equal if None.

    Returns:
        (n,) int64.

    Raises:
        ValueError: ``labels`` of another shape, dtype or range; ``weights`` unsound (see :func:`shares`).

    >>> pick_labels(3, 2, torch.tensor([0, 1, 2]), None, None)
    Traceback (most recent call last):
    ...
    ValueError: labels must lie in 0..1, got 0..2
    """
    require_count("n", n)
    if labels is not None:
        if labels.shape != (n,):
            raise ValueError(f"labels must have shape ({n},), one for each point, got {tuple(labels.shape)}")
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise ValueError(f"labels must be whole numbers, got dtype {labels.dtype}")
        if has_values(labels) and (labels.min() < 0 or labels.max() >= classes):
            raise ValueError(f"labels must lie in 0..{classes - 1}, got {int(labels.min())}..{int(labels.max())}")
        return _moved(labels.long(), device)
    if weights is None:
        where = _drawing_device(generator, device)
        return _moved(torch.randint(classes, (n,), generator=generator, device=where), device)
    # Double precision: a float32 cumulative sum would shift the smallest frequencies.
    edges = shares(weights, classes).to(device).cumsum(0)[:-1]
    return (uniform((n, 1), generator, torch.float64, device) >= edges).sum(-1)


def shares(weights: Sequence[float] | Tensor, classes: int) -> Tensor:
    """Relative frequencies as probabilities: (K,) float64 that sum to one.

    Raises:
        ValueError: not K of them, one negative or not finite, or all zero.

    >>> shares([3, 1], 2).tolist()
    [0.75, 0.25]
    """
    weights = torch.as_tensor(weights, dtype=torch.float64)
    if weights.shape != (classes,):
        raise ValueError(f"weights must have shape ({classes},), one for each part, got {tuple(weights.shape)}")
    require_finite("weights", weights)
    if has_values(weights) and (weights.min() < 0 or weights.sum() <= 0):
        raise ValueError(f"weights must be at least 0 and not all 0, got {weights.tolist()}")
    return weights / weights.sum()


def column(
    name: str,
    n: int,
    given: Tensor | None,
    generator: torch.Generator | None,
    dtype: torch.dtype,
    device: torch.device | None,
    *,
    high: float = 1.0,
) -> Tensor:
    """A scalar variable for each of ``n`` points, (n, 1): the one given if sound, else uniform in [0, high).

    Raises:
        ValueError: ``given`` of another shape or not finite.

    >>> column("z", 2, torch.zeros(2), None, torch.float32, None)
    Traceback (most recent call last):
    ...
    ValueError: z must have shape (2, 1), got (2,)
    """
    require_count("n", n)
    if given is None:
        return high * uniform((n, 1), generator, dtype, device)
    if given.shape != (n, 1):
        raise ValueError(f"{name} must have shape ({n}, 1), got {tuple(given.shape)}")
    return _moved(require_finite(name, given).to(dtype), device)


def require_plane(name: str, y: Tensor) -> Tensor:
    """Return ``y`` if it is points of the plane, (..., 2), all finite.

    Raises:
        ValueError: last dimension not 2, or values not finite.

    >>> require_plane("y", torch.zeros(4, 3))
    Traceback (most recent call last):
    ...
    ValueError: y must have shape (..., 2), got (4, 3)
    """
    if y.ndim < 1 or y.shape[-1] != 2:
        raise ValueError(f"{name} must have shape (..., 2), got {tuple(y.shape)}")
    return require_finite(name, y)
