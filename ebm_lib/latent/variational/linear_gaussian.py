r"""The linear-Gaussian model (probabilistic PCA), in which every quantity of the chapter has a closed form.

.. math::

    E(y, z) = \lVert y - \mu - W z \rVert^2, \quad p(z) = \mathcal N(0, I), \qquad
    p(y) = \mathcal N(\mu,\; W W^\top + \tfrac{1}{2\beta} I)

The inverse temperature is that of a Gaussian noise of variance 1/2β on y.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ebm_lib.data.draw import kind_of, normal
from ebm_lib.latent.linear import Moments, moments, principal_subspace
from ebm_lib.latent.model import Learned, require_last
from ebm_lib.latent.variational.bound import VariationalFreeEnergy
from ebm_lib.latent.variational.gaussian import DiagonalGaussian, gaussian_kl, require_gaussian
from ebm_lib.require import has_values, require_count, require_positive


class GaussianPosterior(NamedTuple):
    """P(z|y) of the linear-Gaussian model: the covariance is the same for all y.

    Attributes:
        mean: (..., L).
        covariance: (L, L).
    """

    mean: Tensor
    covariance: Tensor


class LinearGaussian(nn.Module):
    r"""A linear decoder with a Gaussian latent variable: the exact answers to hold approximations to.

    .. math::

        \begin{aligned}
        P(z \mid y) &= \mathcal N\bigl(2\beta M^{-1} W^\top (y - \mu),\; M^{-1}\bigr), \qquad M = I + 2\beta W^\top W \\
        F_\beta(y) &= -\tfrac1\beta \log p(y) - \tfrac{D}{2\beta} \log \tfrac{\pi}{\beta}
        \end{aligned}

    Args:
        D: dimensions of y.
        L: dimensions of z, at most D.
        beta: inverse temperature at the start, > 0 and finite; ``learn`` sets it.
        generator: draws W; torch's global generator if None.
        device: where the parameters live.
        dtype: their dtype.

    Attributes:
        W: (D, L), a parameter.
        mean: μ, (D,), a parameter.
        beta: β, a number.

    Raises:
        ValueError: sizes below 1, L above D, beta not positive and finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Architectural Methods"; Tipping and
    Bishop, Probabilistic principal component analysis (JRSS B 61, 1999).

    >>> model = LinearGaussian(3, 1, beta=2.0)
    >>> y = torch.randn(4, 3)
    >>> q = model.posterior(y).mean, model.posterior(y).covariance.diagonal().sqrt()
    >>> torch.allclose(model.bound(y, *q).free_energy, model(y), atol=1e-4)
    True
    """

    def __init__(
        self,
        D: int,
        L: int,
        *,
        beta: float = 1.0,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if require_count("L", L) > require_count("D", D):
            raise ValueError(f"L must be at most the {D} dimensions of y, got {L}")
        dtype, device = kind_of(None, dtype, device)
        self.beta = float(require_positive("beta", beta))
        self.W = nn.Parameter(normal((D, L), generator, dtype, device))
        self.mean = nn.Parameter(torch.zeros(D, dtype=dtype, device=device))

    def get_extra_state(self) -> float:
        """β, for ``state_dict``."""
        return self.beta

    def set_extra_state(self, state: float) -> None:
        """Take β back from a ``state_dict``."""
        self.beta = float(require_positive("beta", state))

    def decode(self, z: Tensor) -> Tensor:
        """ȳ = μ + Wz, (..., D), for z (..., L)."""
        return self.mean + require_last("z", z, self.W.shape[1]) @ self.W.mT

    def energy(self, y: Tensor, z: Tensor) -> Tensor:
        """E(y, z), the squared distance of y, (..., D), from the point that z, (..., L), decodes to."""
        return (require_last("y", y, len(self.W)) - self.decode(z)).square().sum(-1)

    def infer(self, y: Tensor) -> Tensor:
        """ž = argmin_z E(y, z), (..., L): least squares, without the prior's pull; see :meth:`posterior`."""
        with torch.no_grad():
            return (require_last("y", y, len(self.W)) - self.mean) @ torch.linalg.pinv(self.W).mT

    def posterior(self, y: Tensor, beta: float | None = None) -> GaussianPosterior:
        """P(z|y) for y (..., D), at the model's β or another finite one."""
        beta = self._beta(beta)
        factor = torch.linalg.cholesky(self._precision(beta))
        inner = 2 * beta * ((require_last("y", y, len(self.W)) - self.mean) @ self.W)
        mean = torch.cholesky_solve(inner.reshape(-1, inner.shape[-1]).mT, factor).mT.reshape(inner.shape)
        return GaussianPosterior(mean, torch.cholesky_inverse(factor))

    def encode(self, y: Tensor, beta: float | None = None) -> DiagonalGaussian:
        r"""The diagonal Gaussian of the lowest bound, for y (..., D).

        .. math:: \check m = \langle z \rangle_{P(z \mid y)}, \qquad \check s_i^2 = 1 / M_{ii}

        Narrower than the posterior's own spread along each axis wherever z's dimensions depend on each other.
        """
        mean = self.posterior(y, beta).mean
        return DiagonalGaussian(mean, self._precision(self._beta(beta)).diagonal().rsqrt().expand_as(mean))

    def free_energy(self, y: Tensor, beta: float | None = None) -> Tensor:
        """F_β(y), (...), for y (..., D), exactly, at the model's β or another; ∞ is the distance to the flat."""
        beta = self._beta(beta, allow_inf=True)
        if math.isinf(beta):
            require_last("y", y, len(self.W))
            return self.energy(y, (y - self.mean) @ torch.linalg.pinv(self.W).mT)
        # y's distance from what its posterior mean decodes to, plus that mean's own price: no D × D inverse.
        mean = self.posterior(y, beta).mean
        fit = self.energy(y, mean) + mean.square().sum(-1) / (2 * beta)
        return fit + torch.linalg.slogdet(self._precision(beta))[1] / (2 * beta)

    forward = free_energy

    def log_density(self, y: Tensor) -> Tensor:
        r"""Log p(y), (...), in nats, for y (..., D): :math:`-\beta F_\beta(y) - \frac D2 \log \frac\pi\beta`."""
        return -self.beta * self.free_energy(y) - len(self.W) / 2 * math.log(math.pi / self.beta)

    def bound(self, y: Tensor, mean: Tensor, std: Tensor, beta: float | None = None) -> VariationalFreeEnergy:
        r"""F̃ of a diagonal Gaussian q, exactly: :math:`\langle E \rangle = E(y, m) + \sum_i s_i^2 (W^\top W)_{ii}`.

        Args:
            y: (..., D).
            mean: of q, (..., L).
            std: of q, (..., L), positive.
            beta: another inverse temperature than the model's, finite.
        """
        beta = self._beta(beta)
        require_gaussian(mean, std)
        mean_energy = self.energy(y, mean) + std.square() @ self.W.square().sum(0)
        information = gaussian_kl(mean, std)
        value = mean_energy + information / beta
        return VariationalFreeEnergy(value, mean_energy, information.expand_as(value), torch.zeros_like(value))

    def gap(self, y: Tensor, mean: Tensor, std: Tensor, beta: float | None = None) -> Tensor:
        r"""KL(q‖P(z|y))/β, (...), of a diagonal Gaussian q, from the posterior and not from the bound.

        .. math::

            \mathrm{KL} = \tfrac12 \Bigl[\sum_i M_{ii} s_i^2 + (m - \check m)^\top M (m - \check m) - L
            - \log\det M - \sum_i \log s_i^2\Bigr]

        Args:
            y: (..., D).
            mean: m of q, (..., L).
            std: s of q, (..., L), positive.
            beta: another inverse temperature than the model's, finite.
        """
        beta = self._beta(beta)
        require_gaussian(require_last("mean", mean, self.W.shape[1]), std)
        M = self._precision(beta)
        away = mean - self.posterior(y, beta).mean
        spread = std.square() @ M.diagonal() + ((away @ M) * away).sum(-1) - mean.shape[-1]
        return (spread - torch.linalg.slogdet(M)[1] - 2 * std.log().sum(-1)) / (2 * beta)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n points, (n, D), from p(y)."""
        D, L = self.W.shape
        kind = self.W.dtype, self.W.device
        with torch.no_grad():
            z = normal((require_count("n", n), L), generator, *kind)
            return self.decode(z) + normal((n, D), generator, *kind) / math.sqrt(2 * self.beta)

    def learn(self, y: Tensor | Iterable[Tensor] | Moments, *, block_size: int | None = None) -> Learned:
        r"""Maximum likelihood in closed form, with μ the mean and the eigenvalues λ of the covariance.

        .. math::

            \frac{1}{2\beta} = \frac{1}{D - L} \sum_{k > L} \lambda_k, \qquad
            W_k = \sqrt{\lambda_k - \tfrac{1}{2\beta}}\; u_k

        Args:
            y: data (N, D), an iterable of blocks of them, or their moments.
            block_size: rows taken at a time.

        Returns:
            The record of one round: mean −log p(y) of the data, in nats.

        Raises:
            ValueError: L = D, or data that lie in a flat of L dimensions, which leave no noise; as
                :func:`ebm_lib.latent.principal_subspace`.
        """
        D, L = self.W.shape
        if L == D:
            raise ValueError(f"L must be below the {D} dimensions of y to tell noise from signal, got {L}")
        found = y if isinstance(y, Moments) else moments(y, block_size=block_size)
        if len(found.mean) != D:
            raise ValueError(f"y must be (N, {D}), one sample a row, got points of {len(found.mean)} dimensions")
        flat = principal_subspace(found, L)
        noise = flat.variance[L:].mean()
        if has_values(noise) and noise <= flat.variance[0] * torch.finfo(noise.dtype).eps:
            raise ValueError(f"y must vary outside {L} dimensions: the data lie in a flat, and beta would be infinite")
        with torch.no_grad():
            self.mean.copy_(flat.mean)
            self.W.copy_(flat.W * (flat.variance[:L] - noise).clamp(min=0).sqrt())
        self.beta = 1 / (2 * noise.item())
        log_det = flat.variance[:L].log().sum() + (D - L) * noise.log()
        return Learned([((D * math.log(2 * math.pi) + log_det + D) / 2).item()], True)

    def _beta(self, beta: float | None, allow_inf: bool = False) -> float:
        return self.beta if beta is None else require_positive("beta", beta, allow_inf=allow_inf)

    def _precision(self, beta: float) -> Tensor:
        return torch.eye(self.W.shape[1], dtype=self.W.dtype, device=self.W.device) + 2 * beta * self.W.mT @ self.W
