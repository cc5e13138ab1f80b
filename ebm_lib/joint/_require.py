"""What every criterion asks of its embeddings: floating point, finite, and batches that pair up row by row."""

import torch
from torch import Tensor

from ebm_lib.require import has_values, require_points, require_positive


def require_embeddings(name: str, z: Tensor, *, minimum: int = 1) -> Tensor:
    """Return ``z`` if it is a batch of at least ``minimum`` finite vectors, (N, D), floating point."""
    if not isinstance(z, Tensor):
        raise TypeError(f"{name} must be a tensor of embeddings, got {type(z).__name__}")
    if z.ndim != 2 or len(z) < minimum:
        least = f" with N ≥ {minimum}" if minimum > 1 else ", N ≥ 1"
        raise ValueError(f"{name} must be a batch of embeddings (N, D){least}, got shape {tuple(z.shape)}")
    if not z.is_floating_point() or z.shape[1] == 0 or not (has_values(z) and z.detach().sum().isfinite()):
        require_points(name, z)  # a sum is finite only if all are: the look at each of them is for the message
    return z


def require_views(*, minimum: int = 1, **views: Tensor) -> None:
    """Ask that all views are batches of equal shape on one device: row i of each belongs to the same sample."""
    shapes = {name: tuple(require_embeddings(name, z, minimum=minimum).shape) for name, z in views.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"views must have equal shapes, row i of each for sample i; got {told}")
    if len({z.device for z in views.values()}) > 1:
        told = ", ".join(f"{name} on {z.device}" for name, z in views.items())
        raise ValueError(f"views must be on one device; got {told}")


def unit(name: str, z: Tensor) -> Tensor:
    """Return z / ‖z‖ along the last dimension; a vector without a direction is refused, not replaced."""
    return z / _lengths(name, z).unsqueeze(-1)


def cosines(x_name: str, x: Tensor, y_name: str, y: Tensor) -> Tensor:
    """Return the cosines between vectors x and y, (...), for (..., D), without making the unit vectors."""
    return (x * y).sum(-1) / (_lengths(x_name, x) * _lengths(y_name, y))


def _lengths(name: str, z: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(z, dim=-1)
    if has_values(norm):
        bad = ~((norm > torch.finfo(z.dtype).tiny) & norm.isfinite())
        if bad.any():
            raise ValueError(
                f"{name} must have no vector of length 0 (or beyond the range of {z.dtype}), since it is normalised: "
                f"{int(bad.sum())} of {bad.numel()} are, the first at index {tuple(bad.nonzero()[0].tolist())}"
            )
    return norm


def require_divisor(name: str, number: float, like: Tensor) -> float:
    """Return a temperature that numbers of ``like``'s dtype can be divided by: positive, and no overflow in sight."""
    tiny = torch.finfo(like.dtype).tiny
    if require_positive(name, number) < tiny:
        raise ValueError(f"{name} must be a positive number of {like.dtype}, which begin at {tiny:.3g}, got {number}")
    return number


def require_weight(name: str, weight: float) -> float:
    """Return ``weight`` if it is a finite number of at least 0: 0 switches a term off."""
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise TypeError(f"{name} must be a number, got {type(weight).__name__}")
    if not 0 <= weight < float("inf"):
        raise ValueError(f"{name} must be finite and at least 0, got {weight}")
    return weight
