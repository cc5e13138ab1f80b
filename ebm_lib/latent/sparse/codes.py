r"""Sparse codes by L1: the energy, and the iterations that search its minimum.

.. math:: E(y, z) = \lVert y - W z \rVert^2 + \lambda \lVert z \rVert_1, \qquad
    \check z = \operatorname{argmin}_z E(y, z), \qquad F(y) = E(y, \check z)

The lectures' cost has no factor ½, so the gradient of its smooth part is :math:`2 W^\top (W z - y)`, its Lipschitz
constant :math:`2 \lVert W \rVert_2^2`, and the longest safe step :func:`max_step_size` is one over that. E is twice
scikit-learn's Lasso objective, times the number of coordinates D of y, at :math:`\alpha = \lambda / 2D`.

Convex, so every local minimum is global; :func:`duality_gap` says how far above it a code is at most. For the codes of
many points, and to be done rather than to watch, use :func:`ebm_lib.latent.sparse.sparse_codes`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.latent.sparse._require import require_codes, require_dictionary, require_matrix
from ebm_lib.latent.sparse.shrinkage import soft_threshold
from ebm_lib.require import has_values, require_count, require_finite, require_positive

CHECK_EVERY = 10  # iterations between looks at the duality gap, which costs a third of one


class Codes(NamedTuple):
    """Codes, and the way there.

    Attributes:
        z: the codes found, (..., K).
        energies: E after each iteration, the start first, (steps + 1, ...).
        path: the codes after each iteration, (steps + 1, ..., K), if they were to be kept.
        steps: iterations done.
    """

    z: Tensor
    energies: Tensor
    path: Tensor | None
    steps: int


def sparse_energy(y: Tensor, z: Tensor, W: Tensor, lam: float) -> Tensor:
    r"""Energy of sparse coding.

    .. math:: E(y, z) = \lVert y - W z \rVert^2 + \lambda \lVert z \rVert_1

    Args:
        y: (..., D).
        z: (..., K); leading dimensions broadcast against those of y.
        W: decoder, (D, K): its columns are the atoms.
        lam: λ > 0, in units of y times those of an atom.

    Returns:
        (...), ≥ 0, in units of y squared.

    Raises:
        ValueError: shapes that do not fit, values not finite, λ not positive.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Regularized Latent Variable Methods:
    Sparse Coding"; Olshausen and Field, Emergence of Simple-Cell Receptive Field Properties by Learning a Sparse Code
    for Natural Images (Nature 1996).

    >>> sparse_energy(torch.tensor([3.0, 0.0]), torch.tensor([2.0, -1.0]), torch.eye(2), lam=0.5)
    tensor(3.5000)
    """
    require_dictionary(y, W, allow_zero=True)
    require_codes("z", z, W)
    require_positive("lam", lam)
    return (y - z @ W.mT).square().sum(-1) + lam * z.abs().sum(-1)


def max_step_size(W: Tensor) -> float:
    r"""Longest step for which ISTA and FISTA are proved to converge: one over the Lipschitz constant.

    .. math:: \eta = \frac{1}{2 \lVert W \rVert_2^2}

    with the spectral norm (largest singular value) of W.

    Args:
        W: decoder, (D, K).

    Returns:
        η, in units of z² over those of energy.

    Raises:
        ValueError: W not a matrix, not finite, or all 0.

    Source: Beck and Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems (SIAM
    Journal on Imaging Sciences 2009).

    >>> max_step_size(torch.diag(torch.tensor([2.0, 1.0])))
    0.125
    """
    require_matrix(W)
    with torch.no_grad():
        largest = torch.linalg.eigvalsh(W @ W.mT if W.shape[0] <= W.shape[1] else W.mT @ W)[-1]
    if not has_values(largest):
        return 1.0  # nothing to read: any number serves on a meta tensor
    if largest <= 0:
        raise ValueError("W must not be all 0")
    return 1 / (2 * largest.item())


def ista_step(
    z: Tensor, y: Tensor, W: Tensor, lam: float | Tensor, step_size: float | Tensor, *, nonnegative: bool = False
) -> Tensor:
    r"""One step of ISTA: down the slope of the reconstruction error, then shrink.

    .. math:: z \leftarrow \operatorname{Shrink}_{\lambda\eta}\!\big[z - 2 \eta\, W^\top (W z - y)\big]

    The lectures write η for our 2η (and α for λ/2), which absorbs the factor 2 of the gradient. Differentiable in
    everything.

    Args:
        z: (..., K).
        y: (..., D).
        W: decoder, (D, K).
        lam: λ.
        step_size: η.
        nonnegative: keep z ≥ 0.

    Returns:
        (..., K).

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Giving the “right” structure to the
    encoder"; Daubechies, Defrise and De Mol, An Iterative Thresholding Algorithm for Linear Inverse Problems with a
    Sparsity Constraint (CPAM 2004).

    >>> ista_step(torch.zeros(2), torch.tensor([3.0, 0.2]), torch.eye(2), lam=1.0, step_size=0.5)
    tensor([2.5000, 0.0000])
    """
    return soft_threshold(z - 2 * step_size * ((z @ W.mT - y) @ W), lam * step_size, nonnegative=nonnegative)


def ista(
    y: Tensor,
    W: Tensor,
    lam: float,
    *,
    steps: int = 100,
    tol: float = 0.0,
    start: Tensor | None = None,
    step_size: float | None = None,
    nonnegative: bool = False,
    keep_path: bool = False,
) -> Codes:
    r"""Iterative shrinkage-thresholding: :func:`ista_step` again and again.

    At steps of :func:`max_step_size` the energy never rises, and after k of them

    .. math:: E(z_k) - E(\check z) \le \frac{\lVert z_0 - \check z \rVert^2}{2 \eta k}

    Args:
        y: (..., D).
        W: decoder, (D, K), without zero columns.
        lam: λ > 0.
        steps: iterations at most.
        tol: stop when the duality gap of every sample is at most ``tol`` times ‖y‖², its energy at z = 0 (looked at
            every ten iterations; 0 never stops).
        start: z₀, (..., K); 0 if None.
        step_size: η; :func:`max_step_size` if None.
        nonnegative: search z ≥ 0 only.
        keep_path: keep the codes of every iteration.

    Returns:
        Codes, without gradient.

    Raises:
        ValueError: shapes that do not fit, values not finite, a zero column in W, λ or η not positive.

    Source: as :func:`ista_step`; the bound: Beck and Teboulle (2009).

    >>> ista(torch.tensor([3.0, 0.2]), torch.eye(2), lam=1.0, steps=1).z
    tensor([2.5000, 0.0000])
    """
    return _iterate(y, W, lam, steps, tol, start, step_size, nonnegative, keep_path, accelerated=False, restart=False)


def fista(
    y: Tensor,
    W: Tensor,
    lam: float,
    *,
    steps: int = 100,
    tol: float = 0.0,
    start: Tensor | None = None,
    step_size: float | None = None,
    nonnegative: bool = False,
    restart: bool = False,
    keep_path: bool = False,
) -> Codes:
    r"""ISTA with momentum: each step starts from a point beyond the last one.

    .. math::

        & v_k = z_k + \frac{t_k - 1}{t_{k+1}} (z_k - z_{k-1}), \qquad t_1 = 1, \quad
        t_{k+1} = \tfrac12 \Big(1 + \sqrt{1 + 4 t_k^2}\Big), \\
        & z_{k+1} = \operatorname{Shrink}_{\lambda\eta}\!\big[v_k - 2 \eta\, W^\top (W v_k - y)\big]

    so that

    .. math:: E(z_k) - E(\check z) \le \frac{2 \lVert z_0 - \check z \rVert^2}{\eta\,(k + 1)^2}

    The energy may rise now and then. With ``restart`` a sample's momentum is dropped whenever it points uphill, which
    ends the ripples; the bound is no longer proved then, and usually beaten by far.

    Args:
        y: (..., D).
        W: decoder, (D, K), without zero columns.
        lam: λ > 0.
        steps: iterations at most.
        tol: as :func:`ista`.
        start: z₀, (..., K); 0 if None.
        step_size: η; :func:`max_step_size` if None.
        nonnegative: search z ≥ 0 only.
        restart: drop the momentum of a sample where it points uphill.
        keep_path: keep the codes of every iteration.

    Returns:
        Codes, without gradient.

    Raises:
        ValueError: as :func:`ista`.

    Source: Beck and Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems (SIAM
    Journal on Imaging Sciences 2009); the restart: O'Donoghue and Candès, Adaptive Restart for Accelerated
    Gradient Schemes (Foundations of Computational Mathematics 2015).

    >>> fista(torch.tensor([3.0, 0.2]), torch.eye(2), lam=1.0, steps=1).z
    tensor([2.5000, 0.0000])
    """
    return _iterate(y, W, lam, steps, tol, start, step_size, nonnegative, keep_path, accelerated=True, restart=restart)


def duality_gap(y: Tensor, z: Tensor, W: Tensor, lam: float, *, nonnegative: bool = False) -> Tensor:
    r"""An upper bound on how far the energy of a code is above the minimum, without knowing the minimum.

    .. math::

        E(y, z) - F(y) \le E(y, z) - \big(2 s\, r^\top y - s^2 \lVert r \rVert^2\big), \qquad r = y - W z, \qquad
        |s| \le \frac{\lambda}{2 \lVert W^\top r \rVert_\infty}

    The bracket is the dual objective at ν = 2 s r, with the best s that is allowed; the gap is 0 at the minimum only.

    Args:
        y: (..., D).
        z: (..., K).
        W: decoder, (D, K), without zero columns.
        lam: λ > 0.
        nonnegative: F is the minimum over z ≥ 0, and z is such a code.

    Returns:
        (...), ≥ 0 up to rounding, in units of energy.

    Raises:
        ValueError: as :func:`sparse_energy`; a code with a negative entry where it must have none.

    Source: Kim, Koh, Lustig, Boyd and Gorinevsky, An Interior-Point Method for Large-Scale L1-Regularized Least Squares
    (IEEE Journal of Selected Topics in Signal Processing 2007).

    >>> y, W = torch.tensor([3.0, 0.2]), torch.eye(2)
    >>> duality_gap(y, torch.zeros(2), W, 1.0), duality_gap(y, torch.tensor([2.5, 0.0]), W, 1.0)
    (tensor(6.2778), tensor(0.))
    """
    require_dictionary(y, W)
    require_codes("z", z, W)
    require_positive("lam", lam)
    if nonnegative and has_values(z) and (z < 0).any():
        raise ValueError(f"z must be at least 0 everywhere, its lowest entry is {z.min().item():.3g}")
    residual = y - z @ W.mT
    return _gap(y, z, residual, residual @ W, lam, nonnegative)


def _gap(y: Tensor, z: Tensor, residual: Tensor, inner: Tensor, lam: float, nonnegative: bool) -> Tensor:
    """The gap, from what an iteration has at hand: the residual y − Wz and its inner products with the atoms."""
    tiny = torch.finfo(y.dtype).tiny
    square = residual.square().sum(-1)
    allowed = lam / (2 * (inner if nonnegative else inner.abs()).amax(-1).clamp_min(tiny))
    free = (residual * y).sum(-1) / square.clamp_min(tiny)
    # Of a nonnegative code only s ≥ 0 is surely allowed: Wᵀr may be far below 0.
    scale = torch.minimum(torch.maximum(free, torch.zeros_like(free) if nonnegative else -allowed), allowed)
    dual = scale * (2 * (residual * y).sum(-1) - scale * square)
    return square + lam * z.abs().sum(-1) - dual


@torch.no_grad()
def _iterate(
    y: Tensor,
    W: Tensor,
    lam: float,
    steps: int,
    tol: float,
    start: Tensor | None,
    step_size: float | None,
    nonnegative: bool,
    keep_path: bool,
    accelerated: bool,
    restart: bool,
) -> Codes:
    require_dictionary(y, W)
    require_positive("lam", lam)
    require_count("steps", steps, minimum=0)
    if not 0 <= tol < math.inf:
        raise ValueError(f"tol must be a finite number of at least 0, got {tol}")
    eta = max_step_size(W) if step_size is None else require_positive("step_size", step_size)
    if start is None:
        z = y.new_zeros(*y.shape[:-1], W.shape[1])
    else:
        require_codes("start", start, W)
        z = start.broadcast_to(*torch.broadcast_shapes(y.shape[:-1], start.shape[:-1]), W.shape[1])
        if nonnegative:
            z = z.clamp_min(0)

    def energy(z: Tensor, decoded: Tensor) -> Tensor:
        return (y - decoded).square().sum(-1) + lam * z.abs().sum(-1)

    scale = y.square().sum(-1)
    decoded = z @ W.mT
    energies, path = [energy(z, decoded)], [z]
    ahead, decoded_ahead = z, decoded  # v and Wv: Wv follows from two Wz, so that each energy comes for free
    t = z.new_ones(*z.shape[:-1], 1)
    for step in range(1, steps + 1):
        new = soft_threshold(ahead - 2 * eta * ((decoded_ahead - y) @ W), lam * eta, nonnegative=nonnegative)
        decoded_new = new @ W.mT
        if accelerated:
            if restart:
                uphill = ((ahead - new) * (new - z)).sum(-1, keepdim=True) > 0
                t = torch.where(uphill, 1.0, t)
            t_next = (1 + (1 + 4 * t * t).sqrt()) / 2
            momentum = (t - 1) / t_next
            ahead = new + momentum * (new - z)
            decoded_ahead = decoded_new + momentum * (decoded_new - decoded)
            t = t_next
        else:
            ahead, decoded_ahead = new, decoded_new
        z, decoded = new, decoded_new
        energies.append(energy(z, decoded))
        if keep_path:
            path.append(z)
        if tol and step % CHECK_EVERY == 0 and has_values(z):
            residual = y - decoded
            if (_gap(y, z, residual, residual @ W, lam, nonnegative) <= tol * scale).all():
                break
    record = torch.stack(energies)
    require_finite("energy", record)
    return Codes(z, record, torch.stack(path) if keep_path else None, len(energies) - 1)
