r"""Group sparsity: units that share a price, and the maps they form.

.. math:: E(y, z) = \lVert y - W z \rVert^2 + \lambda \sum_p s_p(z), \qquad
    s_p(z) = \sqrt{\varepsilon^2 + \textstyle\sum_k g_{pk} z_k^2}

A pool p pays for being on at all: how many of its units are on matters little. So units that go together in the data
come to share pools, and with pools that overlap on a sheet, neighbours come to be alike. The pooled :math:`s_p` is
what a complex cell computes: it tells that an edge is there, and less which of its shifts.
"""

import math

import torch
from torch import Tensor

from ebm_lib.latent.sparse._require import require_codes, require_dictionary
from ebm_lib.latent.sparse.codes import max_step_size
from ebm_lib.latent.sparse.decoder import LinearDecoder
from ebm_lib.require import has_values, require_count, require_finite, require_positive


def torus_pools(
    rows: int,
    columns: int,
    size: int = 6,
    *,
    stride: int = 1,
    gaussian: bool = False,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Pools of neighbours on a sheet whose edges meet: a torus.

    .. math::

        g_{pk} \propto [\,k \text{ in the block of } n \times n \text{ at } p\,] \quad\text{or}\quad
        e^{-d_{pk}^2 / 2 \sigma^2},\; \sigma = n / \sqrt{12}, \qquad \textstyle\sum_k g_{pk} = 1

    with d the distance on the torus. The Gaussian has the spread of the block.

    Args:
        rows: of the sheet; unit k lies at (k // columns, k % columns).
        columns: of the sheet.
        size: n, the width of a block in units, at most that of the sheet.
        stride: units from one pool to the next; it must divide rows and columns. 1 gives a pool at every unit.
        gaussian: round pools that fade, in place of square ones.
        dtype: of the result; torch's default if None.
        device: of the result.

    Returns:
        g, (P, rows·columns), ≥ 0, every row with sum 1.

    Raises:
        ValueError: a block wider than the sheet, a stride that does not divide it.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Pooling over
    features in a topographic map"; Kavukcuoglu, Ranzato, Fergus and LeCun, Learning Invariant Features through
    Topographic Filter Maps (CVPR 2009).

    >>> torus_pools(2, 3, 2)[0].reshape(2, 3)
    tensor([[0.2500, 0.2500, 0.0000],
            [0.2500, 0.2500, 0.0000]])
    """
    require_count("size", size)
    require_count("stride", stride)
    sides = []
    for name, length in (("rows", rows), ("columns", columns)):
        require_count(name, length)
        if size > length:
            raise ValueError(f"size must be at most the sheet's {rows} × {columns}, got {size}")
        if length % stride:
            raise ValueError(f"stride must divide the sheet's {rows} × {columns}, got {stride}")
        place = torch.arange(length, device=device)
        ahead = (place[None] - place[::stride, None]) % length
        if gaussian:
            near = torch.minimum(ahead, length - ahead).to(dtype or torch.get_default_dtype())
            side = (-(near**2) * 6 / size**2).exp()
        else:
            side = (ahead < size).to(dtype or torch.get_default_dtype())
        sides.append(side / side.sum(1, keepdim=True))
    return torch.kron(*sides)


def disjoint_pools(
    K: int, size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Tensor:
    r"""Pools that do not overlap: units 0 to n − 1, n to 2n − 1, and so on, each with weight 1.

    .. math:: s_p(z) = \sqrt{\textstyle\sum_{k \in p} z_k^2} \quad\text{at } \varepsilon = 0

    Args:
        K: number of units.
        size: n, which must divide K.
        dtype: of the result; torch's default if None.
        device: of the result.

    Returns:
        g, (K/n, K), of zeros and ones.

    Raises:
        ValueError: a size that does not divide K.

    Source: Yuan and Lin, Model Selection and Estimation in Regression with Grouped Variables (JRSS B 2006).

    >>> disjoint_pools(4, 2)
    tensor([[1., 1., 0., 0.],
            [0., 0., 1., 1.]])
    """
    require_count("K", K)
    if K % require_count("size", size):
        raise ValueError(f"size must divide K = {K}, got {size}")
    return torch.eye(K // size, dtype=dtype, device=device).repeat_interleave(size, 1)


def pool_activity(z: Tensor, pools: Tensor, *, smooth: float = 0.0) -> Tensor:
    r"""What the pools see of a code.

    .. math:: s_p(z) = \sqrt{\varepsilon^2 + \textstyle\sum_k g_{pk} z_k^2}

    Args:
        z: (..., K).
        pools: g, (P, K), ≥ 0.
        smooth: ε ≥ 0: with ε > 0 there is a slope everywhere.

    Returns:
        s, (..., P), ≥ ε.

    Raises:
        ValueError: shapes that do not fit, values not finite, negative weights or ε.

    Source: Hyvärinen and Hoyer, A Two-Layer Sparse Coding Model Learns Simple and Complex Cell Receptive Fields and
    Topography from Natural Images (Vision Research 2001).

    >>> pool_activity(torch.tensor([3.0, 4.0, 1.0, 0.0]), disjoint_pools(4, 2))
    tensor([5., 1.])
    """
    require_pools(pools, z.shape[-1] if z.ndim else 0)
    require_finite("z", z)
    if not 0 <= smooth < math.inf:
        raise ValueError(f"smooth must be a finite number of at least 0, got {smooth}")
    return (smooth**2 + z.square() @ pools.mT).sqrt()


@torch.no_grad()
def group_codes(
    y: Tensor,
    W: Tensor,
    lam: float,
    pools: Tensor,
    *,
    smooth: float = 0.05,
    steps: int = 100,
    start: Tensor | None = None,
) -> Tensor:
    r"""Codes of low energy under group sparsity, by reweighted shrinkage with momentum.

    .. math::

        z_k \leftarrow \frac{v_k - 2 \eta\,\big[W^\top (W v - y)\big]_k}{1 + \eta \lambda \sum_p g_{pk} / s_p(v)}

    A root lies below each of its tangents in :math:`z^2`, :math:`s_p(z) \le \tfrac12 \big(s_p(v) + s_p(z)^2 /
    s_p(v)\big)`, so without momentum (v = z) each step minimises an upper bound that touches E at z: the energy never
    rises. The momentum of a sample is dropped where it points uphill. E is convex; overlapping pools are no harder than
    others, as nothing has to be projected.

    Args:
        y: (..., D).
        W: decoder, (D, K), without zero columns.
        lam: λ > 0.
        pools: g, (P, K).
        smooth: ε > 0, in units of z.
        steps: iterations.
        start: (..., K); if None, :math:`\eta W^\top y`. (From z = 0 the first steps would be of order ε.)

    Returns:
        z, (..., K), without gradient.

    Raises:
        ValueError: shapes that do not fit, values not finite, λ or ε not positive.

    Source: Kavukcuoglu, Ranzato, Fergus and LeCun, Learning Invariant Features through Topographic Filter Maps (CVPR
    2009), the energy; Daubechies, DeVore, Fornasier and Güntürk, Iteratively Reweighted Least Squares Minimization for
    Sparse Recovery (CPAM 2010), the bound.

    >>> z = group_codes(torch.tensor([3.0, 4.0]), torch.eye(2), 2.0, disjoint_pools(2, 2), smooth=1e-4)
    >>> z  # the group shrinks by λ/2, from norm 5 to norm 4
    tensor([2.4000, 3.2000])
    """
    require_dictionary(y, W)
    require_pools(pools, W.shape[1])
    require_positive("lam", lam)
    require_positive("smooth", smooth)
    require_count("steps", steps)
    eta = max_step_size(W)
    if start is None:
        z = eta * y @ W
    else:
        require_codes("start", start, W)
        z = start
    ahead, t = z, z.new_ones(*z.shape[:-1], 1)
    for _ in range(steps):
        weight = (smooth**2 + ahead.square() @ pools.mT).rsqrt() @ pools
        new = (ahead - 2 * eta * ((ahead @ W.mT - y) @ W)) / (1 + eta * lam * weight)
        move = new - z
        t = torch.where(((ahead - new) * move).sum(-1, keepdim=True) > 0, 1.0, t)
        t_next = (1 + (1 + 4 * t * t).sqrt()) / 2
        ahead = new + (t - 1) / t_next * move
        z, t = new, t_next
    return z


def require_pools(pools: Tensor, K: int) -> None:
    """Refuse pools that are not (P, K), or not weights, or that leave out a unit.

    Raises:
        ValueError: another shape, values not finite or negative, a unit that no pool holds (its use would be free).
    """
    if pools.ndim != 2 or pools.shape[1] != K or not len(pools):
        raise ValueError(f"pools must be (P, K) with K = {K} units, got shape {tuple(pools.shape)}")
    require_finite("pools", pools)
    if has_values(pools):
        if (pools < 0).any():
            raise ValueError(f"pools must be at least 0 everywhere, the lowest weight is {pools.min().item()}")
        if (pools.sum(0) == 0).any():
            raise ValueError(f"pools must hold every unit: {int((pools.sum(0) == 0).sum())} of {K} are in none")


class GroupSparseCoding(LinearDecoder):
    r"""Sparse coding whose price is per pool of units.

    .. math::

        E(y, z) = \lVert y - W z \rVert^2 + \lambda \sum_p \sqrt{\varepsilon^2 + \textstyle\sum_k g_{pk} z_k^2},
        \qquad \lVert W_k \rVert = 1

    With :func:`torus_pools` it is the lectures' topographic map.

    Args:
        D: size of y.
        pools: g, (P, K): it says how many units there are.
        lam: λ > 0, in units of y.
        smooth: ε > 0, in units of z: pools much below it are off.
        generator: where the first atoms come from, uniform in direction.
        device: where the parameters live.
        dtype: their dtype; that of the pools if None.

    Attributes:
        W: the dictionary, (D, K), a parameter.
        pools: g, a buffer.

    Raises:
        ValueError: bad sizes, pools, λ or ε; in every method, another last dimension or values that are not finite.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "AE with Group
    Sparsity"; Kavukcuoglu, Ranzato, Fergus and LeCun (CVPR 2009).

    >>> model = GroupSparseCoding(9, torus_pools(4, 4, 2), lam=0.5, generator=torch.Generator().manual_seed(0))
    >>> model.infer(torch.ones(5, 9)).shape
    torch.Size([5, 16])
    """

    def __init__(
        self,
        D: int,
        pools: Tensor,
        *,
        lam: float,
        smooth: float = 0.05,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        require_pools(pools, pools.shape[-1] if pools.ndim else 0)
        pools = pools.to(device=device, dtype=dtype)
        super().__init__(D, pools.shape[1], lam=lam, generator=generator, device=pools.device, dtype=pools.dtype)
        self.smooth = require_positive("smooth", smooth)
        self.register_buffer("pools", pools)

    def pool(self, z: Tensor) -> Tensor:
        """The pools' activity s(z), (..., K) gives (..., P): the complex cells."""
        return pool_activity(z, self.pools, smooth=self.smooth)

    def price(self, z: Tensor) -> Tensor:
        """λ Σ_p s_p(z), (..., K) gives (...)."""
        return self.lam * self.pool(z).sum(-1)

    def infer(self, y: Tensor, *, steps: int = 100, start: Tensor | None = None) -> Tensor:
        """ž = argmin_z E(y, z), (..., K), by :func:`group_codes`; no gradient flows through."""
        return group_codes(y, self.W.detach(), self.lam, self.pools, smooth=self.smooth, steps=steps, start=start)

    def extra_repr(self) -> str:
        """Show the sizes and the price."""
        return f"{super().extra_repr()}, {len(self.pools)} pools, smooth={self.smooth}"
