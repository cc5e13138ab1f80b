"""What every loss asks of its energies: floating point, finite, and shapes that pair up without a surprise."""

import math

import torch
from torch import Tensor

from ebm_lib.require import has_values, require_finite, require_nonempty


def require_energies(name: str, energy: Tensor, *, allow_posinf: bool = False) -> Tensor:
    """Return ``energy`` if it is a floating-point tensor of finite values (or +inf, for what is impossible)."""
    if not isinstance(energy, Tensor):
        raise TypeError(f"{name} must be a tensor of energies, got {type(energy).__name__}")
    if not energy.is_floating_point():
        raise ValueError(f"{name} must be floating point to be learned from, got {energy.dtype}")
    return require_finite(name, energy, allow_posinf=allow_posinf)


def require_pair(positive: Tensor, negative: Tensor) -> torch.Size:
    """Return the shape that a pair of energies makes together.

    The same number of dimensions is asked for: (B,) against (B, 1) would quietly become (B, B).
    """
    require_energies("positive", positive)
    require_energies("negative", negative, allow_posinf=True)
    if positive.ndim == negative.ndim:
        try:
            return torch.broadcast_shapes(positive.shape, negative.shape)
        except RuntimeError:
            pass
    raise ValueError(
        "positive and negative must have the same number of dimensions, of equal sizes or 1, "
        f"got shapes {tuple(positive.shape)} and {tuple(negative.shape)}"
    )


def require_group(positive: Tensor, negative: Tensor) -> torch.Size:
    """Return the shape (..., N) of one positive (...) against a group of negatives (..., N)."""
    require_energies("positive", positive)
    require_energies("negative", negative, allow_posinf=True)
    require_nonempty("negative", negative, -1)
    if negative.shape[:-1] != positive.shape:
        raise ValueError(
            "negative must hold a group for each positive, shape (..., N) for a positive of shape (...), "
            f"got {tuple(negative.shape)} for {tuple(positive.shape)}"
        )
    return negative.shape


def require_groups(
    positive: Tensor, negative: Tensor, *, positive_posinf: bool = False, negative_posinf: bool = False
) -> torch.Size:
    """Return the leading shape of two groups, (..., P) and (..., N)."""
    require_energies("positive", positive, allow_posinf=positive_posinf)
    require_energies("negative", negative, allow_posinf=negative_posinf)
    require_nonempty("positive", positive, -1)
    require_nonempty("negative", negative, -1)
    if positive.shape[:-1] != negative.shape[:-1]:
        raise ValueError(
            "positive and negative must be groups with the same leading shape, (..., P) and (..., N), "
            f"got {tuple(positive.shape)} and {tuple(negative.shape)}"
        )
    return positive.shape[:-1]


def require_margin(margin: float | Tensor, like: Tensor, shape: torch.Size) -> float | Tensor:
    """Return a margin that is finite, not negative, and broadcasts to ``shape`` without enlarging it."""
    if not isinstance(margin, Tensor):
        if isinstance(margin, bool) or not isinstance(margin, int | float):
            raise TypeError(f"margin must be a number or a tensor, got {type(margin).__name__}")
        if not (math.isfinite(margin) and margin >= 0):
            raise ValueError(f"margin must be finite and at least 0, got {margin}")
        return margin
    require_finite("margin", margin)
    if has_values(margin) and (margin < 0).any():
        raise ValueError(f"margin must be at least 0 everywhere, the lowest is {margin.min().item()}")
    try:
        fits = torch.broadcast_shapes(margin.shape, shape) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"margin must broadcast to the shape of the pairs, {tuple(shape)}, got {tuple(margin.shape)}")
    return margin.to(like.dtype)


def require_answers(energy: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the energy of the right answer (...) and where it is, (..., K), given energies (..., K)."""
    require_energies("energy", energy, allow_posinf=True)
    require_nonempty("energy", energy, -1)
    if not isinstance(target, Tensor) or target.is_floating_point() or target.dtype == torch.bool:
        kind = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise ValueError(f"target must be a tensor of whole numbers, the index of the right answer, got {kind}")
    if target.shape != energy.shape[:-1]:
        raise ValueError(
            f"target must hold one index per sample, shape {tuple(energy.shape[:-1])}, got {tuple(target.shape)}"
        )
    target = target.long()  # in eight bits the number of answers may wrap around
    count = energy.shape[-1]
    if has_values(target) and ((target < 0) | (target >= count)).any():
        raise ValueError(
            f"target must index one of {count} answers, got values from {target.min().item()} to {target.max().item()}"
        )
    right = energy.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    require_finite("energy of the right answer", right)
    return right, torch.arange(count, device=energy.device) == target.unsqueeze(-1)
