r"""Square independent component analysis: as many filters as coordinates, each with a price on what it sees.

.. math:: F(y) = \sum_{k=1}^D \log \cosh\!\big(w_k^\top (y - \mu)\big) - \log \lvert \det W \rvert

The second term is what keeps the first from making every filter 0: a flat energy would cost +∞. It makes
:math:`\int e^{-F(y)}\,dy = \pi^D` whatever W is, so the model is normalised by construction and learning by maximum
likelihood only ever pushes down.
"""

import math

import torch
from torch import Tensor, nn

from ebm_lib.data.draw import uniform
from ebm_lib.data.patches import whitening
from ebm_lib.latent.model import Learned, require_data, require_last
from ebm_lib.require import has_values, require_count, require_finite, require_positive

SMALLEST_CURVATURE = 0.01  # of a 2 × 2 block of the Hessian, before it is raised (Ablin, Cardoso and Gramfort)


def log_cosh(s: Tensor) -> Tensor:
    r"""Price of a source, smooth at 0 and growing like its size.

    .. math:: \log \cosh s = \log(e^s + e^{-s}) - \log 2, \qquad \frac{d}{ds} \log \cosh s = \tanh s

    Args:
        s: any shape, floating point.

    Returns:
        The same shape, ≥ 0 up to rounding. No overflow at any s.

    >>> log_cosh(torch.tensor([0.0, 1000.0]))
    tensor([  0.0000, 999.3068])
    """
    return torch.logaddexp(s, -s) - math.log(2)


def amari_distance(W: Tensor, A: Tensor) -> Tensor:
    r"""How far an unmixing matrix is from undoing a mixing matrix, order and scale of the sources aside.

    .. math::

        d(W, A) = \frac{1}{2D(D-1)} \left[ \sum_i \left( \frac{\sum_j |p_{ij}|}{\max_j |p_{ij}|} - 1 \right)
        + \sum_j \left( \frac{\sum_i |p_{ij}|}{\max_i |p_{ij}|} - 1 \right) \right], \qquad P = W A

    Args:
        W: unmixing matrices, (..., D, D), each row a filter; D ≥ 2.
        A: mixing matrices, (..., D, D), each column a source's pattern.

    Returns:
        (...), from 0 (P is a permutation with scales) to 1 (all entries of P of the same size).

    Raises:
        ValueError: not square matrices of one size of at least 2, not finite, or a row or column of P all 0.

    Source: Amari, Cichocki and Yang, A New Learning Algorithm for Blind Signal Separation (NIPS 1995), normalised to
    [0, 1].

    >>> A = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
    >>> amari_distance(torch.linalg.inv(A)[[1, 0]] * 5, A), amari_distance(torch.ones(2, 2), torch.eye(2))
    (tensor(0.), tensor(1.))
    """
    if W.ndim < 2 or W.shape[-1] != W.shape[-2] or W.shape[-2:] != A.shape[-2:] or W.shape[-1] < 2:
        raise ValueError(
            f"W and A must be (..., D, D) with one D of at least 2, got {tuple(W.shape)} and {tuple(A.shape)}"
        )
    p = (require_finite("W", W) @ require_finite("A", A)).abs()
    largest = [p.amax(dim) for dim in (-1, -2)]
    if has_values(p) and any((m == 0).any() for m in largest):
        raise ValueError("W A must have no row or column of zeros: a source is lost")
    excess = sum((p.sum(dim) / m - 1).sum(-1) for dim, m in zip((-1, -2), largest, strict=True))
    D = W.shape[-1]
    return excess / (2 * D * (D - 1))


class ICA(nn.Module):
    r"""Square ICA with log cosh sources, learned by maximum likelihood.

    .. math::

        F(y) = \sum_k \log\cosh s_k - \log \lvert\det W\rvert, \qquad s = W (y - \mu), \qquad
        -\log p(y) = F(y) + D \log \pi

    That is independent sources of density :math:`1 / (\pi \cosh s)`, mixed by :math:`W^{-1}`. The density has heavy
    tails, as what filters see in natural pictures or speech; sources with light tails (a uniform one) are not found.

    Args:
        D: dimension of y, and number of sources.
        generator: draws the start, an orthogonal W.
        device: where the parameters live.
        dtype: their dtype.

    Attributes:
        weight: W, (D, D): row k is the filter :math:`w_k`.
        mean: μ, (D,), a buffer: :meth:`learn` sets it to the data's.

    Raises:
        ValueError: D below 1. In every method, another last dimension or values that are not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Architectural Methods"; Bell and
    Sejnowski, An Information-Maximization Approach to Blind Separation and Blind Deconvolution (Neural Computation 7,
    1995); Hyvärinen, Karhunen and Oja, Independent Component Analysis (2001), chapter 9.

    >>> ica = ICA(1)
    >>> ica(torch.tensor([[0.0], [100.0]])).detach()
    tensor([ 0.0000, 99.3069])
    """

    def __init__(
        self,
        D: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.D = require_count("D", D)
        self.weight = nn.Parameter(torch.empty(D, D, device=device, dtype=dtype))
        self.register_buffer("mean", torch.zeros(D, device=device, dtype=dtype))
        origin = torch.device("cpu") if generator is None else generator.device
        turn, corner = torch.linalg.qr(torch.randn(D, D, generator=generator, dtype=torch.float64, device=origin))
        with torch.no_grad():
            self.weight.copy_(turn * corner.diagonal().sign())  # the signs make all rotations equally likely

    @property
    def log_partition(self) -> float:
        r"""The logarithm of :math:`\int e^{-F(y)} dy = \pi^D`, whatever W and μ are."""
        return self.D * math.log(math.pi)

    def encode(self, y: Tensor) -> Tensor:
        """The sources s = W (y − μ), (..., D)."""
        return (require_last("y", y, self.D) - self.mean) @ self.weight.T

    def decode(self, s: Tensor) -> Tensor:
        """The point with these sources, y = W⁻¹ s + μ, (..., D)."""
        require_last("s", s, self.D)
        return torch.linalg.solve(self.weight, s.reshape(-1, self.D).T).T.reshape(s.shape) + self.mean

    def energy(self, y: Tensor) -> Tensor:
        """F(y), (...), in nats; −log p(y) is ``energy(y) + log_partition``."""
        return log_cosh(self.encode(y)).sum(-1) - torch.linalg.slogdet(self.weight).logabsdet

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """The energy, (...): with no free latent, the same at every β."""
        require_positive("beta", beta, allow_inf=True)
        return self.energy(y)

    def forward(self, y: Tensor) -> Tensor:
        """The energy, (...)."""
        return self.energy(y)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws from the model, (n, D): sources by inverting their distribution function, then mixed."""
        u = uniform((require_count("n", n), self.D), generator, torch.float64, self.weight.device)
        # P(s) = (2/π) arctan(eˢ); half a step of the draw keeps log tan finite at u = 0
        s = torch.log(torch.tan(math.pi / 2 * (u + 2.0**-54)))
        return self.decode(s.to(self.weight.dtype))

    @torch.no_grad()
    def learn(self, y: Tensor, *, rounds: int = 200, tol: float = 1e-7) -> Learned:
        r"""Maximum likelihood by relative Newton steps with line search, from whitened data.

        .. math::

            W \leftarrow (I - \alpha \Delta) W, \qquad G_{ij} = \langle \tanh(s_i)\, s_j \rangle - \delta_{ij}, \qquad
            \begin{pmatrix} h_{ij} & 1 \\ 1 & h_{ji} \end{pmatrix}
            \begin{pmatrix} \Delta_{ij} \\ \Delta_{ji} \end{pmatrix} =
            \begin{pmatrix} G_{ij} \\ G_{ji} \end{pmatrix}, \quad
            h_{ij} = \langle \operatorname{sech}^2(s_i) \rangle \langle s_j^2 \rangle

        G is the gradient relative to W (the natural gradient is Δ = G). The Hessian is taken at independent sources,
        where it couples only (i, j) with (j, i); blocks that are not positive are raised. The search starts from the
        current filters, or if that is lower from the rotation nearest to them where the data are white.

        Args:
            y: data, (N, D), more points than coordinates, in a space they span.
            rounds: steps at most.
            tol: stop when no entry of G is larger.

        Returns:
            ``loss``: the mean energy, at the start and after each step; ``converged``: whether ``tol`` was met.

        Raises:
            ValueError: data of another shape, no more points than coordinates, or a singular covariance: project the
                data first.
        """
        require_data(y, self.D, minimum=self.D + 1)
        require_count("rounds", rounds)
        require_positive("tol", tol)
        work = y.double()
        white = whitening(work)
        rank = int(torch.linalg.matrix_rank(white.forward))
        if rank < self.D:
            raise ValueError(f"y must span its {self.D} coordinates, and its covariance has rank {rank}: project first")
        x = white.whiten(work)
        offset = torch.linalg.slogdet(white.forward).logabsdet
        turned = self.weight.double() @ white.backward
        left, _, right = torch.linalg.svd(turned)
        # Fresh filters may be far from the scale of the data; the nearest rotation to them is not.
        turned = min(turned, left @ right, key=lambda W: self._mean_energy(x @ W.T, W).item())
        s = x @ turned.T
        energy = self._mean_energy(s, turned) - offset
        record, converged = [energy.item()], False
        eye = torch.eye(self.D, dtype=x.dtype, device=x.device)
        rounding = 16 * torch.finfo(x.dtype).eps * (1 + energy.abs())  # near the end G still shrinks when F cannot
        for _ in range(rounds):
            gradient = torch.tanh(s).T @ s / len(s) - eye
            if gradient.abs().max() <= tol:
                converged = True
                break
            step = self._newton(s, gradient)
            for halving in range(30):
                trial = turned - 0.5**halving * step @ turned
                s_trial = x @ trial.T
                lower = self._mean_energy(s_trial, trial) - offset
                if lower <= energy + rounding:
                    break
            else:
                break
            turned, s, energy = trial, s_trial, lower
            record.append(energy.item())
        self.weight.copy_(turned @ white.forward)
        self.mean.copy_(white.mean)
        return Learned(record, converged)

    def _mean_energy(self, s: Tensor, W: Tensor) -> Tensor:
        return log_cosh(s).sum(-1).mean() - torch.linalg.slogdet(W).logabsdet

    def _newton(self, s: Tensor, gradient: Tensor) -> Tensor:
        """Solve the 2 × 2 blocks for the step Δ."""
        squares, bend = s.square(), 1 - torch.tanh(s).square()
        h = torch.outer(bend.mean(0), squares.mean(0))
        lowest = (h + h.T - ((h - h.T).square() + 4).sqrt()) / 2  # eigenvalue of each block
        h = h + (SMALLEST_CURVATURE - lowest).clamp_min(0)
        step = (h.T * gradient - gradient.T) / (h * h.T - 1)
        return step.diagonal_scatter(gradient.diagonal() / ((bend * squares).mean(0) + 1))
