r"""Principal component analysis: an energy that is zero on a flat of K dimensions, and the flat closest to data.

.. math::

    E(y, z) = \lVert y - \mu - W z \rVert^2, \qquad
    F_\infty(y) = \lVert (I - W W^{+})(y - \mu) \rVert^2

The free energy is the squared distance to the flat, so it cannot be low anywhere else: capacity is limited by the
number K of columns. Learning has a closed form, from the eigenvectors of the data's covariance.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ebm_lib.data.draw import kind_of, normal
from ebm_lib.latent.model import Learned, blocks, require_data, require_last
from ebm_lib.require import has_values, require_count, require_points, require_positive


class Moments(NamedTuple):
    """Mean and covariance of a data set.

    Attributes:
        mean: (D,).
        covariance: (D, D), the mean of the centred products: divided by N, not by N - 1.
        count: N.
    """

    mean: Tensor
    covariance: Tensor
    count: int


def moments(y: Tensor | Iterable[Tensor], *, block_size: int | None = None) -> Moments:
    r"""Mean and covariance in one pass, a block at a time.

    .. math::

        C = \frac1N \sum_i (y[i] - \mu)(y[i] - \mu)^\top, \qquad
        C_{a \cup b} = \frac{N_a C_a + N_b C_b}{N} + \frac{N_a N_b}{N^2}\,\delta\delta^\top, \quad
        \delta = \mu_b - \mu_a

    Each block is centred on its own mean before it is squared, and the sums are kept in double precision, so a mean
    far from 0 costs no digits. Differentiable in y.

    Args:
        y: data (N, D); or an iterable of blocks (n, D), which need not be in memory together.
        block_size: rows of a tensor taken at a time; None keeps the temporaries under 32 MiB.

    Raises:
        ValueError: no rows, blocks of different widths, values that are not finite.

    Source: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances
    (COMPSTAT 1982).

    >>> moments(torch.tensor([[0.0, 1.0], [2.0, 1.0]]))
    Moments(mean=tensor([1., 1.]), covariance=tensor([[1., 0.], [0., 0.]]), count=2)
    """
    count, mean, scatter = 0, None, None
    for block in _blocks_of(y, block_size):
        wide = block.double()
        n, centre = len(block), wide.mean(0)
        centred = wide - centre
        if mean is None:
            count, mean, scatter, dtype = n, centre, centred.mT @ centred, block.dtype
            continue
        if centre.shape != mean.shape:
            raise ValueError(f"every block of y must have {len(mean)} columns like the first, got {len(centre)}")
        step = centre - mean
        scatter = scatter + centred.mT @ centred + (count * n / (count + n)) * step[:, None] * step
        mean = mean + step * (n / (count + n))
        count += n
    if mean is None:
        raise ValueError("y must hold at least one block, got none")
    return Moments(mean.to(dtype), (scatter / count).to(dtype), count)


def _blocks_of(y: Tensor | Iterable[Tensor], block_size: int | None) -> Iterator[Tensor]:
    if not isinstance(y, Tensor):
        for block in y:
            yield require_data(block, block.shape[-1] if block.ndim else 0, name="a block of y")
        return
    D = y.shape[-1] if y.ndim else 0
    require_data(y[:1] if y.ndim else y, D)
    for rows in blocks(len(y), 3 * 8 * D, block_size):
        yield require_data(y[rows], D)  # values are checked by blocks too: the check has temporaries of its own


class Subspace(NamedTuple):
    """The flat of K dimensions that lies closest to a data set.

    Attributes:
        mean: a point of it, (D,).
        W: orthonormal directions, (D, K), by falling variance; each one's largest entry is positive.
        variance: the data's variance along all D principal directions, falling, (D,).
    """

    mean: Tensor
    W: Tensor
    variance: Tensor


def principal_subspace(y: Tensor | Moments, K: int, *, block_size: int | None = None) -> Subspace:
    r"""Find the K orthogonal directions along which data vary most.

    .. math:: C\,W_k = \lambda_k W_k, \qquad \frac1N \sum_i F_\infty(y[i]) = \sum_{k > K} \lambda_k

    Among all flats of K dimensions this one has the lowest mean energy: the sum of the variances left out.

    Args:
        y: data (N, D), or their moments.
        K: how many directions, at most D and, since N points span N - 1 dimensions, at most N - 1.
        block_size: as for :func:`moments`.

    Raises:
        ValueError: K out of range, y as for :func:`moments`.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Principal Component Analysis";
    Eckart and Young, The approximation of one matrix by another of lower rank (Psychometrika 1, 1936).

    >>> principal_subspace(torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), 1).W
    tensor([[1.],
            [0.]])
    """
    found = y if isinstance(y, Moments) else moments(y, block_size=block_size)
    require_directions(K, len(found.mean), found.count)
    variance, directions = torch.linalg.eigh(found.covariance.double())
    W = directions.flip(-1)[:, :K]
    largest = W.gather(0, W.abs().argmax(0, keepdim=True))
    return Subspace(
        found.mean, (W * largest.sign()).to(found.mean.dtype), variance.flip(-1).clamp(min=0).to(found.mean.dtype)
    )


def require_directions(K: int, D: int, count: int) -> None:
    """Refuse more directions than there are dimensions, or than ``count`` points span.

    Raises:
        ValueError: K below 1, above D, or above count - 1.

    >>> require_directions(3, 5, 3)
    Traceback (most recent call last):
    ...
    ValueError: K must be at most 2, as 3 points span no more dimensions, got 3
    """
    require_count("K", K)
    if K > D:
        raise ValueError(f"K must be at most the {D} dimensions of y, got {K}")
    if K > count - 1:
        raise ValueError(f"K must be at most {count - 1}, as {count} points span no more dimensions, got {K}")


def subspace_angles(U: Tensor, W: Tensor) -> Tensor:
    r"""Angles between the spaces that the columns of two matrices span: all 0 where one contains the other.

    .. math:: \cos\theta_k = \sigma_k(Q_U^\top Q_W), \qquad \sin\theta_k = \sigma_k\bigl((I - Q_U Q_U^\top) Q_W\bigr)

    Both are used, as a small angle is lost in its cosine and a right angle in its sine.

    Args:
        U: (D, K), independent columns.
        W: (D, L), independent columns.

    Returns:
        min(K, L) angles in radians, falling, in [0, π/2].

    Raises:
        ValueError: not two matrices of D rows, or dependent columns.

    Source: Björck and Golub, Numerical methods for computing angles between linear subspaces (Mathematics of
    Computation 27, 1973).

    >>> subspace_angles(torch.eye(3)[:, :2], torch.eye(3)[:, 1:])
    tensor([1.5708, 0.0000])
    """
    if U.ndim != 2 or W.ndim != 2 or len(U) != len(W):
        raise ValueError(f"U and W must be (D, K) and (D, L), got shapes {tuple(U.shape)} and {tuple(W.shape)}")
    if U.shape[1] < W.shape[1]:
        U, W = W, U
    bases = []
    for name, matrix in (("U", U), ("W", W)):
        require_points(name, matrix)
        _require_independent(name, matrix)
        bases.append(torch.linalg.qr(matrix)[0])
    first, second = bases
    inner = first.mT @ second
    cosines = torch.linalg.svdvals(inner).flip(-1)
    sines = torch.linalg.svdvals(second - first @ inner)
    return torch.atan2(sines, cosines)


def _require_independent(name: str, W: Tensor) -> None:
    if has_values(W):
        values = torch.linalg.svdvals(W.detach())
        if W.shape[-1] > W.shape[-2] or values[-1] <= values[0] * max(W.shape) * torch.finfo(W.dtype).eps:
            raise ValueError(f"{name} must have linearly independent columns, got {tuple(W.shape)} of lower rank")


class PCA(nn.Module):
    r"""A free latent variable in a flat: energy zero on it, and growing with the squared distance from it.

    .. math::

        E(y, z) = \lVert y - \mu - W z \rVert^2, \qquad \check z = (W^\top W)^{-1} W^\top (y - \mu), \qquad
        F_\beta(y) = F_\infty(y) + \frac{1}{2\beta} \log\det \frac{\beta\,W^\top W}{\pi}

    ``learn`` gives W orthonormal columns; a W set or trained by other means needs independent ones only, and the
    formulas hold as they stand.

    Args:
        D: dimensions of y.
        K: dimensions of z, fewer than D for any capacity to be limited, and at most D.
        generator: draws the directions to start from; torch's global generator if None.
        device: where the parameters live.
        dtype: their dtype.

    Attributes:
        mean: μ, (D,), a parameter.
        W: (D, K), a parameter.

    Raises:
        ValueError: a size below 1, K above D.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Principal Component Analysis" and
    "Architectural Methods".

    >>> model = PCA(2, 1)
    >>> _ = model.learn(torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    >>> model(torch.tensor([[5.0, 0.0], [5.0, 2.0]]))
    tensor([0., 4.], grad_fn=...)
    """

    def __init__(
        self,
        D: int,
        K: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_directions(require_count("K", K), require_count("D", D), D + 1)
        dtype, device = kind_of(None, dtype, device)
        self.W = nn.Parameter(torch.linalg.qr(normal((D, K), generator, dtype, device))[0])
        self.mean = nn.Parameter(torch.zeros(D, dtype=dtype, device=device))

    def decode(self, z: Tensor) -> Tensor:
        """Return the point of the flat, (..., D), at the coordinates z, (..., K)."""
        return self.mean + require_last("z", z, self.W.shape[1]) @ self.W.mT

    def energy(self, y: Tensor, z: Tensor) -> Tensor:
        """Return E(y, z), the squared distance of y, (..., D), from the point z, (..., K), of the flat."""
        return (require_last("y", y, len(self.W)) - self.decode(z)).square().sum(-1)

    def infer(self, y: Tensor) -> Tensor:
        """Return ž, (..., K): the coordinates of the point of the flat closest to y, (..., D)."""
        with torch.no_grad():
            return self._nearest(y)

    def _nearest(self, y: Tensor) -> Tensor:
        _require_independent("W", self.W)
        basis, triangle = torch.linalg.qr(self.W)
        inner = (require_last("y", y, len(self.W)) - self.mean) @ basis
        return torch.linalg.solve_triangular(triangle, inner.unsqueeze(-1), upper=True).squeeze(-1)

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """Return F_β(y), (...), for y (..., D): the squared distance to the flat, and a constant if β is finite."""
        require_positive("beta", beta, allow_inf=True)
        distance = self.energy(y, self._nearest(y))
        if math.isinf(beta):
            return distance
        return distance + torch.linalg.slogdet(self.W.mT @ self.W * (beta / math.pi))[1] / (2 * beta)

    forward = free_energy

    def learn(self, y: Tensor | Iterable[Tensor], *, block_size: int | None = None) -> Learned:
        """Move the flat to where the mean energy of the data is lowest, in closed form.

        Args:
            y: (N, D), or an iterable of blocks (n, D).
            block_size: as for :func:`moments`.

        Returns:
            The record of one round.

        Raises:
            ValueError: as :func:`principal_subspace`.
        """
        found = principal_subspace(_moments_of(y, len(self.W), block_size), self.W.shape[1])
        with torch.no_grad():
            self.W.copy_(found.W)
            self.mean.copy_(found.mean)
        return Learned([found.variance[self.W.shape[1] :].sum().item()], True)


def _moments_of(y: Tensor | Iterable[Tensor], D: int, block_size: int | None) -> Moments:
    if isinstance(y, Tensor) and (y.ndim != 2 or y.shape[-1] != D):
        raise ValueError(f"y must be (N, {D}), one sample a row, got shape {tuple(y.shape)}")
    found = moments(y, block_size=block_size)
    if len(found.mean) != D:
        raise ValueError(f"y must hold points of {D} dimensions, got {len(found.mean)}")
    return found
