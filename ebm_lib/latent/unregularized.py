r"""The disaster to avoid: a free latent variable without a limit, and an energy that is flat.

.. math:: E(y, z) = \lVert y - \text{Dec}(z) \rVert^2, \qquad F_\infty(y) = \min_z E(y, z)

If z has as many dimensions as y, some z reconstructs every y: the energy is 0 everywhere, data or not, and learning
has nothing to do. :func:`levenberg_marquardt` is the search for z, a descent that knows the energy is a sum of squares.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ebm_lib import train
from ebm_lib.data.draw import kind_of, normal
from ebm_lib.inference import Descent
from ebm_lib.latent.model import blocks, require_data, require_decoded, require_last
from ebm_lib.nn import MLP
from ebm_lib.require import has_values, require_count, require_finite, require_points, require_positive


def levenberg_marquardt(
    decode: Callable[[Tensor], Tensor],
    y: Tensor,
    start: Tensor,
    *,
    steps: int = 50,
    damping: float = 1e-3,
    tol: float = 1e-10,
) -> Descent:
    r"""Minimise the squared distance from y to a decoder's output, for all samples at once.

    .. math::

        \delta = (J^\top J + \mu I)^{-1} J^\top (y - \text{Dec}(z)), \qquad J = \frac{\partial\,\text{Dec}}{\partial z}

    A step is taken where it lowers the energy. There μ falls, by a factor of up to 3, if the energy fell as much as a
    linear decoder's would; elsewhere μ rises. So the energy never rises, and no step size needs to be chosen: large μ
    makes short steps downhill, small μ is Newton's method with the decoder taken as linear, exact in one step if it is.
    The decoder's own curvature is left out, so convergence is slow where y is far from everything decoded.

    Args:
        decode: (..., L) → (..., D), each z on its own, differentiable.
        y: (..., D).
        start: (..., L), the same leading shape.
        steps: how many, at most.
        damping: the first μ, as a share of the mean of the diagonal of JᵀJ.
        tol: stop when every gradient is this short, in units of energy / z; 0 takes all steps.

    Returns:
        A descent, without a path.

    Raises:
        ValueError: shapes that do not pair, values that are not finite, steps, damping or tol out of range.

    Source: Marquardt, An algorithm for least-squares estimation of nonlinear parameters (SIAM
    Journal 11, 1963); Nielsen, Damping parameter in Marquardt's method (Technical University of Denmark, 1999), for μ.

    >>> found = levenberg_marquardt(torch.sin, torch.tensor([[0.5]]), torch.zeros(1, 1))
    >>> found.argmin
    tensor([[0.5236]])
    """
    require_points("y", y)
    require_points("start", start)
    if y.shape[:-1] != start.shape[:-1]:
        raise ValueError(f"y and start must be (..., D) and (..., L), got {tuple(y.shape)} and {tuple(start.shape)}")
    require_count("steps", steps)
    require_positive("damping", damping)
    if not tol >= 0:
        raise ValueError(f"tol must be at least 0, got {tol}")
    target, z = y.detach().reshape(-1, y.shape[-1]), start.detach().reshape(-1, start.shape[-1])
    jacobian = torch.func.jacfwd if z.shape[-1] < target.shape[-1] else torch.func.jacrev
    slope_of = torch.func.vmap(jacobian(decode))
    with torch.no_grad():
        miss, J = target - require_decoded(decode(z), target.shape[-1], z), slope_of(z)
        energy = require_finite("energy", miss.square().sum(-1))
        tiny = torch.finfo(J.dtype).tiny
        mu = damping * J.square().sum(-2).mean(-1).clamp(min=tiny)
        rise = torch.full_like(mu, 2.0)
        for taken in range(steps + 1):
            gradient = -2 * (J.mT @ miss.unsqueeze(-1)).squeeze(-1)
            if taken == steps or bool((gradient.norm(dim=-1) <= tol).all()):
                break
            step = _damped_step(J, miss, mu)
            trial = z + step
            trial_miss = target - decode(trial)
            trial_energy = trial_miss.square().sum(-1)
            promised = (step * (mu.unsqueeze(-1) * step - gradient / 2)).sum(-1)
            better = trial_energy < energy  # false for NaN, so a step that leaves the decoder's domain is not taken
            kept = torch.where(better, (energy - trial_energy) / promised, 0.0)
            mu = mu * torch.where(better, (1 - (2 * kept - 1) ** 3).clamp(min=1 / 3), rise)
            mu = mu.clamp(max=1e15 * J.square().sum((-2, -1)).clamp(min=tiny))  # growing ever faster, it would overflow
            rise = torch.where(better, 2.0, (2 * rise).clamp(max=1e6))
            z, miss = (torch.where(better.unsqueeze(-1), a, b) for a, b in ((trial, z), (trial_miss, miss)))
            energy = torch.where(better, trial_energy, energy)
            if not better.any() and bool((mu > 1e12 * J.square().sum((-2, -1))).all()):
                break  # steps too short to matter in this precision: a minimum
            J = slope_of(z)
    leading = y.shape[:-1]
    return Descent(z.reshape(start.shape), energy.reshape(leading), gradient.norm(dim=-1).reshape(leading), taken, None)


def _damped_step(J: Tensor, miss: Tensor, mu: Tensor) -> Tensor:
    """Solve in the smaller of the two spaces: (JᵀJ + μI)⁻¹Jᵀ = Jᵀ(JJᵀ + μI)⁻¹."""
    D, L = J.shape[-2:]
    gram = J.mT @ J if L <= D else J @ J.mT
    # A floor of rounding size keeps the factorization possible once μ has become negligible.
    floor = torch.finfo(J.dtype).eps * gram.diagonal(dim1=-2, dim2=-1).amax(-1) * max(D, L)
    gram.diagonal(dim1=-2, dim2=-1).add_(torch.maximum(mu, floor).unsqueeze(-1))
    factor = torch.linalg.cholesky(gram)
    right = miss.unsqueeze(-1)
    if L <= D:
        return torch.cholesky_solve(J.mT @ right, factor).squeeze(-1)
    return (J.mT @ torch.cholesky_solve(right, factor)).squeeze(-1)


class Unregularized(nn.Module):
    r"""A decoder with a free latent variable and no price on it.

    .. math:: E(y, z) = \lVert y - \text{Dec}(z) \rVert^2

    The only limit is the number of dimensions of z. Below that of y the energy is low on a surface; from there on it
    is flat, and the more so the better the model is.

    Args:
        D: dimensions of y.
        L: dimensions of z.
        hidden: widths of the decoder's hidden layers; none makes it linear, with the closed form of inference.
        decoder: any module (..., L) → (..., D) in place of the perceptron.
        starts: how many latent values a search can start from, drawn once; each y takes the best of them.
        activation: the perceptron's.
        generator: draws the weights and the starts; torch's global generator if None.
        device: where they live.
        dtype: their dtype.

    Attributes:
        decoder: the module.
        starts: (S, L), a buffer; the first is 0.

    Raises:
        ValueError: a size below 1.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Prediction with Latent Variables" and
    "Regularized Latent Variable EBM".

    >>> flat = Unregularized(2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> y = torch.tensor([[0.0, 1.0], [30.0, -4.0]], dtype=torch.float64)
    >>> bool((flat(y) < 1e-20).all())
    True
    """

    def __init__(
        self,
        D: int,
        L: int,
        hidden: Sequence[int] = (),
        *,
        decoder: nn.Module | None = None,
        starts: int = 64,
        activation: str = "softplus",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.D, self.L, hidden = require_count("D", D), require_count("L", L), tuple(hidden)
        require_count("starts", starts)
        dtype, device = kind_of(None, dtype, device)
        self.decoder = decoder or MLP(
            (L, *hidden, D), activation=activation, generator=generator, device=device, dtype=dtype
        )
        drawn = normal((starts - 1, L), generator, dtype, device)
        self.register_buffer("starts", torch.cat([drawn.new_zeros(1, L), drawn]))

    @property
    def linear(self) -> nn.Linear | None:
        """The decoder's only layer, if it has one layer only."""
        if isinstance(self.decoder, nn.Linear):
            return self.decoder
        layers = self.decoder.linears if isinstance(self.decoder, MLP) else ()
        return layers[0] if len(layers) == 1 else None

    def decode(self, z: Tensor) -> Tensor:
        """Return ȳ = Dec(z), (..., D), for z (..., L)."""
        return require_decoded(self.decoder(require_last("z", z, self.L)), self.D, z)

    def energy(self, y: Tensor, z: Tensor) -> Tensor:
        """Return E(y, z), the squared distance of y, (..., D), from what z, (..., L), decodes to."""
        return (require_last("y", y, self.D) - self.decode(z)).square().sum(-1)

    def infer(self, y: Tensor, *, steps: int = 50, tol: float = 1e-10, block_size: int | None = None) -> Tensor:
        """Find ž, (..., L): of least length if the decoder is linear, else a local minimum.

        Args:
            y: (..., D).
            steps: of :func:`levenberg_marquardt`, at most; a linear decoder needs none.
            tol: its tolerance.
            block_size: points searched for at a time; None keeps the temporaries under 32 MiB.

        Returns:
            ž, through which no gradient flows.

        Raises:
            ValueError: y not (..., D) or not finite, steps or tol out of range.
        """
        with torch.no_grad():
            points = require_last("y", y, self.D).reshape(-1, self.D)
            if (layer := self.linear) is not None:
                offset = points if layer.bias is None else points - layer.bias
                return (offset @ torch.linalg.pinv(layer.weight).mT).reshape(*y.shape[:-1], self.L)
            row = y.element_size() * (len(self.starts) * self.D + 4 * self.D * self.L)
            found = [points.new_zeros(0, self.L)]
            for rows in blocks(len(points), row, block_size):
                begin = self.starts[self.energy(points[rows].unsqueeze(-2), self.starts).argmin(-1)]
                found.append(levenberg_marquardt(self.decode, points[rows], begin, steps=steps, tol=tol).argmin)
            return torch.cat(found).reshape(*y.shape[:-1], self.L)

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        r"""Return F_β(y), (...), for y (..., D).

        At β = ∞ the minimum; its gradient in y and in the parameters is that of E at ž, which is the gradient of the
        minimum. At finite β, for a linear decoder, the integral over all z:
        :math:`F_\infty + \frac{1}{2\beta}\log\det\frac{\beta W^\top W}{\pi}`.

        Raises:
            ValueError: a finite beta where the integral over z has no closed form, or diverges.
        """
        require_positive("beta", beta, allow_inf=True)
        lowest = self.energy(y, self.infer(y))
        if math.isinf(beta):
            return lowest
        layer = self.linear
        if layer is None:
            raise ValueError(f"beta must be inf for a decoder with hidden layers: no closed form, got {beta}")
        sign, log_det = torch.linalg.slogdet(layer.weight.mT @ layer.weight * (beta / math.pi))
        if has_values(sign) and (sign <= 0 or torch.linalg.matrix_rank(layer.weight.detach()) < self.L):
            raise ValueError(
                f"beta must be inf: z is free along directions that do not change the decoder's output, and the "
                f"integral over them diverges, got {beta} with {self.L} latent dimensions for {self.D}"
            )
        return lowest + log_det / (2 * beta)

    forward = free_energy

    def learn(self, y: Tensor, *, steps: int = 200, progress: bool = False, **options: Any) -> train.History:
        """Lower the mean of the minima over z by gradient descent: infer, then a step at the ž found.

        Args:
            y: (N, D).
            steps: how many.
            progress: show a bar.
            options: of :func:`ebm_lib.train.fit`, such as ``lr``, ``batch_size`` and ``generator``.

        Raises:
            ValueError: data of another shape or not finite; as :func:`ebm_lib.train.fit`.
        """
        require_data(y, self.D)
        return train.fit(self, lambda model, y: model(y).mean(), y, steps=steps, progress=progress, **options)
