r"""Lateral inhibition: units that forbid each other to be on together.

.. math:: E(y, z) = \lVert y - W z \rVert^2 + \lambda \lVert z \rVert_1 + \sum_{i, j} |z_i|\,S_{ij}\,|z_j|, \qquad
    S = S^\top \ge 0, \quad S_{ii} = 0

Which units may go together is structure that S gives to the code: with S between all units of a group, one unit of each
group is on; with S between units far apart on a sheet, activity gathers in one place.
"""

import torch
from torch import Tensor

from ebm_lib.latent.sparse._require import require_codes, require_dictionary
from ebm_lib.latent.sparse.codes import max_step_size
from ebm_lib.latent.sparse.decoder import LinearDecoder
from ebm_lib.latent.sparse.shrinkage import soft_threshold
from ebm_lib.require import has_values, require_count, require_finite, require_positive


def competition(
    K: int, size: int, strength: float, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Tensor:
    r"""Inhibition between the members of each group of neighbours: units 0 to n − 1, n to 2n − 1, and so on.

    .. math:: S_{ij} = \gamma\,[\,i \ne j,\; \lfloor i / n \rfloor = \lfloor j / n \rfloor\,]

    Args:
        K: number of units.
        size: n, which must divide K. With n = K every unit inhibits every other.
        strength: γ > 0; of the order of an atom's squared norm for one winner in each group.
        dtype: of the result; torch's default if None.
        device: of the result.

    Returns:
        S, (K, K).

    Raises:
        ValueError: a size that does not divide K, a strength that is not positive.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Regularized Latent Variable EBM"
    (maximize lateral inhibition / competition).

    >>> competition(4, 2, 3.0)
    tensor([[0., 3., 0., 0.],
            [3., 0., 0., 0.],
            [0., 0., 0., 3.],
            [0., 0., 3., 0.]])
    """
    require_count("K", K)
    require_positive("strength", strength)
    if K % require_count("size", size):
        raise ValueError(f"size must divide K = {K}, got {size}")
    block = torch.ones(size, size, dtype=dtype, device=device) - torch.eye(size, dtype=dtype, device=device)
    return torch.block_diag(*[strength * block] * (K // size))


def inhibition_price(z: Tensor, S: Tensor) -> Tensor:
    r"""Price of units that are on together.

    .. math:: R_S(z) = \sum_{i, j} |z_i|\,S_{ij}\,|z_j|

    Each pair is counted twice, as i, j and as j, i.

    Args:
        z: (..., K).
        S: (K, K), symmetric, ≥ 0, with a diagonal of 0.

    Returns:
        (...), ≥ 0.

    Raises:
        ValueError: S not such a matrix, z of another size or not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Regularized Latent Variable EBM";
    Szlam, Gregor and LeCun, Structured Sparse Coding via Lateral Inhibition (NIPS 2011).

    >>> inhibition_price(torch.tensor([[1.0, -2.0], [3.0, 0.0]]), competition(2, 2, 1.0))
    tensor([4., 0.])
    """
    require_inhibition(S)
    require_codes("z", z, S)
    size = z.abs()
    return ((size @ S) * size).sum(-1)


@torch.no_grad()
def inhibited_codes(
    y: Tensor, W: Tensor, lam: float, S: Tensor, *, steps: int = 200, start: Tensor | None = None
) -> Tensor:
    r"""Codes of low energy under lateral inhibition: ISTA whose thresholds rise with what the other units do.

    .. math::

        z_i \leftarrow \operatorname{Shrink}_{\eta (\lambda + 2 (S |z|)_i)}\big[z - 2 \eta\, W^\top (W z - y)\big]_i,
        \qquad \frac1\eta = 2 \big(\lVert W \rVert_2^2 + \rho(S)\big)

    with ρ the largest eigenvalue. At this step what is left out when :math:`R_S` is replaced by its tangent in the
    magnitudes of z is less than the room that η leaves, so the energy never rises. It is not convex: it has one minimum
    for each set of winners, and which is found depends on the start.

    Args:
        y: (..., D).
        W: decoder, (D, K), without zero columns.
        lam: λ > 0.
        S: (K, K), symmetric, ≥ 0, with a diagonal of 0.
        steps: iterations.
        start: (..., K); 0 if None, from where the units that fit best get ahead.

    Returns:
        z, (..., K), without gradient.

    Raises:
        ValueError: shapes that do not fit, values not finite, λ not positive, S not such a matrix.

    Source: Szlam, Gregor and LeCun, Structured Sparse Coding via Lateral Inhibition (NIPS 2011).

    >>> inhibited_codes(torch.tensor([3.0, 2.0]), torch.eye(2), 0.2, competition(2, 2, 4.0))
    tensor([2.9000, 0.0000])
    """
    require_dictionary(y, W)
    require_positive("lam", lam)
    require_count("steps", steps)
    require_inhibition(S)
    require_codes("S", S, W)
    eta = max_step_size(W)
    if has_values(S):
        eta = 1 / (1 / eta + 2 * torch.linalg.eigvalsh(S)[-1].item())
    if start is None:
        z = y.new_zeros(*y.shape[:-1], W.shape[1])
    else:
        require_codes("start", start, W)
        z = start
    for _ in range(steps):
        threshold = eta * (lam + 2 * z.abs() @ S)
        z = soft_threshold(z - 2 * eta * ((z @ W.mT - y) @ W), threshold)
    return z


def require_inhibition(S: Tensor) -> Tensor:
    """Return ``S`` if it can be a matrix of lateral inhibition.

    Raises:
        ValueError: not square, not finite, not symmetric, a negative entry (excitation), a diagonal that is not 0.
    """
    if S.ndim != 2 or S.shape[0] != S.shape[1]:
        raise ValueError(f"S must be a square matrix (K, K), got shape {tuple(S.shape)}")
    require_finite("S", S)
    if has_values(S):
        if not torch.equal(S, S.mT):
            raise ValueError("S must be symmetric")
        if (S < 0).any() or (S.diagonal() != 0).any():
            raise ValueError("S must be at least 0 everywhere, and 0 on its diagonal")
    return S


class InhibitedSparseCoding(LinearDecoder):
    r"""Sparse coding with lateral inhibition.

    .. math::

        E(y, z) = \lVert y - W z \rVert^2 + \lambda \lVert z \rVert_1 + \sum_{i,j} |z_i|\,S_{ij}\,|z_j|, \qquad
        \lVert W_k \rVert = 1

    As S → ∞ between all units, one unit is on: K-means whose prototypes are lines through 0.

    Args:
        D: size of y.
        S: inhibition, (K, K), symmetric, ≥ 0, with a diagonal of 0: it says how many units there are.
        lam: λ > 0, in units of y.
        generator: where the first atoms come from, uniform in direction.
        device: where the parameters live.
        dtype: their dtype; that of S if None.

    Attributes:
        W: the dictionary, (D, K), a parameter.
        S: the inhibition, a buffer.

    Raises:
        ValueError: bad sizes, S or λ; in every method, another last dimension or values that are not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Regularized Latent Variable EBM";
    Szlam, Gregor and LeCun (NIPS 2011).

    >>> model = InhibitedSparseCoding(2, competition(4, 4, 10.0), lam=0.1, generator=torch.Generator().manual_seed(0))
    >>> (model.infer(torch.randn(50, 2, generator=torch.Generator().manual_seed(1))) != 0).sum(-1).max()
    tensor(1)
    """

    def __init__(
        self,
        D: int,
        S: Tensor,
        *,
        lam: float,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        S = require_inhibition(S).to(device=device, dtype=dtype)
        super().__init__(D, len(S), lam=lam, generator=generator, device=S.device, dtype=S.dtype)
        self.register_buffer("S", S)

    def price(self, z: Tensor) -> Tensor:
        r"""Return :math:`\lambda \lVert z \rVert_1 + |z|^\top S |z|`; (..., K) gives (...)."""
        return self.lam * z.abs().sum(-1) + inhibition_price(z, self.S)

    def infer(self, y: Tensor, *, steps: int = 200, start: Tensor | None = None) -> Tensor:
        """ž near argmin_z E(y, z), (..., K), by :func:`inhibited_codes`; no gradient flows through."""
        return inhibited_codes(y, self.W.detach(), self.lam, self.S, steps=steps, start=start)
