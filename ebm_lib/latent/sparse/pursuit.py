r"""Sparse codes by L0: as few atoms as possible, chosen one after the other.

.. math:: \min_z \lVert y - W z \rVert^2 \;\text{ with at most } n \text{ of the } z_k \text{ not } 0

Which atoms are best is a question with :math:`\binom{K}{n}` possible answers; both pursuits are greedy. Where the atoms
are orthonormal, or few and nearly so, they find the minimum; elsewhere they may not.
"""

import torch
from torch import Tensor

from ebm_lib.latent.model import blocks
from ebm_lib.latent.sparse._require import require_dictionary
from ebm_lib.require import has_values, require_count


@torch.no_grad()
def matching_pursuit(y: Tensor, W: Tensor, steps: int, *, tol: float = 0.0) -> Tensor:
    r"""Matching pursuit: explain what is left with the one atom that explains most of it, again and again.

    .. math::

        r = y - W z, \qquad k = \operatorname{argmax}_k \frac{|W_k^\top r|}{\lVert W_k \rVert}, \qquad
        z_k \leftarrow z_k + \frac{W_k^\top r}{\lVert W_k \rVert^2}

    Each step lowers the error by the square of the largest inner product. An atom may be chosen again: n steps use at
    most n atoms.

    Args:
        y: (..., D).
        W: decoder, (D, K), without zero columns; they need not have norm 1.
        steps: how many.
        tol: leave a point as it is once its squared error is at most ``tol`` times ‖y‖².

    Returns:
        z, (..., K), without gradient.

    Raises:
        ValueError: shapes that do not fit, values not finite, a zero column in W, a tol outside [0, 1).

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Regularized Latent Variable EBM" (L0);
    Mallat and Zhang, Matching Pursuits with Time-Frequency Dictionaries (IEEE Transactions on Signal Processing 1993).

    >>> matching_pursuit(torch.tensor([3.0, 4.0]), torch.eye(2), steps=1)
    tensor([0., 4.])
    """
    points, norm, atoms, gram = _prepared(y, W, steps, tol)
    force, limit = points @ atoms, tol * points.square().sum(-1)
    square, z = points.square().sum(-1), torch.zeros_like(force)
    for _ in range(steps):
        best = force.abs().argmax(-1, keepdim=True)
        move = force.gather(-1, best) * (square > limit).unsqueeze(-1)
        z.scatter_add_(-1, best, move)
        force = force.addcmul_(gram[best.squeeze(-1)], move, value=-1)
        square = square - move.squeeze(-1).square()
    return (z / norm).reshape(*y.shape[:-1], W.shape[1])


@torch.no_grad()
def orthogonal_matching_pursuit(
    y: Tensor, W: Tensor, atoms: int, *, tol: float = 0.0, block_size: int | None = None
) -> Tensor:
    r"""Orthogonal matching pursuit: after each choice, refit all the atoms chosen so far.

    .. math::

        S \leftarrow S \cup \Big\{\operatorname{argmax}_k \frac{|W_k^\top r|}{\lVert W_k \rVert}\Big\}, \qquad
        z_S = \operatorname{argmin}_z \lVert y - W_S z \rVert^2, \qquad r = y - W_S z_S

    What is left is orthogonal to every atom chosen, so none is chosen twice, and D independent atoms leave nothing. The
    least squares are solved by a Cholesky factor of :math:`W_S^\top W_S` that grows by a row in each step, for all
    points at once.

    Args:
        y: (..., D).
        W: decoder, (D, K), without zero columns; they need not have norm 1.
        atoms: how many to use, at most min(D, K).
        tol: add no atom to a point once its squared error is at most ``tol`` times ‖y‖². A point also stops, with fewer
            atoms, where the next atom depends on those it has.
        block_size: points at once; None takes as many as make a block of 32 MiB.

    Returns:
        z, (..., K), without gradient.

    Raises:
        ValueError: as :func:`matching_pursuit`; more atoms than min(D, K).

    Source: Pati, Rezaiifar and Krishnaprasad, Orthogonal Matching Pursuit (Asilomar 1993); the growing factor:
    Rubinstein, Zibulevsky and Elad, Efficient Implementation of the K-SVD Algorithm using Batch Orthogonal Matching
    Pursuit (Technion CS-2008-08).

    >>> orthogonal_matching_pursuit(torch.tensor([3.0, 1.0]), torch.tensor([[1.0, 0.6], [0.0, 0.8]]), atoms=2)
    tensor([2.2500, 1.2500])
    """
    points, norm, directions, gram = _prepared(y, W, atoms, tol)
    if atoms > min(W.shape):
        raise ValueError(f"atoms must be at most min(D, K) = {min(W.shape)}, got {atoms}")
    z = points.new_zeros(len(points), W.shape[1])
    row_bytes = (2 * W.shape[1] + 3 * atoms * atoms) * y.element_size()
    for rows in blocks(len(points), row_bytes, block_size):
        z[rows] = _pursue(points[rows], directions, gram, atoms, tol)
    return (z / norm).reshape(*y.shape[:-1], W.shape[1])


def _pursue(y: Tensor, W: Tensor, gram: Tensor, atoms: int, tol: float) -> Tensor:
    """OMP for a block of points and atoms of norm 1."""
    inner = y @ W
    total = y.square().sum(-1)
    chosen = torch.zeros(len(y), atoms, dtype=torch.long, device=y.device)
    # A point that has stopped gets rows of the identity and a right-hand side of 0: codes of 0.
    factor = torch.eye(atoms, dtype=y.dtype, device=y.device).repeat(len(y), 1, 1)
    half = y.new_zeros(len(y), atoms)  # L⁻¹ W_Sᵀ y, whose square is what has been explained
    z_chosen = y.new_zeros(len(y), atoms)
    force, alive = inner, torch.ones(len(y), dtype=torch.bool, device=y.device)
    floor = 4 * atoms * torch.finfo(y.dtype).eps
    for n in range(atoms):
        left = total - half.square().sum(-1)
        alive = alive & (left > max(tol, floor) * total)
        best = force.abs().argmax(-1)
        row = gram[best.unsqueeze(-1), chosen[:, :n]]
        row = torch.linalg.solve_triangular(factor[:, :n, :n], row.unsqueeze(-1), upper=False).squeeze(-1)
        pivot = 1 - row.square().sum(-1)
        alive = alive & (pivot > floor)
        pivot = torch.where(alive, pivot, 1.0).sqrt()
        factor[:, n, :n] = row * alive.unsqueeze(-1)
        factor[:, n, n] = pivot
        rest = inner.gather(-1, best.unsqueeze(-1)).squeeze(-1) - (row * half[:, :n]).sum(-1)
        half[:, n] = rest / pivot * alive
        chosen[:, n] = torch.where(alive, best, 0)
        fit = torch.linalg.solve_triangular(factor[:, : n + 1, : n + 1].mT, half[:, : n + 1, None], upper=True)
        z_chosen[:, : n + 1] = fit.squeeze(-1)
        force = inner - _spread(chosen, z_chosen, gram.shape[0]) @ gram
    return _spread(chosen, z_chosen, gram.shape[0])


def _spread(chosen: Tensor, z_chosen: Tensor, K: int) -> Tensor:
    """Codes of the chosen atoms at their places among all K."""
    return z_chosen.new_zeros(len(chosen), K).scatter_add_(-1, chosen, z_chosen)


def _prepared(y: Tensor, W: Tensor, steps: int, tol: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Check, and give the points as rows, the atoms' norms, the atoms at norm 1 and their inner products."""
    require_dictionary(y, W)
    require_count("steps", steps)
    if not 0 <= tol < 1:
        raise ValueError(f"tol must be at least 0 and below 1, got {tol}")
    if not has_values(y) and y.ndim == 1:
        y = y.unsqueeze(0)
    norm = torch.linalg.vector_norm(W, dim=0)
    atoms = W / norm
    return y.reshape(-1, y.shape[-1]), norm, atoms, atoms.T @ atoms
