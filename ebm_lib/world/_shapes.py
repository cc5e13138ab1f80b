"""What the forward models ask of states, actions and latents: their widths, and that they broadcast."""

import torch
from torch import Tensor


def leading_dimensions(**given: tuple[Tensor, int]) -> tuple[int, ...]:
    """Return what the leading dimensions broadcast to, of tensors (..., width) given with their widths."""
    for name, (tensor, width) in given.items():
        if tensor.shape[-1:] != (width,):
            raise ValueError(f"{name} must be (..., {width}), got shape {tuple(tensor.shape)}")
    try:
        return torch.broadcast_shapes(*(tensor.shape[:-1] for tensor, _ in given.values()))
    except RuntimeError:
        told = ", ".join(str(tuple(tensor.shape)) for tensor, _ in given.values())
        raise ValueError(f"leading dimensions of {', '.join(given)} must broadcast, got shapes {told}") from None
