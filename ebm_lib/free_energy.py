r"""Free energy: what remains of a latent-variable energy when the latent variable is taken out.

.. math::

    F_\infty(y) = \min_z E(y, z), \qquad F_\beta(y) = -\frac{1}{\beta} \log \int_z e^{-\beta E(y, z)}\,dz

:func:`free_energy` turns values of E into F; the ``over_…`` functions first evaluate E over a kind of latent
(discrete, gridded, sampled, Gaussian) and then call it. Import as ``from ebm_lib import free_energy as fe``.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.energy import Grid, LatentEnergy, evaluate, gibbs
from ebm_lib.require import has_values, require_finite, require_nonempty, require_positive


def free_energy(energy: Tensor, beta: float = math.inf, *, log_volume: Tensor | float = 0.0, dim: int = -1) -> Tensor:
    r"""Free energy of a latent variable: its minimum at zero temperature, a soft minimum above.

    .. math::

        F_\beta = -\frac{1}{\beta} \log \sum_z v_z\,e^{-\beta E(z)}, \qquad F_\infty = \min_{z:\,v_z > 0} E(z)

    Computed as :math:`E_{\min} - \frac{1}{\beta} \log \sum_z v_z e^{-\beta (E(z) - E_{\min})}`, so no β overflows.
    As β → 0 it tends to the mean of E under v if v sums to one (a prior); else the term
    :math:`-\frac{1}{\beta} \log \sum_z v_z` takes over.

    Args:
        energy: E at each latent value, any shape; ``dim`` runs over z. +inf marks an impossible z.
        beta: inverse temperature, in units of 1/energy, > 0; ``inf`` takes the minimum.
        log_volume: log of the volume or prior mass v each value stands for (0 counts values of a discrete z,
            ``grid.log_cell`` integrates over a grid, a log-prior averages); broadcasts against ``energy``.
        dim: the latent dimension.

    Returns:
        F, with ``dim`` removed; same dtype and device as ``energy``.

    Raises:
        ValueError: beta not positive, ``dim`` empty, an energy that is NaN or -inf, a log-volume that is NaN or +inf.

    Source: LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), "Latent-Variable EBM: inference".

    >>> free_energy(torch.tensor([1.0, 2.0]))
    tensor(1.)
    >>> free_energy(torch.tensor([1.0, 1.0]), beta=1.0, log_volume=math.log(0.5))
    tensor(1.)
    """
    require_positive("beta", beta, allow_inf=True)
    require_nonempty("energy", energy, dim)
    require_finite("energy", energy, allow_posinf=True)
    volume = torch.as_tensor(log_volume, dtype=energy.dtype, device=energy.device)
    require_finite("-log_volume", -volume, allow_posinf=True)
    energy, volume = torch.broadcast_tensors(energy, volume)
    possible = torch.where(volume == -math.inf, math.inf, energy)
    if math.isinf(beta):
        return possible.amin(dim)
    lowest = possible.detach().amin(dim, keepdim=True)
    # With every z impossible the lowest is +inf; shifting by 0 instead leaves F = +inf and not inf - inf.
    shift = torch.where(torch.isinf(lowest), 0.0, lowest)
    log_sum = torch.logsumexp(volume - beta * (energy - shift), dim)
    return shift.squeeze(dim) - log_sum / beta


def posterior(energy: Tensor, beta: float, *, log_volume: Tensor | float = 0.0, dim: int = -1) -> Tensor:
    r"""Gibbs distribution of the latent variable given what is observed.

    .. math:: P(z \mid y) = \frac{v_z\,e^{-\beta E(y, z)}}{\sum_{z'} v_{z'}\,e^{-\beta E(y, z')}}

    The gradient of the free energy is the expected gradient of the energy under it:
    :math:`\nabla F_\beta(y) = \sum_z P(z \mid y)\, \nabla_y E(y, z)`.

    Args:
        energy: E at each latent value; ``dim`` runs over z.
        beta: inverse temperature, > 0; ``inf`` shares the mass equally among the minima.
        log_volume: as :func:`free_energy`.
        dim: the latent dimension.

    Returns:
        Probabilities that sum to one along ``dim``; the shape of ``energy``.

    Raises:
        ValueError: as :func:`free_energy`; also if every z is impossible.

    >>> posterior(torch.tensor([1.0, 1.0, 5.0]), beta=math.inf)
    tensor([0.5000, 0.5000, 0.0000])
    """
    lowest = free_energy(energy, math.inf, log_volume=log_volume, dim=dim)
    if has_values(lowest) and torch.isposinf(lowest).any():
        raise ValueError("energy is +inf for every latent value of at least one sample: there is no posterior")
    if not math.isinf(beta):
        return gibbs(energy - lowest.unsqueeze(dim), beta, log_volume=log_volume, dim=dim)
    at_minimum = torch.where(energy == lowest.unsqueeze(dim), 0.0, math.inf).to(energy.dtype)
    return gibbs(at_minimum, log_volume=log_volume, dim=dim)


class Thermodynamics(NamedTuple):
    r"""The parts of :math:`F_\beta = \langle E \rangle - S / \beta`.

    Attributes:
        free_energy: F_β, (...), in units of energy.
        mean_energy: ⟨E⟩ under the posterior, (...), in units of energy.
        entropy: S of the posterior, (...), in nats; relative to the volume, so negative is possible.
    """

    free_energy: Tensor
    mean_energy: Tensor
    entropy: Tensor


def decompose(energy: Tensor, beta: float, *, log_volume: Tensor | float = 0.0, dim: int = -1) -> Thermodynamics:
    r"""Split the free energy into mean energy and entropy.

    .. math:: F_\beta = \langle E \rangle - \tfrac{1}{\beta} S, \qquad S = -\sum_z P_z \log \frac{P_z}{v_z}

    S is summed from the posterior, not computed from F, so that the identity can be checked.

    Args:
        energy: E at each latent value; ``dim`` runs over z.
        beta: inverse temperature, > 0 and finite.
        log_volume: as :func:`free_energy`. With a prior, S is minus the Kullback–Leibler divergence from it.
        dim: the latent dimension.

    Raises:
        ValueError: as :func:`posterior`; beta infinite.

    >>> parts = decompose(torch.tensor([0.0, 0.0]), beta=1.0)
    >>> parts.entropy
    tensor(0.6931)
    """
    require_positive("beta", beta)
    volume = torch.as_tensor(log_volume, dtype=energy.dtype, device=energy.device)
    probability = posterior(energy, beta, log_volume=volume, dim=dim)
    held = probability > 0  # 0 · log 0 and 0 · ∞ are 0 in both sums
    mean = torch.where(held, probability * torch.where(held, energy, 0.0), 0.0).sum(dim)
    log_ratio = torch.where(held, probability, 1.0).log() - torch.where(held, volume, 0.0)
    entropy = -torch.where(held, probability * log_ratio, 0.0).sum(dim)
    return Thermodynamics(free_energy(energy, beta, log_volume=volume, dim=dim), mean, entropy)


def over_discrete(
    energy: LatentEnergy, y: Tensor, codes: Tensor, beta: float = math.inf, *, log_prior: Tensor | float = 0.0
) -> Tensor:
    r"""Free energy with a latent variable that takes K values.

    .. math:: F_\beta(y) = -\tfrac{1}{\beta} \log \sum_k p_k\,e^{-\beta E(y, z_k)}

    Args:
        energy: E(y, z). With an x, pass ``fix(E, x[..., None, :])``.
        y: (..., D).
        codes: the values of z, (K, L).
        beta: inverse temperature, > 0; ``inf`` takes the minimum.
        log_prior: log of each value's prior mass, (K,); 0 counts every value once.

    Returns:
        F_β(y), (...).

    Raises:
        ValueError: ``codes`` empty or not (K, L); as :func:`free_energy`.

    >>> E = lambda y, z: (y - z).square().sum(-1)
    >>> over_discrete(E, torch.tensor([[0.9]]), torch.tensor([[0.0], [1.0]]))
    tensor([0.0100])
    """
    if codes.ndim != 2:
        raise ValueError(f"codes must be (K, L), got shape {tuple(codes.shape)}")
    require_nonempty("codes", codes, 0)
    return free_energy(evaluate(energy, y.unsqueeze(-2), codes), beta, log_volume=log_prior)


def over_grid(
    energy: LatentEnergy, y: Tensor, latent: Grid, beta: float = math.inf, *, log_prior: Tensor | float = 0.0
) -> Tensor:
    r"""Free energy with a continuous latent variable of few dimensions, integrated over a grid.

    .. math:: F_\beta(y) = -\tfrac{1}{\beta} \log \int p(z)\,e^{-\beta E(y, z)}\,dz

    The midpoint rule: accurate when cells are small beside the width √(1/(β·curvature)) of the integrand, so a
    large β needs a fine grid.

    Args:
        energy: E(y, z). With an x, pass ``fix(E, x[..., None, :])``.
        y: (..., D).
        latent: cells of z, from :func:`ebm_lib.energy.grid`.
        beta: inverse temperature, > 0; ``inf`` takes the minimum over the cells' midpoints.
        log_prior: log-density of the prior at the cells, (N,); 0 integrates without one.

    Returns:
        F_β(y), (...).

    Raises:
        ValueError: as :func:`free_energy`.

    >>> from ebm_lib.energy import grid
    >>> flat = over_grid(lambda y, z: 0 * z.sum(-1) + y.sum(-1), torch.tensor([7.0]), grid([0.0], [1.0], 10), 2.0)
    >>> flat
    tensor(7.)
    """
    values = evaluate(energy, y.unsqueeze(-2), latent.points)
    return free_energy(values, beta, log_volume=latent.log_cell + log_prior)


def over_samples(energy: LatentEnergy, y: Tensor, samples: Tensor, log_density: Tensor, beta: float) -> Tensor:
    r"""Free energy with a latent variable of many dimensions, estimated from samples of a proposal q.

    .. math::

        \hat F_\beta(y) = -\tfrac{1}{\beta} \log \frac{1}{K} \sum_k \frac{e^{-\beta E(y, z_k)}}{q(z_k)},
        \qquad z_k \sim q

    The average under the logarithm is unbiased; by Jensen its −log is high on average, less so with more samples.
    With a prior p, pass log q − log p as ``log_density``: 0 if the samples are the prior's own.

    Args:
        energy: E(y, z). With an x, pass ``fix(E, x[..., None, :])``.
        y: (..., D).
        samples: K draws of z from q, (K, L), or (..., K, L) for a proposal of its own per y.
        log_density: log q of each, (K,) or (..., K), in nats.
        beta: inverse temperature, > 0 and finite.

    Returns:
        The estimate, (...).

    Raises:
        ValueError: no samples, densities of another shape, beta not positive and finite; as :func:`free_energy`.

    >>> z = torch.linspace(0.05, 0.95, 10)[:, None]  # as if from a uniform q on [0, 1]
    >>> over_samples(lambda y, z: 0 * z.sum(-1) + y.sum(-1), torch.tensor([7.0]), z, torch.zeros(10), beta=2.0)
    tensor(7.)
    """
    require_positive("beta", beta)
    if samples.ndim < 2:
        raise ValueError(f"samples must be (K, L) or (..., K, L), got shape {tuple(samples.shape)}")
    require_nonempty("samples", samples, -2)
    if log_density.shape != samples.shape[:-1]:
        raise ValueError(
            f"log_density must hold one number per sample, shape {tuple(samples.shape[:-1])}, "
            f"got {tuple(log_density.shape)}"
        )
    require_finite("log_density", log_density)
    values = evaluate(energy, y.unsqueeze(-2), samples)
    return free_energy(values, beta, log_volume=-log_density - math.log(samples.shape[-2]))


def over_gaussian(energy: LatentEnergy, y: Tensor, mode: Tensor, beta: float) -> Tensor:
    r"""Free energy with a Gaussian latent variable, in closed form.

    .. math::

        F_\beta(y) = E(y, \check z) + \frac{1}{2\beta} \log\det \frac{\beta H}{2\pi}, \qquad
        H = \nabla_z^2 E(y, \check z)

    Exact when E is quadratic in z, so that its Gibbs distribution is Gaussian; otherwise the Laplace approximation,
    good when β is large. The curvature H is computed by automatic differentiation.

    Args:
        energy: E(y, z), twice differentiable in z.
        y: (B, D), or (D,).
        mode: the minimum of E over z for each y, (B, L), or (L,).
        beta: inverse temperature, > 0 and finite.

    Returns:
        F_β(y), (B,) or a scalar.

    Raises:
        ValueError: shapes that do not pair, beta not positive and finite, ``mode`` not a strict minimum (H is not
            positive definite, or the gradient is not near 0).

    >>> E = lambda y, z: (y - z).square().sum(-1) / 2
    >>> over_gaussian(E, torch.tensor([3.0]), torch.tensor([3.0]), beta=2 * math.pi)
    tensor(0.)
    """
    require_positive("beta", beta)
    if y.ndim != mode.ndim or y.shape[:-1] != mode.shape[:-1] or y.ndim not in (1, 2):
        raise ValueError(f"y and mode must be (B, D) and (B, L), got {tuple(y.shape)} and {tuple(mode.shape)}")
    if y.ndim == 1:
        return over_gaussian(energy, y[None], mode[None], beta)[0]

    def in_z(z: Tensor, y: Tensor) -> Tensor:
        return energy(y, z)

    value = evaluate(energy, y, mode)
    gradient = torch.func.vmap(torch.func.grad(in_z))(mode, y)
    hessian = torch.func.vmap(torch.func.hessian(in_z))(mode, y)
    factor, failed = torch.linalg.cholesky_ex(hessian)
    if has_values(failed) and failed.any():
        raise ValueError("mode must be a strict minimum of the energy over z: the curvature is not positive definite")
    # The Newton step's energy gain bounds how far from the minimum the given mode is.
    newton = torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1)
    gain = (gradient * newton).sum(-1) / 2
    if has_values(gain) and (beta * gain > 1e-3).any():
        raise ValueError(f"mode must be the minimum of the energy over z: a Newton step lowers it by {gain.max():.3g}")
    log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return value + (log_det + mode.shape[-1] * math.log(beta / (2 * math.pi))) / (2 * beta)
