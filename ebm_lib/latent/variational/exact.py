r"""The bound without draws: where E is quadratic, on a grid of z, and at the best Gaussian that there is.

.. math::

    \tilde F(y) - F_\beta(y) = \underbrace{\tilde F(y) - \min_q \tilde F(y)}_\text{amortisation}
        + \underbrace{\min_q \tilde F(y) - F_\beta(y)}_\text{family of q}
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.data.draw import normal
from ebm_lib.energy import Grid, LatentEnergy, evaluate
from ebm_lib.free_energy import free_energy
from ebm_lib.latent.variational.bound import (
    LogDensity,
    VariationalFreeEnergy,
    prior_log_density,
    variational_free_energy,
)
from ebm_lib.latent.variational.gaussian import DiagonalGaussian, gaussian_kl, log_normal_density, require_gaussian
from ebm_lib.latent.variational.shapes import leading
from ebm_lib.require import has_values, require_count, require_finite, require_positive


def quadratic_free_energy(
    energy: LatentEnergy, y: Tensor, mean: Tensor, std: Tensor, beta: float
) -> VariationalFreeEnergy:
    r"""Bound the free energy without a draw, exactly, where E is quadratic in z.

    .. math::

        \langle E \rangle_q = E(y, m) + \frac12 \sum_i \bigl[E(y, m + s_i e_i) + E(y, m - s_i e_i) - 2 E(y, m)\bigr]

    The bracket is :math:`s_i^2\,\partial^2 E/\partial z_i^2`. Odd powers average out, so a cubic is exact too.

    Args:
        energy: E(y, z).
        y: (..., D).
        mean: of q, (..., L).
        std: of q, (..., L), positive.
        beta: inverse temperature, > 0; ``inf`` drops the information.

    Returns:
        The parts, with error 0.

    Raises:
        ValueError: E is not quadratic in z along the axes and their common diagonal, around m; as
            :func:`variational_free_energy`.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Variational Auto-Encoder" (Q is
    quadratic).

    >>> E = lambda y, z: (y - z).square().sum(-1)
    >>> quadratic_free_energy(E, torch.zeros(2), torch.zeros(2), torch.tensor([1.0, 2.0]), 1.0).mean_energy
    tensor(5.)
    """
    require_positive("beta", beta, allow_inf=True)
    require_gaussian(mean, std)
    mean, std = torch.broadcast_tensors(mean, std)
    # One direction per dimension, and one with all of them at once, where a product of two of them would show.
    ways = torch.cat([torch.diag_embed(std), std.unsqueeze(-2)], -2)
    middle = evaluate(energy, y, mean)
    around, lone = mean.unsqueeze(-2), y.unsqueeze(-2)

    def second_difference(scale: float) -> Tensor:
        sides = evaluate(energy, lone, around + scale * ways) + evaluate(energy, lone, around - scale * ways)
        return sides - 2 * middle.unsqueeze(-1)

    once, twice = second_difference(1.0), second_difference(2.0)
    if has_values(once):
        slack = 1e3 * torch.finfo(once.dtype).eps * (twice.abs() + middle.abs().unsqueeze(-1) + 1)
        off = (twice - 4 * once).detach().abs()
        if (off > slack).any():
            raise ValueError(
                f"energy must be quadratic in z: steps of s and of 2s around the mean disagree by up to {off.max():.3g}"
            )
    mean_energy = middle + once[..., :-1].sum(-1) / 2
    information = gaussian_kl(mean, std)
    value = mean_energy + information / beta
    return VariationalFreeEnergy(value, mean_energy, information.expand_as(value), torch.zeros_like(value))


class GridBound(NamedTuple):
    """The bound, what it bounds and the gap between them, each summed over a grid of z on its own.

    Attributes:
        bound: F̃ of q, (...), in units of energy.
        free_energy: F_β, (...), in units of energy.
        gap: KL(q‖P(z|y))/β, (...), in units of energy.
    """

    bound: Tensor
    free_energy: Tensor
    gap: Tensor


def bound_on_grid(
    energy: LatentEnergy,
    y: Tensor,
    mean: Tensor,
    std: Tensor,
    beta: float,
    latent: Grid,
    *,
    log_prior: LogDensity | None = None,
) -> GridBound:
    r"""Bound, exact free energy and gap of a latent variable of few dimensions, by quadrature.

    .. math::

        \tilde F = \int q \left[E + \tfrac1\beta \log \tfrac qp\right] dz, \qquad
        F_\beta = -\tfrac1\beta \log \int p\,e^{-\beta E}\,dz, \qquad
        \tilde F - F_\beta = \tfrac1\beta \int q \log \frac{q}{P(z \mid y)}\,dz

    Args:
        energy: E(y, z).
        y: (..., D).
        mean: of q, (..., L).
        std: of q, (..., L), positive.
        beta: inverse temperature, > 0 and finite.
        latent: cells of z, from :func:`ebm_lib.energy.grid`.
        log_prior: log density of another prior than the standard Gaussian, z (..., L) → (...).

    Raises:
        ValueError: the grid is too small or too coarse for q, so that q's mass on it is not 1 within 0.1 %; as
            :func:`variational_free_energy`.

    >>> from ebm_lib.energy import grid
    >>> E = lambda y, z: (y - z).square().sum(-1)
    >>> found = bound_on_grid(E, torch.zeros(1), torch.zeros(1), torch.ones(1), 1.0, grid([-8.0], [8.0], 400))
    >>> torch.allclose(found.bound - found.free_energy, found.gap), bool(found.gap > 0)
    (True, True)
    """
    require_positive("beta", beta)
    log_q = log_normal_density(latent.points, mean.unsqueeze(-2), std.unsqueeze(-2)) + latent.log_cell
    mass = torch.logsumexp(log_q, -1)
    if has_values(mass) and ((mass.detach().exp() - 1).abs() > 1e-3).any():
        worst = mass.detach().exp().flatten()[(mass.detach().exp() - 1).abs().argmax()].item()
        raise ValueError(f"latent must be a grid that covers q finely: q's mass on it is {worst:.4g}, not 1")
    log_q = log_q - mass.unsqueeze(-1)
    log_p = require_finite("log_prior", prior_log_density(log_prior, latent.points)) + latent.log_cell
    values = require_finite("energy", evaluate(energy, y.unsqueeze(-2), latent.points))
    log_posterior = torch.log_softmax(log_p - beta * values, -1)
    q = log_q.exp()
    return GridBound(
        (q * (values + (log_q - log_p) / beta)).sum(-1),
        free_energy(values, beta, log_volume=log_p),
        (q * (log_q - log_posterior)).sum(-1) / beta,
    )


def best_gaussian(
    energy: LatentEnergy,
    y: Tensor,
    mean: Tensor,
    std: Tensor,
    beta: float,
    *,
    samples: int = 64,
    steps: int = 300,
    lr: float = 0.05,
    generator: torch.Generator | None = None,
) -> DiagonalGaussian:
    r"""Find the diagonal Gaussian with the lowest bound for each y, from a start such as an encoder's answer.

    .. math:: \check m, \check s = \operatorname*{argmin}_{m, s} \tilde F(y; m, s)

    What it gains over the encoder is the price of amortisation; what it still lacks of F_β is the price of the family.
    The draws are the same at each step, in pairs ±ξ whose second moments are exactly those of the Gaussian, so that
    a quadratic E is averaged exactly. The energy's parameters receive no gradient.

    Args:
        energy: E(y, z), differentiable in z.
        y: (..., D).
        mean: the start, (..., L).
        std: the start, (..., L), positive.
        beta: inverse temperature, > 0 and finite.
        samples: K, even, more than 2 L.
        steps: of Adam, its rate falling to 0 in a half cosine.
        lr: the rate at the start, for m and log s.
        generator: draws ξ.

    Raises:
        ValueError: an odd or too small K; as :func:`variational_free_energy`.

    Source: Cremer, Li and Duvenaud, Inference suboptimality in variational autoencoders (ICML 2018).

    >>> E = lambda y, z: (y - z).square().sum(-1)
    >>> found = best_gaussian(E, torch.tensor([3.0]), torch.zeros(1), torch.ones(1), 1.0)
    >>> found.mean.round(decimals=3), found.std.square().round(decimals=3)
    (tensor([2.]), tensor([0.3330]))
    """
    require_positive("beta", beta)
    require_positive("lr", lr)
    require_gaussian(mean, std)
    L = mean.shape[-1]
    if require_count("samples", samples) % 2 or samples <= 2 * L:
        raise ValueError(f"samples must be even and more than twice the {L} dimensions of z, got {samples}")
    half = normal((samples // 2, L), generator, mean.dtype, mean.device)
    factor = torch.linalg.cholesky(half.mT @ half / len(half))
    half = torch.linalg.solve_triangular(factor, half.mT, upper=False).mT
    noise = torch.cat([half, -half])
    lead = leading(mean=mean, std=std, y=y)
    with torch.enable_grad():
        m = mean.detach().expand(*lead, L).clone().requires_grad_()
        log_s = std.detach().log().expand(*lead, L).clone().requires_grad_()
        optimizer = torch.optim.Adam([m, log_s], lr=lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, require_count("steps", steps))
        for _ in range(steps):
            bound = variational_free_energy(energy, y, m, log_s.exp(), beta, samples=samples, noise=noise)
            # Adam's step does not depend on the scale of the sum: each y descends as if alone.
            m.grad, log_s.grad = torch.autograd.grad(bound.free_energy.sum(), (m, log_s))
            optimizer.step()
            schedule.step()
    return DiagonalGaussian(m.detach(), log_s.detach().exp())
