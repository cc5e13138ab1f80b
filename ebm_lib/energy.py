r"""Energies: callables that return one number per sample.

.. math:: F(y), \qquad F(x, y), \qquad E(y, z), \qquad E(x, y, z)

Low energy means that the arguments go well together, high energy that they do not. The last dimension of each
argument is the variable's own (a scalar has last dimension 1); the leading dimensions broadcast, and the result
has their shape: with ``y`` of shape (B, D) and ``z`` of shape (K, L), ``E(y[:, None], z[None])`` is (B, K).
A function, a lambda and an ``nn.Module`` all count. It is always the energy, never its negative.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ebm_lib.require import require_count, require_finite, require_nonempty, require_positive


@runtime_checkable
class Energy(Protocol):
    """F(y) or F(x, y): compatibility of the observed variables with each other, low when they agree."""

    def __call__(self, *variables: Tensor) -> Tensor:
        """Return one number per sample, of the broadcast leading shape of the arguments."""
        ...


@runtime_checkable
class LatentEnergy(Protocol):
    """E(y, z) or E(x, y, z): an energy whose last argument is a latent variable, whose value is never given."""

    def __call__(self, *variables: Tensor) -> Tensor:
        """Return one number per sample, of the broadcast leading shape of the arguments."""
        ...


def evaluate(energy: Energy | LatentEnergy, *variables: Tensor) -> Tensor:
    r"""Call an energy and hold it to its contract: one number per sample, finite or +inf.

    Args:
        energy: F or E.
        variables: its arguments, each (..., D) with its own D.

    Returns:
        The energies, of the broadcast leading shape.

    Raises:
        ValueError: the arguments do not broadcast, or the result has another shape or holds NaN or -inf.

    >>> evaluate(lambda y: y.square().sum(-1), torch.tensor([[3.0, 4.0]]))
    tensor([25.])
    >>> evaluate(lambda y: y.square(), torch.tensor([[3.0, 4.0]]))
    Traceback (most recent call last):
    ...
    ValueError: energy must return one number per sample, shape (1,), got shape (1, 2): sum over the last dimension?
    """
    if not variables:
        raise ValueError("energy needs at least one variable")
    for position, variable in enumerate(variables):
        if variable.ndim == 0:
            raise ValueError(f"variable {position} must have a last dimension of its own, got a scalar: use shape (1,)")
    try:
        expected = torch.broadcast_shapes(*(v.shape[:-1] for v in variables))
    except RuntimeError:
        shapes = ", ".join(str(tuple(v.shape)) for v in variables)
        raise ValueError(f"the leading dimensions of the variables must broadcast, got shapes {shapes}") from None
    value = energy(*variables)
    if value.shape != expected:
        hint = ": sum over the last dimension?" if value.shape[:-1] == expected else ""
        raise ValueError(
            f"energy must return one number per sample, shape {tuple(expected)}, got shape {tuple(value.shape)}{hint}"
        )
    return require_finite("energy", value, allow_posinf=True)


def fix(energy: Energy | LatentEnergy, x: Tensor) -> Energy:
    r"""Hold the first variable at ``x``: the energy :math:`F(x, \cdot)` of what remains.

    Args:
        energy: F(x, y) or E(x, y, z).
        x: the observed value, (..., D).

    Returns:
        An energy of the remaining variables.

    >>> F = lambda x, y: (y - x).square().sum(-1)
    >>> fix(F, torch.tensor([1.0]))(torch.tensor([[1.0], [3.0]]))
    tensor([0., 4.])
    """
    return lambda *rest: energy(x, *rest)


def fill(y: Tensor, known: Tensor, unknown: Tensor) -> Tensor:
    r"""Put values of the unknown coordinates back among the known ones.

    Args:
        y: (..., D); its known coordinates are kept, the others ignored.
        known: (D,) boolean; which coordinates are given.
        unknown: (..., U), a value for each of the U coordinates that are not.

    Returns:
        The completed vectors, (..., D), of the broadcast leading shape.

    Raises:
        ValueError: ``known`` is not a boolean mask over y's last dimension, or ``unknown`` has another size than
            the number of unknown coordinates.

    >>> fill(torch.tensor([1.0, torch.nan]), torch.tensor([True, False]), torch.tensor([[5.0], [6.0]]))
    tensor([[1., 5.],
            [1., 6.]])
    """
    if known.dtype != torch.bool or known.shape != y.shape[-1:]:
        raise ValueError(
            f"known must be a boolean mask of shape {tuple(y.shape[-1:])}, got {known.dtype} of {tuple(known.shape)}"
        )
    order = torch.argsort(known.to(torch.int8), stable=True)  # the unknown first, each group in its own order
    count = unknown.shape[-1]
    leading = torch.broadcast_shapes(y.shape[:-1], unknown.shape[:-1])
    given = y[..., order[count:]].expand(*leading, -1)
    if given.shape[-1] + count != y.shape[-1] or bool((~known).sum() != count):
        raise ValueError(f"unknown must hold {int((~known).sum())} coordinates in its last dimension, got {count}")
    return torch.cat([unknown.expand(*leading, -1), given], dim=-1)[..., torch.argsort(order)]


def blank(energy: Energy, y: Tensor, known: Tensor) -> Energy:
    r"""Blank out part of ``y``: the energy of the unknown coordinates given the known ones.

    One unconditional F(y) serves every pattern of blanks; which part is known need not be decided in training.

    .. math:: F_\text{known}(u) = F(y_\text{known}, u)

    Args:
        energy: F(y).
        y: (..., D); the coordinates outside ``known`` are ignored.
        known: (D,) boolean.

    Returns:
        An energy of u, (..., U), where U counts the unknown coordinates.

    Raises:
        ValueError: as :func:`fill`.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Conditional and Unconditional
    Energy-Based Models".

    >>> F = lambda y: (y[..., 0] - y[..., 1]).square()
    >>> blank(F, torch.tensor([2.0, 0.0]), torch.tensor([True, False]))(torch.tensor([[2.0], [5.0]]))
    tensor([0., 9.])
    """
    return lambda unknown: energy(fill(y, known, unknown))


class Grid(NamedTuple):
    """Midpoints of equal cells that tile a box.

    Attributes:
        points: (N, D), the last coordinate varying fastest.
        log_cell: log of one cell's volume, in units of the variable to the power D.
        shape: cells along each coordinate; ``values.reshape(grid.shape)`` is an image of them.
    """

    points: Tensor
    log_cell: float
    shape: tuple[int, ...]


def grid(
    low: Sequence[float],
    high: Sequence[float],
    steps: int | Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Grid:
    r"""Tile the box [low, high] with equal cells and return their midpoints.

    A sum over the points, times a cell's volume, is the midpoint rule for the integral over the box: exact to second
    order in the cell's side, and to all orders for a smooth function of period ``high - low``.

    Args:
        low: D lower bounds.
        high: D upper bounds.
        steps: cells along each coordinate, one number or D of them.
        dtype: of the points.
        device: of the points.

    Raises:
        ValueError: bounds of different lengths, ``low`` not below ``high``, no cells.

    >>> grid([0.0], [1.0], 2).points
    tensor([[0.2500],
            [0.7500]])
    """
    if len(low) == 0 or len(low) != len(high):
        raise ValueError(f"low and high must hold one bound per coordinate, got {len(low)} and {len(high)}")
    counts = (steps,) * len(low) if isinstance(steps, int) else tuple(steps)
    if len(counts) != len(low):
        raise ValueError(f"steps must be one number or one per coordinate ({len(low)}), got {len(counts)}")
    log_cell, axes = 0.0, []
    for lo, hi, count in zip(low, high, counts, strict=True):
        require_count("steps", count)
        if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
            raise ValueError(f"low must be below high and both finite, got {lo} and {hi}")
        cell = (hi - lo) / count
        log_cell += math.log(cell)
        axes.append(lo + cell * (torch.arange(count, dtype=dtype, device=device) + 0.5))
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, len(low))
    return Grid(points, log_cell, counts)


def log_partition(energy: Tensor, beta: float = 1.0, *, log_volume: Tensor | float = 0.0, dim: int = -1) -> Tensor:
    r"""Log of the partition function over the states along ``dim``.

    .. math:: \log Z = \log \sum_i e^{-\beta E_i + \log v_i} \approx \log \int e^{-\beta E(y)}\,dy

    Args:
        energy: any shape; ``dim`` runs over the states. +inf marks an impossible state.
        beta: inverse temperature, in units of 1/energy, > 0 and finite.
        log_volume: log of the volume v each state stands for (0 counts states; ``grid.log_cell`` on a grid).
        dim: the dimension of the states.

    Returns:
        log Z, with ``dim`` removed.

    Raises:
        ValueError: beta not positive and finite, nothing along ``dim``, an energy that is NaN or -inf.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Turning Energies to Probabilities".

    >>> log_partition(torch.zeros(4)).exp()
    tensor(4.)
    """
    return torch.logsumexp(_log_weights(energy, beta, log_volume, dim), dim)


def log_gibbs_density(energy: Tensor, beta: float = 1.0, *, log_volume: Tensor | float = 0.0, dim: int = -1) -> Tensor:
    r"""Log of the Gibbs-Boltzmann density at each state along ``dim``.

    .. math:: \log P_i = -\beta E_i - \log Z

    A density with respect to the volume: with ``log_volume`` 0 it is the log-probability of each state.
    Arguments and errors as :func:`log_partition`; the result has the shape of ``energy``.

    >>> log_gibbs_density(torch.tensor([0.0, 0.0])).exp()
    tensor([0.5000, 0.5000])
    """
    log_z = log_partition(energy, beta, log_volume=log_volume, dim=dim)
    return -beta * energy - log_z.unsqueeze(dim)


def gibbs(energy: Tensor, beta: float = 1.0, *, log_volume: Tensor | float = 0.0, dim: int = -1) -> Tensor:
    r"""Gibbs-Boltzmann probability of each state along ``dim``; they sum to one.

    .. math:: P_i = \frac{v_i\,e^{-\beta E_i}}{\sum_j v_j\,e^{-\beta E_j}}

    With equal volumes and E = -logits this is the softmax. Arguments and errors as :func:`log_partition`;
    the result has the shape of ``energy``.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Energy-Based Models vs Probabilistic
    Models".

    >>> gibbs(torch.tensor([0.0, torch.inf]))
    tensor([1., 0.])
    """
    return torch.softmax(_log_weights(energy, beta, log_volume, dim), dim)


def _log_weights(energy: Tensor, beta: float, log_volume: Tensor | float, dim: int) -> Tensor:
    require_positive("beta", beta)
    require_nonempty("energy", energy, dim)
    require_finite("energy", energy, allow_posinf=True)
    return -beta * energy + log_volume
