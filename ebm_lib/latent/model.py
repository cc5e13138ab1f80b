r"""The few calls that every model of this package answers, and what they share.

.. math::

    F_\infty(y) = \min_z E(y, z), \qquad \check z = \operatorname{argmin}_z E(y, z), \qquad \bar y = \text{Dec}(z)

A model with a free latent variable is a :class:`LatentModel`: ``energy(y, z)``, ``infer(y)``, ``decode(z)``. A model
that computes its code, or has none, is a :class:`Model`: ``energy(y)``, ``encode(y)``. Both have ``free_energy(y)``,
which is also what calling the module does, so the module itself is an energy F(y), and both have ``learn(y)``.

The cost of a reconstruction is :math:`C(y, \bar y) = \lVert y - \bar y \rVert^2`, without a factor ½.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from ebm_lib.require import require_count, require_points

BLOCK_BYTES = 32 * 2**20


@runtime_checkable
class Model(Protocol):
    """F(y): an energy without a free latent variable, such as an auto-encoder's, a flow's or ICA's."""

    def __call__(self, y: Tensor) -> Tensor:
        """Return F(y), (...), for y (..., D): the same as ``free_energy(y)``."""
        ...

    def energy(self, y: Tensor) -> Tensor:
        """Return F(y), (...), for y (..., D)."""
        ...

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """Return F(y), (...), for y (..., D): with no latent to take out, the same for every β."""
        ...

    def learn(self, y: Tensor, **options: Any) -> Any:
        """Fit the parameters in place to data (N, D); the record returned has a ``loss`` per round or step."""
        ...


@runtime_checkable
class LatentModel(Protocol):
    """E(y, z): an energy whose latent variable z is found by minimisation, or marginalised."""

    def __call__(self, y: Tensor) -> Tensor:
        """Return F(y), (...), for y (..., D): the same as ``free_energy(y)``."""
        ...

    def energy(self, y: Tensor, z: Tensor) -> Tensor:
        """Return E(y, z), of the broadcast leading shape of y (..., D) and z (..., L)."""
        ...

    def infer(self, y: Tensor) -> Tensor:
        """Return ž = argmin_z E(y, z), (..., L), for y (..., D); no gradient flows through it."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Return ȳ = Dec(z), (..., D), for z (..., L)."""
        ...

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """Return F_β(y), (...), for y (..., D): the minimum over z at β = ∞."""
        ...

    def learn(self, y: Tensor, **options: Any) -> Any:
        """Fit the parameters in place to data (N, D); the record returned has a ``loss`` per round or step."""
        ...


class Learned(NamedTuple):
    """The record of a learning rule that works by rounds, or at a stroke.

    Attributes:
        loss: the mean energy of the data after each round, in units of energy.
        converged: whether the rule's own stopping test was met, rather than its number of rounds used up.
    """

    loss: list[float]
    converged: bool

    @property
    def rounds(self) -> int:
        """How many rounds were made."""
        return len(self.loss)


def require_last(name: str, points: Tensor, size: int) -> Tensor:
    """Return ``points`` if it is (..., size), floating point and finite.

    Raises:
        ValueError: another last dimension, another dtype, values that are not finite.

    >>> import torch
    >>> require_last("y", torch.zeros(5, 3), 2)
    Traceback (most recent call last):
    ...
    ValueError: y must be (..., 2), got shape (5, 3)
    """
    require_points(name, points)
    if points.shape[-1] != size:
        raise ValueError(f"{name} must be (..., {size}), got shape {tuple(points.shape)}")
    return points


def require_decoded(decoded: Tensor, size: int, z: Tensor) -> Tensor:
    """Return what a decoder made of codes z (..., L) if it is (..., size).

    Raises:
        ValueError: another shape, which would broadcast against y to an energy of something else.

    >>> import torch
    >>> require_decoded(torch.zeros(5, 1), 3, torch.zeros(5, 2))
    Traceback (most recent call last):
    ...
    ValueError: decoder must return (5, 3), got (5, 1)
    """
    expected = (*z.shape[:-1], size)
    if decoded.shape != expected:
        raise ValueError(f"decoder must return {expected}, got {tuple(decoded.shape)}")
    return decoded


def require_data(y: Tensor, size: int, *, minimum: int = 1, name: str = "y") -> Tensor:
    """Return ``y`` if it can be learned from: (N, size), with at least ``minimum`` rows, all finite.

    Raises:
        ValueError: another shape, too few rows, values that are not finite.

    >>> import torch
    >>> require_data(torch.zeros(1, 3), 3, minimum=2)
    Traceback (most recent call last):
    ...
    ValueError: y must hold at least 2 samples, got 1
    """
    if y.ndim != 2 or y.shape[-1] != size:
        raise ValueError(f"{name} must be (N, {size}), one sample a row, got shape {tuple(y.shape)}")
    if len(y) < minimum:
        raise ValueError(f"{name} must hold at least {minimum} sample{'s' * (minimum > 1)}, got {len(y)}")
    return require_last(name, y, size)


def blocks(count: int, row_bytes: int, block_size: int | None = None) -> Iterator[slice]:
    """Cut ``count`` rows into consecutive blocks whose temporaries stay small.

    Args:
        count: how many rows there are; none gives no block.
        row_bytes: what the temporaries of one row take, for instance ``K * y.element_size()``.
        block_size: rows in a block; None takes as many as fit into 32 MiB, at least one.

    Yields:
        Slices that cover every row once, in order.

    >>> list(blocks(5, 8, block_size=2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size = max(1, BLOCK_BYTES // max(1, row_bytes)) if block_size is None else require_count("block_size", block_size)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
