"""Bring numbers near to 1 without rounding them, so that their squares neither overflow nor vanish."""

import torch
from torch import Tensor


def near_one(values: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    r"""Multiply by the power of two that brings the largest magnitude along ``dim`` between 2 and 4.

    .. math:: x_i \mapsto 2^{-k} x_i, \qquad 2^{k+1} \le \max_i |x_i| < 2^{k+2}

    Exact wherever nothing underflows: what does not depend on the unit comes out the same to the last bit. The factor
    is a constant for autograd. Zeros stay zeros; numbers below the smallest normal one come as near as they can.

    Args:
        values: floating point, any shape.
        dim: what shares a factor.

    >>> near_one(torch.tensor([[3e-30, 1e-30], [0.0, 0.0]]), -1).amax(-1)
    tensor([3.8030, 0.0000])
    """
    largest = values.detach().abs().amax(dim, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)
    mantissa, _ = torch.frexp(largest)
    return values * (4 * mantissa / largest)
