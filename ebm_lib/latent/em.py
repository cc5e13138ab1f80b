r"""Expectation maximisation for Gaussian mixtures: coordinate descent on an upper bound of the free energy.

.. math::

    F_\beta(y) \le \sum_k r_k E(y, k) - \tfrac1\beta S(r), \qquad
    E(y, k) = -\log \pi_k - \log \mathcal N(y; \mu_k, \Sigma_k)

for any probabilities r over the components, with equality for the posterior :math:`r_k \propto e^{-\beta E(y, k)}`.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.latent.model import blocks, require_data, require_last
from ebm_lib.require import has_values, require_choice, require_finite, require_positive

COVARIANCES = ("diagonal", "full", "shared", "shared spherical", "spherical")
CACHE_BYTES = 2**22  # a block's temporaries stay in the last level of cache


class Components(NamedTuple):
    """The parameters of a mixture of K Gaussians in D dimensions.

    Attributes:
        log_weight: log π_k, (K,), in nats.
        mean: μ_k as columns, (D, K).
        covariance: Σ_k, (K, D, D).
    """

    log_weight: Tensor
    mean: Tensor
    covariance: Tensor


class EMRound(NamedTuple):
    """One round of expectation maximisation.

    Attributes:
        components: the parameters after the update.
        loss: mean of F_β(y) under the parameters before it, in nats.
        bound: mean of ⟨E⟩ − S/β with the posterior of the old parameters and the energy of the new ones: at least
            the loss under the new ones, at most ``loss`` (if nothing is added to the variances).
    """

    components: Components
    loss: float
    bound: float


def component_energies(y: Tensor, components: Components, *, block_size: int | None = None) -> Tensor:
    r"""Energy of a point under each component of a mixture.

    .. math::

        E(y, k) = -\log \pi_k + \tfrac12 (y - \mu_k)^\top \Sigma_k^{-1} (y - \mu_k) + \tfrac12 \log\det(2\pi\Sigma_k)

    By one Cholesky factor a component and one matrix product for all. Differentiable.

    Args:
        y: (..., D).
        components: the parameters.
        block_size: points in a block; None keeps the temporaries under 32 MiB.

    Returns:
        E(y, k), (..., K), in nats.

    Raises:
        ValueError: shapes that do not fit, a covariance that is not positive definite, values that are not finite.

    >>> standard = Components(torch.zeros(1), torch.zeros(1, 1), torch.ones(1, 1, 1))
    >>> component_energies(torch.tensor([[0.0], [1.0]]), standard)
    tensor([[0.9189],
            [1.4189]])
    """
    require_components(components)
    require_last("y", y, len(components.mean))
    flat = y.reshape(-1, y.shape[-1])
    energy = Quadratic(components.log_weight, components.mean, cholesky(components.covariance))
    width = y.element_size() * components.covariance[..., 0].numel()
    values = [energy(flat[rows]) for rows in blocks(len(flat), 2 * width, block_size)]
    flat_values = torch.cat(values, -1).mT if values else flat.new_empty(0, len(components.log_weight))
    return flat_values.reshape(*y.shape[:-1], -1)


@torch.no_grad()
def em_step(
    y: Tensor,
    components: Components,
    beta: float = 1.0,
    *,
    covariance: str = "full",
    equal_weights: bool = False,
    reg_covar: float = 1e-6,
    block_size: int | None = None,
) -> EMRound:
    r"""Lower the bound over the responsibilities with the parameters held, then the other way round.

    .. math::

        r_{ik} \leftarrow \frac{e^{-\beta E(y_i, k)}}{\sum_j e^{-\beta E(y_i, j)}}, \qquad
        \pi_k \leftarrow \frac{n_k}{N}, \qquad \mu_k \leftarrow \frac{1}{n_k} \sum_i r_{ik}\,y_i, \qquad
        \Sigma_k \leftarrow \frac{1}{n_k} \sum_i r_{ik} (y_i - \mu_k)(y_i - \mu_k)^\top + \epsilon I

    with :math:`n_k = \sum_i r_{ik}`. The first half makes the bound touch the loss, the second lowers it, so the loss
    cannot rise (but for what ε adds). At β = 1 it is the EM of maximum likelihood; at β = ∞ each sample belongs to one
    component, and with ``"shared spherical"`` and equal weights that is a round of K-means. All second moments come
    from one matrix product a block, in double precision. A component that no sample belongs to keeps its mean and
    covariance.

    Args:
        y: data, (N, D), N ≥ 2.
        components: the parameters.
        beta: inverse temperature, in units of 1/energy, > 0; ``inf`` for hard assignments, ties to the first.
        covariance: ``"full"``, ``"diagonal"``, ``"spherical"`` (one variance a component), ``"shared"`` (one matrix
            for all), or ``"shared spherical"`` (one variance for all).
        equal_weights: hold π_k = 1/K.
        reg_covar: ε, added to the variances, in squared units of y, ≥ 0.
        block_size: samples in a block; None takes what fits in cache.

    Returns:
        The new parameters, the loss and the bound.

    Raises:
        ValueError: as :func:`component_energies`; an argument out of range; fewer samples than components; a
            component that collapsed onto fewer dimensions.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Gaussian Mixture Model"; Neal and
        Hinton, A view of the EM algorithm that justifies incremental, sparse, and other variants (1998).

    >>> y = torch.tensor([[-1.0], [1.0]])
    >>> step = em_step(y, Components(torch.zeros(1), torch.zeros(1, 1), torch.full((1, 1, 1), 4.0)), reg_covar=0.0)
    >>> step.components.covariance.item(), step.loss > step.bound
    (1.0, True)
    """
    require_components(components)
    require_training(y, len(components.mean), len(components.log_weight))
    require_positive("beta", beta, allow_inf=True)
    require_choice("covariance", covariance, COVARIANCES)
    if reg_covar != 0:
        require_positive("reg_covar", reg_covar)
    return unchecked(y, components, beta, covariance, equal_weights, reg_covar, block_size)


def require_components(components: Components) -> Components:
    """Return the parameters if their shapes fit together and they are finite.

    Raises:
        ValueError: a shape that does not fit, or a value that is not finite (a log-weight may be -inf).

    >>> require_components(Components(torch.zeros(2), torch.zeros(3, 1), torch.ones(1, 3, 3)))
    Traceback (most recent call last):
    ...
    ValueError: mean must be (D, 2), a column for each log_weight, got shape (3, 1)
    """
    log_weight, mean, covariance = components
    if log_weight.ndim != 1 or len(log_weight) == 0:
        raise ValueError(f"log_weight must be (K,), got shape {tuple(log_weight.shape)}")
    k = len(log_weight)
    if mean.ndim != 2 or mean.shape[1] != k:
        raise ValueError(f"mean must be (D, {k}), a column for each log_weight, got shape {tuple(mean.shape)}")
    if covariance.shape != (k, len(mean), len(mean)):
        expected = (k, len(mean), len(mean))
        raise ValueError(f"covariance must be (K, D, D) = {expected}, got shape {tuple(covariance.shape)}")
    require_finite("mean", mean)
    require_finite("covariance", covariance)
    require_finite("-log_weight", -log_weight, allow_posinf=True)
    return components


def require_training(y: Tensor, D: int, K: int) -> Tensor:
    """Return ``y`` if a mixture of K components can be fitted to it.

    Raises:
        ValueError: not a finite (N, D), fewer than two samples (one has no covariance), fewer than K.

    >>> require_training(torch.zeros(3, 2), 2, 4)
    Traceback (most recent call last):
    ...
    ValueError: K must be at most the number of samples, 3, got 4
    """
    require_data(y, D, minimum=2)
    if K > len(y):
        raise ValueError(f"K must be at most the number of samples, {len(y)}, got {K}")
    return y


def cholesky(covariance: Tensor) -> Tensor:
    """Factor covariances (K, D, D), or say which one is not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if has_values(failed) and failed.any():
        raise ValueError(f"covariance must be positive definite: that of component {failed.nonzero()[0].item()} is not")
    return factor


class Quadratic:
    """E(y, k) of samples (B, D), as (K, B), from the Cholesky factors of the covariances."""

    def __init__(self, log_weight: Tensor, mean: Tensor, factor: Tensor) -> None:
        k, d = len(log_weight), len(mean)
        eye = torch.eye(d, dtype=factor.dtype, device=factor.device).expand(k, d, d)
        whiten = torch.linalg.solve_triangular(factor, eye, upper=False) * math.sqrt(0.5)
        self.centre = mean.detach().mean(-1)  # taken off y and μ, so that no digits are lost far from the origin
        self.slope = whiten.reshape(k * d, d)
        self.offset = -(whiten @ (mean.T - self.centre).unsqueeze(-1)).reshape(k * d, 1)
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        self.constant = (log_det + d / 2 * math.log(2 * math.pi) - log_weight)[:, None]
        self.shape = (k, d, -1)

    def __call__(self, y: Tensor) -> Tensor:
        """Return E(y, k), (K, B)."""
        whitened = torch.addmm(self.offset, self.slope, (y.to(self.slope.dtype) - self.centre).mT)
        return whitened.view(self.shape).square().sum(1) + self.constant


class Scatter:
    """Weighted sums of 1, y and y yᵀ over the samples, for each component, about a fixed centre."""

    def __init__(self, centre: Tensor, K: int, covariance: str) -> None:
        self.centre, self.covariance = centre, covariance
        d = len(centre)
        self.diagonal = covariance in ("diagonal", "spherical", "shared spherical")
        width = 1 + d + (d if self.diagonal else d * (d + 1) // 2)
        self.sums = centre.new_zeros(K, width)

    def add(self, y: Tensor, share: Tensor) -> None:
        """Add samples (B, D) with responsibilities (K, B)."""
        columns = (y.double() - self.centre).T.contiguous()
        d, count = columns.shape
        monomials = columns.new_empty(self.sums.shape[1], count)
        monomials[0] = 1
        monomials[1 : 1 + d] = columns
        if self.diagonal:
            torch.square(columns, out=monomials[1 + d :])
        else:
            at = 1 + d
            for i in range(d):  # the products with i ≤ j: a matrix is symmetric
                torch.mul(columns[i], columns[i:], out=monomials[at : at + d - i])
                at += d - i
        self.sums.addmm_(share, monomials.T)

    def means_and_scatter(self, fallback: Components) -> tuple[Tensor, Tensor, Tensor]:
        """Return masses (K,), means (K, D) and covariances (K, D, D), those of ``fallback`` where there is no mass."""
        d = len(self.centre)
        mass = self.sums[:, 0]
        held = mass > torch.finfo(torch.float64).eps * mass.sum()
        moments = self.sums[:, 1:] / torch.where(held, mass, 1.0)[:, None]
        shift = moments[:, :d]
        if self.diagonal:
            scatter = torch.diag_embed((moments[:, d:] - shift.square()).clamp(min=0))
        else:
            row, column = torch.triu_indices(d, d, device=mass.device)
            scatter = moments.new_empty(len(mass), d, d)
            scatter[:, row, column] = moments[:, d:]
            scatter[:, column, row] = moments[:, d:]
            scatter = scatter - shift[:, :, None] * shift[:, None, :]
        mean = torch.where(held[:, None], shift + self.centre, fallback.mean.T.double())
        scatter = torch.where(held[:, None, None], scatter, fallback.covariance.double())
        return mass, mean, scatter

    def maximize(self, fallback: Components, equal_weights: bool, reg_covar: float) -> tuple[Components, Tensor]:
        """Return the parameters of lowest mean energy, in double precision, and that mean energy."""
        mass, mean, scatter = self.means_and_scatter(fallback)
        k, d = mean.shape
        total = mass.sum()
        eye = torch.eye(d, dtype=torch.float64, device=mean.device)
        fitted = scatter
        if self.covariance.startswith("shared"):
            fitted = ((mass[:, None, None] * scatter).sum(0) / total).expand(k, d, d)
        if self.covariance.endswith("spherical"):
            fitted = fitted.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None] * eye
        fitted = fitted + reg_covar * eye
        factor, failed = torch.linalg.cholesky_ex(fitted)
        # A pivot below rounding of what was subtracted to get it is noise, not a variance.
        scale = (mass @ (scatter.diagonal(dim1=-2, dim2=-1) + (mean - self.centre).square())) / total
        pivots = factor.diagonal(dim1=-2, dim2=-1).square()
        bad = (failed > 0) | (pivots <= 64 * torch.finfo(torch.float64).eps * scale).any(-1)
        if bad.any():
            which = bad.nonzero()[0].item()
            raise ValueError(
                f"covariance must be positive definite: component {which}, of {mass[which].item():.4g} samples, "
                "has collapsed onto fewer dimensions. Use fewer components, a simpler kind of covariance, or a larger "
                f"reg_covar than {reg_covar:g}"
            )
        log_weight = torch.full_like(mass, -math.log(k)) if equal_weights else (mass / total).log()
        inverse = torch.cholesky_inverse(factor)
        log_det = pivots.log().sum(-1) + d * math.log(2 * math.pi)
        energy = ((inverse * scatter).sum((-1, -2)) + log_det) / 2 - torch.where(mass > 0, log_weight, 0.0)
        return Components(log_weight, mean.T, fitted), (mass * energy).sum() / total


def unchecked(
    y: Tensor,
    components: Components,
    beta: float,
    covariance: str,
    equal_weights: bool,
    reg_covar: float,
    block_size: int | None,
) -> EMRound:
    """:func:`em_step` for arguments that were checked already."""
    exact = Components(*(part.double() for part in components))
    energy = Quadratic(exact.log_weight, exact.mean, cholesky(exact.covariance))
    count, k = len(y), len(exact.log_weight)
    sums = Scatter(y.mean(0, dtype=torch.float64), k, covariance)
    loss, entropy = exact.log_weight.new_zeros(()), exact.log_weight.new_zeros(())
    for rows in block_rows(y, k, sums.sums.shape[1], block_size):
        values = energy(y[rows])
        if math.isinf(beta):
            low, codes = values.min(0)
            share = torch.zeros_like(values).scatter_(0, codes[None], 1.0)
            loss += low.sum()
        else:
            share = torch.softmax(-beta * values, 0)
            # F = E + log(r)/β for any k: the best one, whose r is far from 0
            low, best = values.min(0)
            loss += (low + share.gather(0, best[None])[0].log() / beta).sum()
            entropy += torch.special.entr(share).sum()
        sums.add(y[rows], share)
    new, mean_energy = sums.maximize(exact, equal_weights, reg_covar)
    bound = mean_energy - (0.0 if math.isinf(beta) else entropy / count / beta)
    parts = Components(*(part.to(y.dtype) for part in new))
    return EMRound(parts, loss.item() / count, bound.item())


def block_rows(y: Tensor, K: int, features: int, block_size: int | None) -> Iterator[slice]:
    """Cut the samples into blocks whose temporaries fit in cache, or on a GPU in 32 MiB."""
    width = 8 * (2 * K * y.shape[1] + features)
    if block_size is None and y.device.type == "cpu":
        block_size = max(256, CACHE_BYTES // width)
    return blocks(len(y), width, block_size)
