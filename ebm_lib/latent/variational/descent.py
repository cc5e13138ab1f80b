"""Inference of a latent variable by descent with steps that fit each sample: a step that fails to descend is halved."""

from collections.abc import Callable

import torch
from torch import Tensor

from ebm_lib.energy import Energy, evaluate
from ebm_lib.require import require_count, require_differentiable, require_finite, require_points

LONGEST = 1e8  # the longest rate: on a plateau it would grow without end


def descend(
    energy: Energy, start: Tensor, *, steps: int = 100, project: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    r"""Minimise an energy from a start, each sample with a step size of its own, so that no energy ever rises.

    .. math:: z' = \Pi(z - \eta \nabla E(z)), \qquad
        \text{taken if } E(z') \le E(z) - \tfrac{1}{4\eta} \lVert z' - z \rVert^2

    η is the inverse of the curvature that the last step met (Barzilai and Borwein), and a step refused halves it: no
    step size to choose, whatever the decoder's curvature. :func:`ebm_lib.inference.gradient_descent`, in contrast,
    takes one for all samples. No gradient flows through, and the energy's parameters receive none.

    Args:
        energy: of z, differentiable; ``start`` gives (...) numbers.
        start: (..., L).
        steps: how many are tried.
        project: Π, the nearest point of the set that z is held to; none if None.

    Returns:
        z, (..., L), of an energy at most that of the (projected) start.

    Raises:
        ValueError: a start that is not finite, an energy of the wrong shape or without a gradient, a projection that
            changes the shape.

    Source: Barzilai and Borwein, Two-point step size gradient methods (IMA Journal of Numerical Analysis 8, 1988).

    >>> steep = lambda z: (torch.tensor([1.0, 400.0]) * (z - 3).square()).sum(-1)
    >>> descend(steep, torch.zeros(2)).round(decimals=2)
    tensor([3., 3.])
    """
    require_points("start", start)
    require_count("steps", steps)
    project = project or (lambda z: z)
    z = project(start.detach())
    if z.shape != start.shape:
        raise ValueError(f"project must return z's own shape, {tuple(start.shape)}, got {tuple(z.shape)}")
    longest = min(LONGEST, torch.finfo(z.dtype).max)
    rate = torch.ones_like(z[..., :1])
    step = change = z
    taken = None
    for _ in range(steps):
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            value = require_differentiable("energy", evaluate(energy, at))
            (slope,) = torch.autograd.grad(value.sum(), at)
        with torch.no_grad():
            require_finite("slope", slope)
            if taken is not None:
                change = slope - change
                along, bend = (step * step).sum(-1, keepdim=True), (step * change).sum(-1, keepdim=True)
                curved = taken & (bend * 10 * rate > along)  # else the curvature is negative, or too small to trust
                safe = torch.where(curved, bend, torch.ones_like(bend))
                rate = torch.where(curved, along / safe, torch.where(taken, 10 * rate, rate / 2)).clamp(max=longest)
            new = project(z - rate * slope)
            moved = (new - z).square().sum(-1)
            # A step too long may land where nothing can be computed: that is a refusal, not an error.
            taken = (energy(new) <= value - moved / (4 * rate.squeeze(-1))).unsqueeze(-1)
            step, change = new - z, slope
            z = torch.where(taken, new, z)
    return z.detach()
