"""Sparse codes of many points at once: block coordinate descent until each is proved to be near its minimum."""

import torch
from torch import Tensor

from ebm_lib.latent.model import blocks
from ebm_lib.latent.sparse._require import require_codes, require_dictionary
from ebm_lib.require import has_values, require_count, require_positive

ATOMS = 32  # a block of the dictionary: within it one atom after the other, between blocks a matrix product
CHECK_EVERY = 3  # sweeps between looks at the duality gap, which costs half a sweep
WORTH_PACKING = 0.2  # share of the points that must be finished before the rest is copied together
SOLVE_AFTER = 24  # sweeps, after which the points that are left, and ill-conditioned, are worth a linear system each


@torch.no_grad()
def sparse_codes(
    y: Tensor,
    W: Tensor,
    lam: float,
    *,
    tol: float = 1e-5,
    start: Tensor | None = None,
    nonnegative: bool = False,
    sweeps: int = 1000,
    block_size: int | None = None,
) -> Tensor:
    r"""Codes of lowest energy, of many points, with a certificate for each.

    .. math::

        \check z = \operatorname{argmin}_z \lVert y - W z \rVert^2 + \lambda \lVert z \rVert_1, \qquad
        z_k \leftarrow \operatorname{Shrink}_{\lambda / 2 \lVert W_k \rVert^2}
        \Big[z_k + \frac{W_k^\top (y - W z)}{\lVert W_k \rVert^2}\Big]

    Exact minimisation over one coordinate after the other, for all points at once; a point is done when its duality gap
    is at most ``tol`` times ‖y‖², and the others go on without it. What a coordinate finds is known to the next one
    through :math:`W^\top W`: through products of matrices between blocks of atoms, so that most of the work is fast.
    The codes of float64 points are found in float32, and finished in float64 if ``tol`` asks for more than float32 can
    prove.

    Args:
        y: (..., D).
        W: decoder, (D, K), without zero columns; they need not have norm 1.
        lam: λ > 0.
        tol: how much lower than E(y, z), in units of ‖y‖², the minimum may be at most, > 0. In float32 a tol below 1e-6
            may not be reached for rounding.
        start: codes to start from, (..., K), such as those of a dictionary that was a little different; 0 if None.
        nonnegative: search z ≥ 0 only.
        sweeps: passes through the atoms at most, in each precision. A point that is not done by then keeps what it has:
            :func:`ebm_lib.latent.sparse.duality_gap` tells.
        block_size: points at once; None takes as many as make a block of 32 MiB.

    Returns:
        ž, (..., K), without gradient.

    Raises:
        ValueError: shapes that do not fit, values not finite, a zero column in W, λ or tol not positive.

    Source: Friedman, Hastie and Tibshirani, Regularization Paths for Generalized Linear Models via Coordinate Descent
    (Journal of Statistical Software 2010); Li and Osher, Coordinate Descent Optimization for l1 Minimization
    with Application to Compressed Sensing (Inverse Problems and Imaging 2009).

    >>> sparse_codes(torch.tensor([[3.0, 0.2], [-1.0, -2.0]]), torch.eye(2), lam=1.0)
    tensor([[ 2.5000,  0.0000],
            [-0.5000, -1.5000]])
    """
    require_dictionary(y, W)
    require_positive("lam", lam)
    require_positive("tol", tol)
    require_count("sweeps", sweeps)
    K = W.shape[1]
    shape = y.shape[:-1]
    if start is not None:
        require_codes("start", start, W)
        shape = torch.broadcast_shapes(shape, start.shape[:-1])
        start = start.broadcast_to(*shape, K).reshape(-1, K)
    points = y.broadcast_to(*shape, y.shape[-1]).reshape(-1, y.shape[-1])
    codes = points.new_zeros(len(points), K)
    if has_values(y):
        for rows in blocks(len(points), K * y.element_size(), block_size):
            begin = None if start is None else start[rows]
            for dtype, goal in _stages(y.dtype, tol):
                problem = _Problem(points[rows].to(dtype), W.to(dtype), lam, nonnegative)
                begin = problem.solve(None if begin is None else begin.to(dtype), goal, sweeps)
            codes[rows] = begin
    return codes.reshape(*shape, K)


def _stages(dtype: torch.dtype, tol: float) -> list[tuple[torch.dtype, float]]:
    """In which precisions to search, and how far in each: float64 only for what float32 cannot prove."""
    if dtype != torch.float64:
        return [(dtype, tol)]
    provable = 32 * torch.finfo(torch.float32).eps
    if tol / 2 >= provable:
        return [(torch.float32, tol / 2)]
    return [(torch.float32, provable), (torch.float64, tol)]


class _Problem:
    """A block of points, in coordinates in which every atom has norm 1; a code is a column here."""

    def __init__(self, y: Tensor, W: Tensor, lam: float, nonnegative: bool) -> None:
        self.norm = torch.linalg.vector_norm(W, dim=0)[:, None]
        atoms = W / self.norm.T
        self.gram = atoms.T @ atoms
        self.threshold = lam / (2 * self.norm)
        self.nonnegative = nonnegative
        self.inner = atoms.T @ y.T  # Wᵀy, (K, B)
        self.square = y.square().sum(-1)

    def solve(self, start: Tensor | None, tol: float, sweeps: int) -> Tensor:
        """Sweep until every point is done: (B, K)."""
        z = torch.zeros_like(self.inner) if start is None else start.T * self.norm
        if self.nonnegative:
            z = z.clamp_min(0)
        done_codes, left = torch.zeros_like(z), torch.arange(z.shape[1], device=z.device)
        if start is not None:
            z, left = self._pack(z, left, done_codes, tol, 0.0)
        for sweep in range(1, sweeps + 1):
            if not len(left):
                break
            self._sweep(z)
            if sweep % CHECK_EVERY == 0:
                z, left = self._pack(z, left, done_codes, tol, WORTH_PACKING)
                if sweep >= SOLVE_AFTER and len(left):
                    z = self._solve_signs(z)
        done_codes[:, left] = z
        return (done_codes / self.norm).T

    def _sweep(self, z: Tensor) -> None:
        limits = self.threshold[:, 0].tolist()
        for first in range(0, len(z), ATOMS):
            block = slice(first, first + ATOMS)
            own = self.gram[block, block]
            force = torch.addmm(self.inner[block], self.gram[block], z, alpha=-1)
            for k, (zk, pull, limit) in enumerate(zip(z[block], force, limits[block], strict=True)):
                reach = zk + pull
                new = (reach - limit).clamp_min_(0) if self.nonnegative else reach - reach.clamp(-limit, limit)
                move = zk - new
                zk.copy_(new)
                if k + 1 < len(force):
                    force[k + 1 :].addr_(own[k + 1 :, k], move)

    def _solve_signs(self, z: Tensor) -> Tensor:
        """Go towards the minimum over the units that are on, their signs given: all the way, or to where one turns off.

        Of the places on the way where a unit reaches 0, the one of lowest energy is taken.
        """
        force = torch.addmm(self.inner, self.gram, z, alpha=-1).T
        codes = z.T.contiguous()
        count = (codes != 0).sum(1)
        order = count.argsort()
        for rows in blocks(len(order), 4 * int(count.max()) ** 2 * z.element_size()):
            chosen = order[rows]
            size = int(count[chosen[-1]])  # the largest, as they are sorted
            if size == 0:
                continue
            units = (codes[chosen] != 0).to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :size]
            on = (torch.arange(size, device=z.device) < count[chosen, None]).to(z.dtype)
            gram = self.gram[units[:, :, None], units[:, None, :]] * on[:, :, None] * on[:, None, :]
            now, limit = codes[chosen].gather(1, units), self.threshold[:, 0][units] * on
            # Off units get a row of the identity; a little of it for all keeps dependent atoms from an endless step.
            ridge = 16 * size * torch.finfo(z.dtype).eps
            factor, _ = torch.linalg.cholesky_ex(gram + torch.diag_embed(1 - on + ridge))
            slope = force[chosen].gather(1, units) * on - limit * now.sign()
            move = torch.cholesky_solve(slope.unsqueeze(-1), factor).squeeze(-1)
            crosses = now * (now + move) < 0
            stop = torch.where(crosses, -now / torch.where(crosses, move, 1.0), 1.0)
            if self.nonnegative:
                best = stop.amin(1, keepdim=True)
            else:
                norm = (limit[:, None] * (now[:, None] + stop[:, :, None] * move[:, None]).abs()).sum(2)
                pull = (force[chosen].gather(1, units) * move).sum(1, keepdim=True)
                curve = ((gram @ move.unsqueeze(-1)).squeeze(-1) * move).sum(1, keepdim=True)
                best = stop.gather(1, (norm - stop * pull + stop**2 * curve / 2).argmin(1, keepdim=True))
            after = torch.where(crosses & (stop == best), 0.0, now + best * move)
            codes[chosen] = codes[chosen].scatter(1, units, after * on)
        return codes.T.contiguous()

    def _pack(self, z: Tensor, left: Tensor, done_codes: Tensor, tol: float, worth: float) -> tuple[Tensor, Tensor]:
        """Put away the points that are done, if they are enough to be worth copying the others together."""
        force = torch.addmm(self.inner, self.gram, z, alpha=-1)
        tiny = torch.finfo(z.dtype).tiny
        along = self.square - (self.inner * z).sum(0)  # rᵀy
        square = (along - (force * z).sum(0)).clamp_min(0)  # ‖r‖²
        strength = force if self.nonnegative else force.abs()
        allowed = (self.threshold / strength.clamp_min(tiny)).amin(0)
        scale = torch.minimum(along.clamp_min(0) / square.clamp_min(tiny), allowed)
        gap = square + 2 * (self.threshold * z.abs()).sum(0) - scale * (2 * along - scale * square)
        done = gap <= tol * self.square
        if not done.all() and done.double().mean() < worth:
            return z, left
        done_codes[:, left[done]] = z[:, done]
        keep = ~done
        self.inner, self.square = self.inner[:, keep], self.square[keep]
        return z[:, keep], left[keep]
