r"""Gaussian mixtures: a latent variable of K values, marginalised out of an energy that is normalised.

.. math::

    E(y, e_k) = -\log \pi_k - \log \mathcal N(y; \mu_k, \Sigma_k), \qquad
    F_1(y) = -\log \sum_k e^{-E(y, e_k)} = -\log p(y)

Low energy is scarce because the density integrates to one: what a component gains by widening, log det Σ takes back.
The lectures write the energy as :math:`(y - \mu_k)^\top M_k (y - \mu_k)` with a constraint on M; here M is half the
inverse covariance, and the weight and the normaliser are terms of the energy. :mod:`ebm_lib.latent.em` has the steps.
"""

import math

import torch
from torch import Tensor, nn

from ebm_lib import free_energy as fe
from ebm_lib.data.draw import normal, pick_labels
from ebm_lib.latent.em import (
    COVARIANCES,
    Components,
    Scatter,
    block_rows,
    cholesky,
    component_energies,
    require_components,
    require_training,
    unchecked,
)
from ebm_lib.latent.kmeans import KMeans
from ebm_lib.latent.model import Learned, require_last
from ebm_lib.nn import init_
from ebm_lib.require import require_choice, require_count, require_positive
from ebm_lib.train import History, fit

STARTS = ("current", "k-means", "k-means++", "samples")


class GaussianMixture(nn.Module):
    r"""A mixture of K Gaussians as an energy, learned by EM or by gradient.

    .. math::

        E(y, e_k) = -\log \pi_k + \tfrac12 (y - \mu_k)^\top \Sigma_k^{-1} (y - \mu_k) + \tfrac12 \log\det(2\pi\Sigma_k),
        \qquad F_\beta(y) = -\tfrac1\beta \log \sum_k e^{-\beta E(y, e_k)}

    F_1 is normalised, and is what calling the model computes: the default β of a mixture is 1, not ∞. With one
    spherical covariance σ²I for all components and equal weights, :math:`F_\infty(y) = \min_k \lVert y - \mu_k \rVert^2
    / (2\sigma^2)` up to a constant: K-means.

    Args:
        D: dimensions of y.
        K: number of components.
        covariance: ``"full"``, ``"diagonal"``, ``"spherical"`` (one variance a component), ``"shared"`` (one matrix
            for all), or ``"shared spherical"`` (one variance for all).
        equal_weights: hold π_k = 1/K.
        generator: where the means come from at first, N(0, 1); weights are equal and covariances the identity.
        dtype: of the parameters.
        device: where they live.

    Attributes:
        mean: μ_k as columns, (D, K).
        logit: log π_k up to a constant, (K,).
        factor: Σ = L Lᵀ without constraints: strictly lower part of L, and log of its diagonal on the diagonal,
            (K, D, D); only log σ where that is all there is, (K, D) or (K, 1); first dimension 1 if shared.

    Raises:
        ValueError: D or K below 1, an unknown kind of covariance; in every method, another last dimension or values
            that are not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Gaussian Mixture Model"; the weights
        from LeCun, Deep Learning (NYU), notes of lecture 07L.

    >>> model = GaussianMixture(1, 1, dtype=torch.float64)
    >>> record = model.learn(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), reg_covar=0.0)
    >>> model(torch.zeros(1, dtype=torch.float64)).item()  # ½ log 2π
    0.9189...
    """

    def __init__(
        self,
        D: int,
        K: int,
        *,
        covariance: str = "full",
        equal_weights: bool = False,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.D, self.K = require_count("D", D), require_count("K", K)
        self.covariance = require_choice("covariance", covariance, COVARIANCES)
        self.equal_weights = equal_weights
        copies = 1 if covariance.startswith("shared") else K
        shape = (copies, 1) if covariance.endswith("spherical") else (copies, D)
        shape = shape if covariance in ("diagonal", "spherical", "shared spherical") else (copies, D, D)
        self.mean = nn.Parameter(torch.empty(D, K, dtype=dtype, device=device))
        self.logit = nn.Parameter(torch.empty(K, dtype=dtype, device=device), requires_grad=not equal_weights)
        self.factor = nn.Parameter(torch.empty(shape, dtype=dtype, device=device))
        init_(self, generator)

    def reset_parameters(self) -> None:
        """Draw the means anew, from N(0, 1), with equal weights and unit covariances."""
        self.mean.normal_(0.0, 1.0)
        self.logit.fill_(0.0)
        self.factor.fill_(0.0)

    def components(self) -> Components:
        """The weights, means and covariances that the parameters stand for; differentiable."""
        if self.factor.ndim == 2:
            covariance = torch.diag_embed((2 * self.factor).exp().expand(-1, self.D))
        else:
            factor = self.factor.tril(-1) + torch.diag_embed(self.factor.diagonal(dim1=-2, dim2=-1).exp())
            covariance = factor @ factor.mT
        log_weight = torch.full_like(self.logit, -math.log(self.K)) if self.equal_weights else self.logit.log_softmax(0)
        return Components(log_weight, self.mean, covariance.expand(self.K, -1, -1))

    @torch.no_grad()
    def assign(self, components: Components) -> None:
        """Take over weights, means and covariances.

        Raises:
            ValueError: parts of other shapes, not finite, not positive definite, or not of the model's kind.
        """
        require_components(components)
        if components.mean.shape != self.mean.shape:
            raise ValueError(f"mean must be {tuple(self.mean.shape)}, got {tuple(components.mean.shape)}")
        factor = cholesky(components.covariance[: len(self.factor)].double())
        diagonal = factor.diagonal(dim1=-2, dim2=-1).log()
        if self.factor.ndim == 2:
            factor = diagonal[:, : self.factor.shape[1]]
        else:
            factor = factor.tril(-1) + torch.diag_embed(diagonal)
        before = [part.clone() for part in (self.mean, self.logit, self.factor)]
        self.mean.copy_(components.mean)
        self.logit.copy_(components.log_weight)
        self.factor.copy_(factor)
        held = self.components()
        for name, ours, given in zip(held._fields, held, components, strict=True):
            scale = given[given.isfinite()].abs().max().item() if given.isfinite().any() else 0.0
            if not torch.allclose(ours, given.to(ours.dtype), rtol=1e-3, atol=1e-3 * scale):
                for part, old in zip((self.mean, self.logit, self.factor), before, strict=True):
                    part.copy_(old)
                kind = f"{self.covariance!r}{' with equal weights' if self.equal_weights else ''}"
                raise ValueError(f"{name} cannot be held by a mixture of kind {kind}")

    def energies(self, y: Tensor) -> Tensor:
        """E(y, e_k) for every k, (..., K), for y (..., D), in nats; differentiable."""
        return component_energies(y, self.components())

    def energy(self, y: Tensor, z: Tensor) -> Tensor:
        """E(y, z), (...), for y (..., D) and z (..., K): +inf where z is not one-hot, as such a z is impossible."""
        require_last("z", z, self.K)
        allowed = ((z == 0) | (z == 1)).all(-1) & (z.sum(-1) == 1)
        picked = torch.where(z == 1, self.energies(y), 0.0).sum(-1)
        return torch.where(allowed, picked, math.inf)

    def infer(self, y: Tensor) -> Tensor:
        """Return ž = argmin_z E(y, z), one-hot, (..., K), for y (..., D), by exhaustive search."""
        with torch.no_grad():
            return nn.functional.one_hot(self.energies(y).argmin(-1), self.K).to(y.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Return ȳ = the mean of the component, (..., D), for z (..., K)."""
        return require_last("z", z, self.K) @ self.mean.T

    def posterior(self, y: Tensor, beta: float = 1.0) -> Tensor:
        """P(k | y) ∝ exp(−β E(y, e_k)), (..., K): the responsibilities of EM."""
        return fe.posterior(self.energies(y), beta)

    def free_energy(self, y: Tensor, beta: float = 1.0) -> Tensor:
        """F_β(y), (...), for y (..., D); −log p(y) in nats at β = 1."""
        return fe.free_energy(self.energies(y), beta)

    def forward(self, y: Tensor, beta: float = 1.0) -> Tensor:
        """The free energy: see :meth:`free_energy`."""
        return self.free_energy(y, beta)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n points, (n, D), from p(y) = exp(−F_1(y))."""
        weight, mean, covariance = self.components()
        labels = pick_labels(n, self.K, None, generator, mean.device, weights=weight.exp().cpu())
        noise = normal((n, self.D), generator, mean.dtype, mean.device)
        out = mean.T[labels]
        for k, factor in enumerate(cholesky(covariance)):
            rows = labels == k
            out[rows] += noise[rows] @ factor.T
        return out

    @torch.no_grad()
    def learn(
        self,
        y: Tensor,
        *,
        beta: float = 1.0,
        start: str = "k-means",
        rounds: int = 100,
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        restarts: int = 1,
        block_size: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Learned:
        r"""Fit weights, means and covariances by EM.

        Args:
            y: data, (N, D), N ≥ max(K, 2).
            beta: inverse temperature of the responsibilities: 1 for maximum likelihood, ``inf`` for hard ones.
            start: ``"k-means"``; ``"k-means++"`` or ``"samples"`` for its starts or K random samples as means, with
                the data's covariance for every component; ``"current"`` for the parameters as they are.
            rounds: at most so many.
            tol: stop when a round changes the loss by less, in nats; 0 makes all rounds.
            reg_covar: added to the variances, in squared units of y, ≥ 0.
            restarts: how many starts; the one that ends lowest is kept.
            block_size: samples in a block; None takes what fits in cache.
            generator: where the starts come from.

        Returns:
            The mean of F_β after each round, of the best start, and whether it ended before ``rounds``.

        Raises:
            ValueError: too few samples, an argument out of range, a component that collapsed (see
                :func:`ebm_lib.latent.em_step`).
        """
        require_training(y, self.D, self.K)
        require_positive("beta", beta, allow_inf=True)
        require_choice("start", start, STARTS)
        require_count("rounds", rounds)
        for name, number in (("tol", tol), ("reg_covar", reg_covar)):
            if number != 0:
                require_positive(name, number)
        if require_count("restarts", restarts) > 1 and start == "current":
            raise ValueError(f"restarts must be 1 when start is 'current', got {restarts}")
        best, kept = None, None
        for _ in range(restarts):
            components, loss, converged = self._start(y, start, reg_covar, block_size, generator), [], False
            for done in range(rounds + 1):
                step = unchecked(y, components, beta, self.covariance, self.equal_weights, reg_covar, block_size)
                loss.append(step.loss)
                converged = done > 0 and abs(loss[-2] - loss[-1]) < tol
                if converged or done == rounds:
                    break
                components = step.components
            if best is None or loss[-1] < best.loss[-1]:
                best, kept = Learned(loss[1:], converged), components
        self.assign(kept)
        return best

    def descend(
        self,
        y: Tensor,
        *,
        beta: float = 1.0,
        steps: int = 1000,
        lr: float = 0.05,
        batch_size: int | None = None,
        generator: torch.Generator | None = None,
        progress: bool = False,
    ) -> History:
        r"""Lower the same loss, the mean of F_β, by gradient from the parameters as they are.

        Nothing keeps a variance from shrinking onto one sample, where the energy has no bound below: that ends in a
        ``FloatingPointError``, or a ``ValueError`` that names the component.

        Args:
            y: data, (N, D).
            beta: inverse temperature, > 0 and finite.
            steps: updates by Adam.
            lr: its learning rate.
            batch_size: samples a step; None takes all.
            generator: where the order of the samples comes from.
            progress: show a bar.

        Returns:
            The history, with the loss of each step.

        Raises:
            ValueError: as :func:`ebm_lib.train.fit`, and as :meth:`learn`.
        """
        require_training(y, self.D, self.K)
        require_positive("beta", beta)
        return fit(
            self, lambda model, batch: model(batch, beta).mean(), y,
            steps=steps, lr=lr, batch_size=batch_size, generator=generator, progress=progress,
        )  # fmt: skip

    def _start(
        self, y: Tensor, start: str, reg_covar: float, block_size: int | None, generator: torch.Generator | None
    ) -> Components:
        if start == "current":
            return self.components()
        clusters = KMeans(self.D, self.K, dtype=y.dtype, device=y.device)
        if start == "k-means":
            clusters.learn(y, block_size=block_size, generator=generator)
            codes, W = clusters.nearest(y).codes, clusters.W
        else:
            codes, W = torch.zeros(len(y), dtype=torch.long, device=y.device), clusters.starts(y, start, generator)
        # The same sums as in a round, with each sample wholly in its cluster, or all in one
        sums = Scatter(y.mean(0, dtype=torch.float64), self.K if start == "k-means" else 1, self.covariance)
        groups = len(sums.sums)
        for rows in block_rows(y, self.K, sums.sums.shape[1], block_size):
            sums.add(y[rows], nn.functional.one_hot(codes[rows], groups).T.double())
        nothing = Components(y.new_zeros(groups), W[:, :groups], y.new_zeros(groups, self.D, self.D))
        found, _ = sums.maximize(nothing, self.equal_weights, reg_covar)
        if start == "k-means":
            return Components(*(part.to(y.dtype) for part in found))
        equal = y.new_full((self.K,), -math.log(self.K))
        return Components(equal, W, found.covariance.to(y.dtype).expand(self.K, -1, -1))
