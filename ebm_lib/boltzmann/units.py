"""Vectors of zeros and ones: all of them, draws of them, and the checks that Boltzmann machines make."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ebm_lib.data.draw import coins
from ebm_lib.require import has_values, require_count, require_finite, require_nonempty

SPREAD = 0.01  # of the first weights, as in Hinton's guide
_ENUMERABLE = 20  # units: about a million states
_CHUNK = 2**14  # states at once


def binary_states(units: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
    """All vectors of zeros and ones, in the order of the numbers they write, lowest digit first.

    Args:
        units: their length, at most 20.
        dtype: torch's default if None.
        device: where they go.

    Returns:
        (2 ** units, units).

    Raises:
        ValueError: too many units to enumerate.

    >>> binary_states(2)
    tensor([[0., 0.],
            [1., 0.],
            [0., 1.],
            [1., 1.]])
    """
    _require_enumerable("units", require_count("units", units))
    return _digits(0, 2**units, units, dtype or torch.get_default_dtype(), device)


def log_odds(data: Tensor) -> Tensor:
    r"""Log-odds of each unit to be on in the data, with one more sample of each kind added.

    .. math:: \log\frac{n_i + 1}{N - n_i + 1}

    Alone they make the best energy of independent units; an RBM's visible biases start well there, and annealed
    importance sampling starts from it.

    Args:
        data: (N, D), from 0 to 1.

    Returns:
        (D,).

    >>> log_odds(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).exp()
    tensor([3., 1.])
    """
    require_nonempty("data", require_units("data", data, None), 0)
    on = data.sum(0)
    return torch.log((on + 1) / (len(data) - on + 1))


def coins_of(logit: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw zeros and ones with the given log-odds of a one: a probability in half precision rounds to 1 too soon."""
    draw = coins(logit.shape, generator, logit.dtype, logit.device)
    return (draw < torch.sigmoid(logit.to(draw.dtype))).to(logit.dtype)


def require_units(name: str, values: Tensor, units: int | None) -> Tensor:
    """Return ``values`` if they are from 0 to 1, with the right number of units (any if None)."""
    if values.ndim == 0 or (units is not None and values.shape[-1] != units):
        expected = "of its own" if units is None else f"of {units} units"
        raise ValueError(f"{name} must have a last dimension {expected}, got shape {tuple(values.shape)}")
    if not values.is_floating_point():
        raise ValueError(f"{name} must be floating point zeros and ones, got {values.dtype}")
    if has_values(values) and not ((values >= 0) & (values <= 1)).all():
        require_finite(name, values)
        raise ValueError(f"{name} must hold values from 0 to 1, got {values.min().item()} to {values.max().item()}")
    return values


def _require_enumerable(name: str, units: int) -> None:
    if units > _ENUMERABLE:
        raise ValueError(f"{name} must be at most {_ENUMERABLE} to be enumerated, got {units}")


def _digits(first: int, end: int, units: int, dtype: torch.dtype, device: torch.device | str | None) -> Tensor:
    numbers = torch.arange(first, end, device=device)
    return ((numbers[:, None] >> torch.arange(units, device=device)) & 1).to(dtype)


def log_sum(energy: Callable[[Tensor], Tensor], units: int, beta: float, like: Tensor) -> Tensor:
    """Log of the sum of exp(−βE) over all vectors of so many units, at most 20, some thousands at a time."""
    _require_enumerable("the number of units to sum over", units)

    def values() -> Iterator[Tensor]:
        for first in range(0, 2**units, _CHUNK):
            yield -beta * energy(_digits(first, min(first + _CHUNK, 2**units), units, like.dtype, like.device))

    return torch.logsumexp(torch.cat(list(values())), 0)
