"""Descent with shrinkage for energies whose linear map is a function rather than a matrix."""

from collections.abc import Callable

import torch
from torch import Tensor

from ebm_lib.latent.sparse.shrinkage import soft_threshold
from ebm_lib.require import has_values, require_count, require_finite, require_positive


@torch.no_grad()
def proximal_gradient(
    gradient: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    step_size: float,
    threshold: float | Tensor,
    steps: int,
    tol: float = 0.0,
    accelerated: bool = True,
) -> Tensor:
    r"""ISTA or FISTA for any smooth energy plus an L1 price: down the slope, then shrink.

    .. math:: z \leftarrow \operatorname{Shrink}_{\eta\lambda}\big[z - \eta \nabla E_\text{smooth}(z)\big]

    With ``accelerated``, from a point ahead, as :func:`ebm_lib.latent.sparse.fista` with its restarts.

    Args:
        gradient: of the smooth part, (..., L) to (..., L).
        start: (..., L).
        step_size: η, at most one over the Lipschitz constant of the gradient.
        threshold: ηλ, a number or (L,).
        steps: iterations at most.
        tol: stop when no coordinate of any sample moves by more than this times the largest code.
        accelerated: with momentum.

    Returns:
        (..., L), without gradient.

    Raises:
        ValueError: steps below 1, a step size that is not positive, codes that diverge.

    Source: Beck and Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems (SIAM
    Journal on Imaging Sciences 2009).

    >>> y = torch.tensor([3.0, 0.2])
    >>> proximal_gradient(lambda z: 2 * (z - y), torch.zeros(2), step_size=0.5, threshold=0.5, steps=1)
    tensor([2.5000, 0.0000])
    """
    require_positive("step_size", step_size)
    z = ahead = start
    t = start.new_ones(*start.shape[:-1], 1)
    for _ in range(require_count("steps", steps)):
        new = soft_threshold(ahead - step_size * gradient(ahead), threshold)
        moved = new - z
        if accelerated:
            t = torch.where(((ahead - new) * moved).sum(-1, keepdim=True) > 0, 1.0, t)
            t_next = (1 + (1 + 4 * t * t).sqrt()) / 2
            ahead = new + (t - 1) / t_next * moved
            t = t_next
        else:
            ahead = new
        z = new
        if tol and has_values(z) and (not z.numel() or moved.abs().max() <= tol * z.abs().max()):
            break
    return require_finite("codes", z)
