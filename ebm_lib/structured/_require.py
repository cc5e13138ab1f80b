"""What the sequences of this package must be: lengths and labels."""

import torch
from torch import Tensor

from ebm_lib.require import has_values


def require_lengths(name: str, lengths: Tensor, batch: torch.Size, most: int) -> Tensor:
    """Check that there is one integer from 0 to ``most`` for each sample."""
    _require_integers(name, lengths)
    if lengths.shape != batch:
        raise ValueError(f"{name} must hold one number per sequence, shape {tuple(batch)}, got {tuple(lengths.shape)}")
    if has_values(lengths) and ((lengths < 0) | (lengths > most)).any():
        raise ValueError(f"{name} must be from 0 to {most}, got {int(lengths.min())} to {int(lengths.max())}")
    return lengths


def require_labels(labels: Tensor, size: int, lengths: Tensor | None) -> Tensor:
    """Check that each label that counts, (..., T), is from 0 to ``size`` − 1; put 0 behind the ends."""
    _require_integers("labels", labels)
    if lengths is not None:
        labels = torch.where(torch.arange(labels.shape[-1], device=labels.device) < lengths.unsqueeze(-1), labels, 0)
    if has_values(labels) and ((labels < 0) | (labels >= size)).any():
        raise ValueError(f"labels must be from 0 to {size - 1}, got {int(labels.min())} to {int(labels.max())}")
    return labels.long()


def _require_integers(name: str, numbers: Tensor) -> None:
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, got {numbers.dtype}")
