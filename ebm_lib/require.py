"""Refuse bad input at the door: each check names the argument, what it was and what was expected.

Checks that must look at values are skipped where there are none to look at: on ``meta`` and fake
tensors, inside ``torch.func.vmap``, and while ``torch.compile`` traces.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_batchedtensor, is_functorch_wrapped_tensor


def has_values(tensor: Tensor) -> bool:
    """Tell whether the tensor's values can be read here, without a device, a trace or a ``vmap`` in the way.

    >>> has_values(torch.zeros(2)), has_values(torch.zeros(2, device="meta"))
    (True, False)
    """
    if torch.compiler.is_compiling():
        return False
    while is_functorch_wrapped_tensor(tensor):
        if is_batchedtensor(tensor):
            return False
        tensor = get_unwrapped(tensor)
    return tensor.device.type != "meta" and not isinstance(tensor, torch._subclasses.FakeTensor)


def require_finite(name: str, tensor: Tensor, *, allow_posinf: bool = False) -> Tensor:
    """Return ``tensor`` if all its values are finite.

    Args:
        name: the argument's name, for the message.
        tensor: any shape.
        allow_posinf: let +inf pass. An energy of +inf says "impossible", which is a legitimate answer.

    Returns:
        ``tensor``, untouched.

    Raises:
        ValueError: a value is NaN or infinite; the message counts them and says where the first one is.

    >>> require_finite("energy", torch.tensor([0.0, torch.nan]))
    Traceback (most recent call last):
    ...
    ValueError: energy must be finite: 1 of 2 values are not, the first at index (1,) is nan
    """
    if not has_values(tensor):
        return tensor
    bad = ~torch.isfinite(tensor.detach())
    if allow_posinf:
        bad &= tensor.detach() != math.inf
    if bad.any():
        where = tuple(bad.nonzero()[0].tolist())
        expected = "finite or +inf" if allow_posinf else "finite"
        raise ValueError(
            f"{name} must be {expected}: {int(bad.sum())} of {tensor.numel()} values are not, "
            f"the first at index {where} is {tensor[where].item()}"
        )
    return tensor


def require_differentiable(name: str, value: Tensor) -> Tensor:
    """Return ``value`` if autograd can follow it back to what it was computed from.

    Raises:
        ValueError: it was made outside torch, or cut off by ``detach`` or ``no_grad``.

    >>> require_differentiable("energy", torch.ones(1, requires_grad=True).square().detach())
    Traceback (most recent call last):
    ...
    ValueError: energy must depend on its argument through torch operations: it has no gradient
    """
    if not value.requires_grad:
        raise ValueError(f"{name} must depend on its argument through torch operations: it has no gradient")
    return value


def require_points(name: str, points: Tensor) -> Tensor:
    """Return ``points`` if it is (..., D) with D ≥ 1, floating point, and all finite.

    Raises:
        ValueError: a scalar, no coordinate, another dtype, or values that are not finite.

    >>> require_points("y", torch.zeros(3, 0))
    Traceback (most recent call last):
    ...
    ValueError: y must be (..., D) with at least one coordinate, got shape (3, 0)
    """
    if points.ndim == 0 or points.shape[-1] == 0:
        raise ValueError(f"{name} must be (..., D) with at least one coordinate, got shape {tuple(points.shape)}")
    if not points.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {points.dtype}")
    return require_finite(name, points)


def require_positive(name: str, number: float, *, allow_inf: bool = False) -> float:
    """Return ``number`` if it is a positive real number.

    Raises:
        ValueError: zero, negative, NaN, or infinite without ``allow_inf``.
        TypeError: not a number.

    >>> require_positive("beta", 0)
    Traceback (most recent call last):
    ...
    ValueError: beta must be a positive number, got 0
    """
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{name} must be a number, got {type(number).__name__}")
    if not number > 0 or (math.isinf(number) and not allow_inf):
        raise ValueError(
            f"{name} must be a positive {'' if allow_inf else 'finite ' if number > 0 else ''}number, got {number}"
        )
    return number


def require_count(name: str, number: int, *, minimum: int = 1) -> int:
    """Return ``number`` if it is a whole number of at least ``minimum``.

    Raises:
        ValueError: too small.
        TypeError: not a whole number.

    >>> require_count("steps", 0)
    Traceback (most recent call last):
    ...
    ValueError: steps must be a whole number of at least 1, got 0
    """
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name} must be a whole number, got {type(number).__name__}")
    if number < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, got {number}")
    return number


def require_nonempty(name: str, tensor: Tensor, dim: int) -> Tensor:
    """Return ``tensor`` if it has a dimension ``dim`` with something in it.

    Raises:
        ValueError: no such dimension, or nothing along it.

    >>> require_nonempty("codes", torch.zeros(0, 2), 0)
    Traceback (most recent call last):
    ...
    ValueError: codes must have at least one entry along dimension 0, got shape (0, 2)
    """
    if not -tensor.ndim <= dim < tensor.ndim:
        raise ValueError(f"{name} must have a dimension {dim}, got shape {tuple(tensor.shape)}")
    if tensor.shape[dim] == 0:
        raise ValueError(f"{name} must have at least one entry along dimension {dim}, got shape {tuple(tensor.shape)}")
    return tensor


def require_choice(name: str, value: str, known: Iterable[str]) -> str:
    """Return ``value`` if it is one of the ``known`` names.

    Raises:
        ValueError: unknown; the message lists what is known.

    >>> require_choice("activation", "sine", ["tanh", "relu"])
    Traceback (most recent call last):
    ...
    ValueError: activation must be one of relu, tanh; got 'sine'
    """
    if value not in (known := sorted(known)):
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
    return value
