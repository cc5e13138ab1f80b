r"""K-means: a linear decoder whose latent variable is one-hot, so that only K points can have zero energy.

.. math:: E(y, z) = \lVert y - W z \rVert^2, \quad z \in \{e_1, \dots, e_K\}, \qquad
    F_\infty(y) = \min_k \lVert y - W_k \rVert^2

Capacity is limited by the number of prototypes. :mod:`ebm_lib.latent.lloyd` has the algorithm.
"""

import itertools
import math

import torch
from torch import Tensor, nn

from ebm_lib import free_energy as fe
from ebm_lib.latent.lloyd import lloyd
from ebm_lib.latent.model import Learned, require_last
from ebm_lib.latent.prototypes import Nearest, kmeans_plus_plus, nearest
from ebm_lib.nn import init_
from ebm_lib.require import require_choice, require_count, require_positive

STARTS = ("current", "k-means++", "samples")


class KMeans(nn.Module):
    r"""K prototypes; the energy of a point is its squared distance to one of them.

    .. math::

        E(y, e_k) = \lVert y - W_k \rVert^2, \qquad
        F_\beta(y) = -\tfrac{1}{\beta} \log \sum_k e^{-\beta \lVert y - W_k \rVert^2}

    At β = ∞ the loss is that of K-means. A finite β marginalises over the prototypes: up to a constant, a mixture of
    Gaussians of equal weights and shared variance 1/(2β), so ``model(y, beta).mean()`` can be descended as well.

    Args:
        D: dimensions of y.
        K: number of prototypes.
        generator: where they come from at first, N(0, 1).
        dtype: their dtype.
        device: where they live.

    Attributes:
        W: prototypes as columns, (D, K).

    Raises:
        ValueError: D or K below 1; in every method, another last dimension or values that are not finite.

    Source: LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), "Latent-Variable EBM example: K-means";
        LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "K-Means".

    >>> model = KMeans(1, 2, generator=torch.Generator().manual_seed(0))
    >>> record = model.learn(torch.tensor([[0.0], [2.0], [9.0]]), generator=torch.Generator().manual_seed(0))
    >>> record.loss[-1], model.W.detach().sort().values
    (0.666..., tensor([[1., 9.]]))
    >>> model.infer(torch.tensor([8.0])).sum()
    tensor(1.)
    """

    def __init__(
        self,
        D: int,
        K: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.D, self.K = require_count("D", D), require_count("K", K)
        self.W = nn.Parameter(torch.empty(D, K, dtype=dtype, device=device))
        init_(self, generator)

    def reset_parameters(self) -> None:
        """Draw the prototypes anew, from N(0, 1)."""
        self.W.normal_(0.0, 1.0)

    def energy(self, y: Tensor, z: Tensor) -> Tensor:
        """E(y, z), (...), for y (..., D) and z (..., K): +inf where z is not one-hot, as such a z is impossible."""
        require_last("y", y, self.D)
        allowed = ((z == 0) | (z == 1)).all(-1) & (z.sum(-1) == 1)
        return torch.where(allowed, (y - self.decode(z)).square().sum(-1), math.inf)

    def energies(self, y: Tensor) -> Tensor:
        """E(y, e_k) for every k, (..., K), for y (..., D); differentiable in y and W."""
        require_last("y", y, self.D)
        centre = self.W.detach().mean(-1)  # distances do not change, rounding does
        y, W = y - centre, self.W - centre[:, None]
        return (y.square().sum(-1, keepdim=True) + W.square().sum(0) - 2 * y @ W).clamp(min=0)

    def nearest(self, y: Tensor) -> Nearest:
        """The number of the nearest prototype and the squared distance to it, each (...), for y (..., D)."""
        return nearest(y, self.W)

    def infer(self, y: Tensor) -> Tensor:
        """Return ž = argmin_z E(y, z), one-hot, (..., K), for y (..., D), by exhaustive search."""
        return nn.functional.one_hot(self.nearest(y).codes, self.K).to(y.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Return ȳ = W z, (..., D), for z (..., K)."""
        return require_last("z", z, self.K) @ self.W.T

    def posterior(self, y: Tensor, beta: float) -> Tensor:
        """P(k | y) ∝ exp(−β ‖y − W_k‖²), (..., K): soft codes, the hard ones of :meth:`infer` as β → ∞."""
        return fe.posterior(self.energies(y), beta)

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """F_β(y), (...), for y (..., D); at β = ∞ the squared distance to the nearest prototype."""
        if math.isinf(require_positive("beta", beta, allow_inf=True)):
            return self.nearest(y).energy
        return fe.free_energy(self.energies(y), beta)

    def forward(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """The free energy: see :meth:`free_energy`."""
        return self.free_energy(y, beta)

    @torch.no_grad()
    def learn(
        self,
        y: Tensor,
        *,
        start: str = "k-means++",
        rounds: int = 300,
        tol: float = 1e-4,
        restarts: int = 1,
        block_size: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Learned:
        r"""Fit the prototypes by Lloyd's algorithm: coordinate descent on Σ E(y_i, z_i), in the codes, then in W.

        The loss cannot rise, and the codes are finitely many, so it ends, at a local minimum that depends on the start.

        Args:
            y: data, (N, D), N ≥ K; blocks of it are looked at in turn, it is not copied.
            start: ``"k-means++"``, ``"samples"`` (K of them at random), or ``"current"`` for W as it is.
            rounds: at most so many.
            tol: stop when the prototypes' squared moves sum to this share of the data's mean variance; 0 goes on
                until no code changes.
            restarts: how many starts; the one that ends lowest is kept.
            block_size: samples in a block; None takes what fits in cache.
            generator: where the starts come from.

        Returns:
            The mean energy after each round, of the best start, and whether it ended before ``rounds``.

        Raises:
            ValueError: fewer samples than prototypes, an argument out of range, y not a finite (N, D).
        """
        if y.ndim != 2 or y.shape[1] != self.D:
            raise ValueError(f"y must be (N, {self.D}), one sample a row, got shape {tuple(y.shape)}")
        require_choice("start", start, STARTS)
        require_count("rounds", rounds)
        if tol != 0:
            require_positive("tol", tol)
        if require_count("restarts", restarts) > 1 and start == "current":
            raise ValueError(f"restarts must be 1 when start is 'current', got {restarts}")
        if self.K > len(y):
            raise ValueError(f"K must be at most the number of samples, {len(y)}, got {self.K}")
        best, kept = None, self.W
        for _ in range(restarts):
            W = self.W if start == "current" else self.starts(y, start, generator, block_size)
            loss: list[float] = []
            converged = False
            for step in itertools.islice(lloyd(y, W, block_size=block_size), rounds):
                move, W = (step.W - W).square().sum().item(), step.W
                loss.append(step.loss)
                converged = step.changed == 0 or move < tol * step.spread
                if converged:
                    break
            if best is None or loss[-1] < best.loss[-1]:
                best, kept = Learned(loss, converged), W
        self.W.copy_(kept)
        return best

    @torch.no_grad()
    def starts(
        self, y: Tensor, start: str, generator: torch.Generator | None = None, block_size: int | None = None
    ) -> Tensor:
        """Prototypes to start from, (D, K): by ``"k-means++"``, or K different ``"samples"`` at random."""
        if start == "k-means++":
            return kmeans_plus_plus(y, self.K, generator=generator, block_size=block_size)
        require_choice("start", start, ("k-means++", "samples"))
        order = torch.randperm(len(y), generator=generator, device=None if generator is None else generator.device)
        return y[order[: self.K].to(y.device)].T
