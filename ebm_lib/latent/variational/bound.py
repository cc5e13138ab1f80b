r"""Variational free energy: an upper bound on F_β that needs draws from q and no integral over z.

.. math::

    F_\beta(y) = -\frac1\beta \log \int p(z)\,e^{-\beta E(y, z)}\,dz
    \;\le\; \tilde F(y) = \langle E(y, z) \rangle_q + \frac1\beta\,\mathrm{KL}(q \,\Vert\, p), \qquad
    \tilde F - F_\beta = \frac1\beta\,\mathrm{KL}\bigl(q \,\Vert\, P(z \mid y)\bigr)

Functions of any energy E(y, z) and any diagonal Gaussian q, given by mean and std. The prior p is the standard Gaussian
unless a ``log_prior`` says otherwise.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.energy import LatentEnergy, evaluate
from ebm_lib.latent.variational.gaussian import (
    gaussian_kl,
    log_normal_density,
    mean_estimate,
    reparameterize,
)
from ebm_lib.require import has_values, require_count, require_finite, require_positive

LogDensity = Callable[[Tensor], Tensor]


def prior_log_density(log_prior: LogDensity | None, z: Tensor) -> Tensor:
    """Log density of a prior at z, (...): the standard Gaussian's if None; −inf where there is no z.

    Raises:
        ValueError: a density of another shape, NaN or +inf.

    >>> prior_log_density(lambda z: z, torch.zeros(5, 2))
    Traceback (most recent call last):
    ...
    ValueError: log_prior must return one number per z, shape (5,), got shape (5, 2)
    """
    if log_prior is None:
        return log_normal_density(z)
    value = log_prior(z)
    if value.shape != z.shape[:-1]:
        expected, got = tuple(z.shape[:-1]), tuple(value.shape)
        raise ValueError(f"log_prior must return one number per z, shape {expected}, got shape {got}")
    return -require_finite("-log_prior", -value, allow_posinf=True)


class VariationalFreeEnergy(NamedTuple):
    r"""The parts of :math:`\tilde F = \langle E \rangle_q + \mathrm{KL}/\beta`.

    Attributes:
        free_energy: F̃, (...), in units of energy.
        mean_energy: ⟨E⟩ under q, (...), in units of energy.
        information: KL(q‖p), (...), in nats.
        error: standard error of F̃, (...); 0 where it is exact, +inf where one draw leaves it unknown.
    """

    free_energy: Tensor
    mean_energy: Tensor
    information: Tensor
    error: Tensor


class Bound(NamedTuple):
    r"""The parts of :math:`\tilde F = \langle E \rangle + \sum_i \mathrm{KL}_i / \beta` of a model's own q.

    Attributes:
        free_energy: F̃, (...), in units of energy.
        mean_energy: ⟨E⟩, the distortion, (...), in units of energy.
        information: KL of each dimension, (..., L), in nats; its sum is the rate.
        error: standard error of F̃, (...); +inf from one draw.
    """

    free_energy: Tensor
    mean_energy: Tensor
    information: Tensor
    error: Tensor


def variational_free_energy(
    energy: LatentEnergy,
    y: Tensor,
    mean: Tensor,
    std: Tensor,
    beta: float,
    *,
    samples: int = 1,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    log_prior: LogDensity | None = None,
) -> VariationalFreeEnergy:
    r"""Bound the free energy by draws from q.

    .. math:: \tilde F = \frac1K \sum_k E(y, z_k) + \frac1\beta \mathrm{KL}(q \,\Vert\, p), \qquad z_k \sim q

    By Jensen it is never below F_β in expectation; the estimate itself may be, by chance. Gradients reach the energy's
    parameters and, through z = m + sξ, those of q.

    Args:
        energy: E(y, z). With an x, pass ``fix(E, x[..., None, :])``.
        y: (..., D).
        mean: of q, (..., L).
        std: of q, (..., L), positive.
        beta: inverse temperature, > 0; with ``inf`` information costs nothing.
        samples: K, at least 1.
        noise: ξ of the draws, (..., K, L); drawn if None.
        generator: draws ξ.
        log_prior: log density of another prior, z (..., L) → (...): its KL is then averaged over the same draws.

    Raises:
        ValueError: std not positive, no samples, beta not positive, an energy or a log density of the wrong shape or
            not finite at a draw: a prior that excludes what q allows makes the information infinite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Variational Auto-Encoder"
    (Jensen, F = ⟨E⟩ − TS); LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022),
    "General case: minimize expected energy & information of z on y".

    >>> E = lambda y, z: (y - z).square().sum(-1)
    >>> parts = variational_free_energy(E, torch.zeros(1), torch.ones(1), torch.ones(1), 2.0, noise=torch.zeros(1, 1))
    >>> parts.mean_energy, parts.information, parts.free_energy
    (tensor(1.), tensor(0.5000), tensor(1.2500))
    """
    require_positive("beta", beta, allow_inf=True)
    z = reparameterize(mean, std, samples=require_count("samples", samples), noise=noise, generator=generator)
    values = require_finite("energy", evaluate(energy, y.unsqueeze(-2), z))
    if log_prior is None:
        information = gaussian_kl(mean, std)
        terms = values
    else:
        log_p = require_finite("log_prior", prior_log_density(log_prior, z))
        ratios = log_normal_density(z, mean.unsqueeze(-2), std.unsqueeze(-2)) - log_p
        information = ratios.mean(-1)
        terms = values + ratios / beta
    mean_energy, error = values.mean(-1), mean_estimate(terms, -1).error
    return VariationalFreeEnergy(
        mean_energy + information / beta, mean_energy, information.expand_as(mean_energy), error
    )


class ImportanceBound(NamedTuple):
    r"""A free energy estimated by weighting draws from q.

    Attributes:
        free_energy: the estimate, (...), in units of energy.
        error: its standard error, (...): from the repeats, or from the weights' spread where there is one repeat.
        effective_samples: :math:`1/\sum_k w_k^2` of the normalised weights, (...), from 1 to K, mean over repeats.
    """

    free_energy: Tensor
    error: Tensor
    effective_samples: Tensor


def importance_bound(
    energy: LatentEnergy,
    y: Tensor,
    mean: Tensor,
    std: Tensor,
    beta: float,
    *,
    samples: int,
    repeats: int = 1,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    log_prior: LogDensity | None = None,
) -> ImportanceBound:
    r"""Close the bound by averaging under the logarithm.

    .. math::

        \tilde F_K = -\frac1\beta \log \frac1K \sum_k \frac{p(z_k)\,e^{-\beta E(y, z_k)}}{q(z_k)},
        \qquad z_k \sim q, \qquad
        \tilde F = \langle \tilde F_1 \rangle \ge \langle \tilde F_K \rangle \ge \langle \tilde F_{K+1} \rangle
        \ge F_\beta

    It is :func:`ebm_lib.free_energy.over_samples` with q as its proposal, and how far to trust it: few effective
    samples mean that q misses where the posterior is, and that both the estimate and its error are too small a claim.
    With one repeat the error is the delta method's, :math:`\frac1\beta\sqrt{(K \sum_k w_k^2 - 1)/(K - 1)}`, for large
    K only.

    Args:
        energy: E(y, z). With an x, pass ``fix(E, x[..., None, :])``.
        y: (..., D).
        mean: of q, (..., L).
        std: of q, (..., L), positive.
        beta: inverse temperature, > 0 and finite.
        samples: K, at least 1.
        repeats: independent estimates, whose mean is returned.
        noise: ξ of the draws, (repeats, ..., K, L); drawn if None.
        generator: draws ξ.
        log_prior: log density of another prior than the standard Gaussian, z (..., L) → (...); −inf where the
            prior excludes z.

    Raises:
        ValueError: std not positive, no samples or repeats, beta not positive and finite, an energy of the wrong
            shape, NaN, or +inf at every draw that the prior allows.

    Source: Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders (ICLR 2016), theorem 1.

    >>> E = lambda y, z: (y - z).square().sum(-1)
    >>> q = torch.zeros(1), torch.full((1,), 0.7)
    >>> found = importance_bound(E, torch.zeros(1), *q, 1.0, samples=100, generator=torch.Generator().manual_seed(0))
    >>> bool((found.free_energy - math.log(3) / 2).abs() < 4 * found.error)
    True
    """
    require_positive("beta", beta)
    require_count("samples", samples)
    if noise is not None and (noise.ndim < 3 or len(noise) != require_count("repeats", repeats)):
        raise ValueError(f"noise must be ({repeats}, ..., {samples}, L), got shape {tuple(noise.shape)}")
    estimates, spreads = [], []
    for r in range(require_count("repeats", repeats)):  # one after the other: memory for K draws, not for all
        given = None if noise is None else noise[r]
        z = reparameterize(mean, std, samples=samples, noise=given, generator=generator)
        log_q = log_normal_density(z, mean.unsqueeze(-2), std.unsqueeze(-2))
        log_weight = prior_log_density(log_prior, z) - log_q - beta * evaluate(energy, y.unsqueeze(-2), z)
        total = torch.logsumexp(log_weight, -1)
        if has_values(total) and torch.isneginf(total).any():
            raise ValueError("energy is +inf at every draw of q that the prior allows, for at least one sample")
        estimates.append((math.log(samples) - total) / beta)
        spreads.append((log_weight - total.unsqueeze(-1)).detach().exp().square().sum(-1))
    value, error = mean_estimate(torch.stack(estimates), 0)
    if repeats == 1 and samples > 1:
        error = ((samples * spreads[0] - 1).clamp(min=0) / (samples - 1)).sqrt() / beta
    return ImportanceBound(value, error, (1 / torch.stack(spreads)).mean(0))
