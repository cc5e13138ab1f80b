"""How the variables of one energy fit together: leading dimensions that broadcast, last ones side by side."""

import torch
from torch import Tensor


def leading(**variables: Tensor) -> torch.Size:
    """The common leading shape of variables (..., D), each with its own D.

    Raises:
        ValueError: leading dimensions that do not broadcast.

    >>> leading(x=torch.zeros(5, 1, 3), y=torch.zeros(7, 2))
    torch.Size([5, 7])
    >>> leading(mean=torch.zeros(5, 2), std=torch.zeros(4, 2))
    Traceback (most recent call last):
    ...
    ValueError: the leading dimensions of mean and std must broadcast, got shapes (5, 2) and (4, 2)
    """
    try:
        return torch.broadcast_shapes(*(v.shape[:-1] for v in variables.values()))
    except RuntimeError:
        names, shapes = " and ".join(variables), " and ".join(str(tuple(v.shape)) for v in variables.values())
        raise ValueError(f"the leading dimensions of {names} must broadcast, got shapes {shapes}") from None


def joined(**variables: Tensor) -> Tensor:
    """Variables side by side in the last dimension, as a network of both takes them.

    Raises:
        ValueError: as :func:`leading`.

    >>> joined(h=torch.zeros(5, 3), z=torch.ones(2)).shape
    torch.Size([5, 5])
    """
    lead = leading(**variables)
    return torch.cat([v.expand(*lead, -1) for v in variables.values()], -1)
