r"""What all sparse models with a linear decoder share: the dictionary and how it is learned.

.. math:: E(y, z) = \lVert y - W z \rVert^2 + \lambda R(z), \qquad \lVert W_k \rVert = 1

They differ in R, and in how its minimum is found. Without the condition on the atoms the price is none:
:math:`W \to c W,\; z \to z / c` leaves the reconstruction as it is and shrinks z.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ebm_lib.latent.model import Learned, blocks, require_data, require_last
from ebm_lib.latent.sparse._require import require_codes, require_matrix
from ebm_lib.nn import init_
from ebm_lib.require import has_values, require_count, require_finite, require_positive


def normalize_columns(W: Tensor) -> Tensor:
    r"""Divide every column by its norm.

    .. math:: W_k \leftarrow \frac{W_k}{\lVert W_k \rVert}

    Args:
        W: (D, K).

    Returns:
        (D, K).

    Raises:
        ValueError: not a matrix, values not finite, a zero column.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Regularized Latent Variable EBM" (L1
    norm with decoder normalization).

    >>> normalize_columns(torch.tensor([[3.0, 0.0], [4.0, -2.0]]))
    tensor([[ 0.6000,  0.0000],
            [ 0.8000, -1.0000]])
    """
    if W.ndim != 2:
        raise ValueError(f"W must be a matrix (D, K), got shape {tuple(W.shape)}")
    require_finite("W", W)
    norm = torch.linalg.vector_norm(W, dim=0)
    if has_values(norm) and (norm == 0).any():
        raise ValueError(f"W must have no zero column: {int((norm == 0).sum())} of {W.shape[1]} are")
    return W / norm


@torch.no_grad()
def dictionary_step(W: Tensor, code_moment: Tensor, cross_moment: Tensor, *, normalize: bool = True) -> Tensor:
    r"""Move every atom, one after the other, to where it serves the codes best while the other atoms stay.

    .. math::

        A = \langle z z^\top \rangle, \quad B = \langle y z^\top \rangle, \qquad
        u_k = W_k + \frac{B_k - W A_k}{A_{kk}}, \qquad W_k \leftarrow \frac{u_k}{\lVert u_k \rVert}

    It lowers the mean reconstruction error of the codes, or leaves it. An atom that no code uses (:math:`A_{kk} = 0`)
    stays as it is.

    Args:
        W: dictionary, (D, K).
        code_moment: A, (K, K): a mean of z zᵀ over data (or a sum: only its ratio to B counts).
        cross_moment: B, (D, K): the mean of y zᵀ.
        normalize: keep the atoms at norm 1; without it the step goes to :math:`W_k \leftarrow u_k`.

    Returns:
        The new dictionary, (D, K).

    Raises:
        ValueError: shapes that do not fit, values not finite.

    Source: Mairal, Bach, Ponce and Sapiro, Online Dictionary Learning for Sparse Coding (ICML 2009); they
    allow norms up to 1, which an L1 price uses in full.

    >>> dictionary_step(torch.tensor([[1.0], [0.0]]), torch.tensor([[4.0]]), torch.tensor([[0.0], [8.0]]))
    tensor([[0.],
            [1.]])
    """
    require_matrix(W)
    D, K = W.shape
    if code_moment.shape != (K, K) or cross_moment.shape != (D, K):
        raise ValueError(
            f"code_moment and cross_moment must be {(K, K)} and {(D, K)}, "
            f"got {tuple(code_moment.shape)} and {tuple(cross_moment.shape)}"
        )
    require_finite("code_moment", code_moment)
    require_finite("cross_moment", cross_moment)
    # Atoms as rows: each step then reads and writes memory that lies together.
    atoms = W.T.clone(memory_format=torch.contiguous_format)
    moment, cross = code_moment.contiguous(), cross_moment.T.contiguous()
    used = moment.diagonal() > 0
    weight = torch.where(used, moment.diagonal(), 1.0)
    for k in range(K):
        step = (cross[k] - moment[k] @ atoms) / weight[k]
        new = atoms[k] + step
        if normalize:
            norm = torch.linalg.vector_norm(new)
            new = torch.where(norm > 0, new / norm, atoms[k])
        atoms[k] = torch.where(used[k], new, atoms[k])
    return atoms.T.contiguous()


class LinearDecoder(nn.Module):
    r"""A latent-variable model with a linear decoder; what it lacks is the price R and the inference.

    .. math:: E(y, z) = \lVert y - W z \rVert^2 + \lambda R(z), \qquad F(y) = \min_z E(y, z)

    A model of this kind defines ``price(z)``, which is λR(z), and ``infer(y)``.

    Args:
        D: size of y.
        K: number of atoms.
        lam: λ > 0.
        normalize: keep the atoms at norm 1.
        generator: where the first atoms come from, uniform in direction.
        device: where the parameters live.
        dtype: their dtype.

    Attributes:
        W: the dictionary, (D, K), a parameter.

    Raises:
        ValueError: bad sizes, λ not positive.

    >>> class Free(LinearDecoder):
    ...     def price(self, z):
    ...         return 0 * z.sum(-1)
    >>> Free(2, 3, lam=1.0).energy(torch.ones(2), torch.zeros(3)).detach()
    tensor(2.)
    """

    def __init__(
        self,
        D: int,
        K: int,
        *,
        lam: float,
        normalize: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_count("D", D)
        require_count("K", K)
        self.lam, self.normalize = require_positive("lam", lam), normalize
        self.W = nn.Parameter(torch.empty(D, K, device=device, dtype=dtype))
        init_(self, generator)

    def reset_parameters(self) -> None:
        """Draw the atoms anew."""
        self.W.normal_()
        self.W.div_(torch.linalg.vector_norm(self.W, dim=0))

    def price(self, z: Tensor) -> Tensor:
        """λR(z), (..., K) gives (...)."""
        raise NotImplementedError

    def infer(self, y: Tensor, **options: Any) -> Tensor:
        """ž = argmin_z E(y, z), (..., D) gives (..., K)."""
        raise NotImplementedError

    def energy(self, y: Tensor, z: Tensor) -> Tensor:
        """E(y, z): (..., D) and (..., K) give (...), their leading dimensions broadcast."""
        require_last("y", y, self.W.shape[0])
        return (y - self.decode(z)).square().sum(-1) + self.price(z)

    def decode(self, z: Tensor) -> Tensor:
        """ȳ = Wz, (..., K) gives (..., D)."""
        require_codes("z", z, self.W)
        return z @ self.W.mT

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """F(y) = min_z E(y, z), (...); its gradients in y and W are those of E at ž.

        Raises:
            ValueError: a finite beta: that integral over z has no closed form.
        """
        require_positive("beta", beta, allow_inf=True)
        if not math.isinf(beta):
            raise ValueError(f"beta must be inf: a sparse code has no closed form at a finite one, got {beta}")
        require_last("y", y, self.W.shape[0])
        return self.energy(y, self.infer(y.detach()))

    def forward(self, y: Tensor) -> Tensor:
        """The free energy at β = ∞: see :meth:`free_energy`."""
        return self.free_energy(y)

    @torch.no_grad()
    def learn(
        self,
        y: Tensor,
        *,
        rounds: int = 30,
        batch_size: int | None = None,
        memory: int | None = None,
        min_gain: float = 1e-4,
        generator: torch.Generator | None = None,
        progress: bool = True,
        **inference: Any,
    ) -> Learned:
        r"""Learn the dictionary by turns: codes of the data, then :func:`dictionary_step`.

        With all the data in each turn the mean energy never rises, as far as the codes are the best ones. With batches
        the moments of z and y are running means. Atoms that no point used in a round are replaced by points of the
        data; so the number of points must be at least that of atoms.

        Args:
            y: (N, D), with at least K points.
            rounds: passes through the data at most.
            batch_size: points between two steps of the dictionary; all if None.
            memory: over how many batches, about, the running means go; one pass through the data if None.
            min_gain: stop when a round lowers the mean energy by less than this share of it; 0 for when it rises.
            generator: where batches and replacements come from.
            progress: show a bar.
            **inference: passed on to ``infer``.

        Returns:
            A Learned: the loss is the mean energy of the data at the codes found during each round.

        Raises:
            ValueError: data that are not (N, D) with N ≥ K, or all 0; bad counts or tolerances.
        """
        D, K = self.W.shape
        require_data(y, D, minimum=K)
        require_count("rounds", rounds)
        size = len(y) if batch_size is None else min(len(y), require_count("batch_size", batch_size))
        if not 0 <= min_gain < math.inf:
            raise ValueError(f"min_gain must be a finite number of at least 0, got {min_gain}")
        usable = y[(y != 0).any(-1)]
        if not len(usable):
            raise ValueError("y must not be all 0: nothing can be learned from it")
        batches = -(-len(y) // size)
        span = batches if memory is None else require_count("memory", memory)
        code_moment, cross_moment = self.W.new_zeros(K, K), self.W.new_zeros(D, K)
        losses: list[float] = []
        converged = False
        with tqdm(total=rounds, unit="round", disable=not progress) as bar:
            for turn in range(rounds):
                order = _permutation(len(y), generator, y.device) if batches > 1 else None
                energy, usage = 0.0, self.W.new_zeros(K)
                for number in range(batches):
                    chosen = slice(number * size, (number + 1) * size)
                    batch = y[chosen] if order is None else y[order[chosen]]
                    A, B, total, used = self._moments(batch, inference)
                    energy += total
                    usage += used
                    new = 1 / min(turn * batches + number + 1, span)
                    code_moment.lerp_(A, new)
                    cross_moment.lerp_(B, new)
                    self.W.copy_(dictionary_step(self.W, code_moment, cross_moment, normalize=self.normalize))
                losses.append(energy / len(y))
                bar.update()
                bar.set_postfix(energy=f"{losses[-1]:.4g}", refresh=False)
                unused = usage == 0
                if unused.any():
                    self._replace(unused, usable, generator)
                    code_moment[unused], code_moment[:, unused], cross_moment[:, unused] = 0, 0, 0
                elif turn and losses[-2] - losses[-1] < min_gain * losses[-2]:
                    converged = True
                    break
        return Learned(losses, converged)

    def _moments(self, y: Tensor, inference: dict[str, Any]) -> tuple[Tensor, Tensor, float, Tensor]:
        """Mean z zᵀ, mean y zᵀ, the sum of the energies and how many points use each atom, block by block."""
        D, K = self.W.shape
        A, B, used = self.W.new_zeros(K, K), self.W.new_zeros(D, K), self.W.new_zeros(K)
        total = 0.0
        for rows in blocks(len(y), K * y.element_size()):
            z = self.infer(y[rows], **inference)
            A.addmm_(z.T, z, alpha=1 / len(y))
            B.addmm_(y[rows].T, z, alpha=1 / len(y))
            used += (z != 0).sum(0)
            total += self.energy(y[rows], z).sum().item()
        return A, B, total, used

    def _replace(self, unused: Tensor, points: Tensor, generator: torch.Generator | None) -> None:
        """Put points of the data, at norm 1, where atoms are of no use."""
        chosen = _permutation(len(points), generator, points.device)[: int(unused.sum())]
        where = unused.nonzero()[: len(chosen), 0]
        self.W[:, where] = normalize_columns(points[chosen].T)

    def extra_repr(self) -> str:
        """Show the sizes and the price."""
        D, K = self.W.shape
        return f"{D}, {K}, lam={self.lam}" + ("" if self.normalize else ", normalize=False")


def _permutation(count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    origin = device if generator is None else generator.device
    return torch.randperm(count, generator=generator, device=origin).to(device)
