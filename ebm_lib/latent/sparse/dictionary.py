"""Sparse coding: the model whose code pays for every unit it uses."""

import torch
from torch import Tensor

from ebm_lib.latent.sparse.decoder import LinearDecoder
from ebm_lib.latent.sparse.lasso import sparse_codes


class SparseCoding(LinearDecoder):
    r"""Sparse coding: a linear decoder whose code pays for every unit it uses.

    .. math::

        E(y, z) = \lVert y - W z \rVert^2 + \lambda \lVert z \rVert_1, \qquad F(y) = \min_z E(y, z)

    F is low near the cones that few atoms span, the more so the nearer to 0; F ≤ ‖y‖² everywhere.

    Args:
        D: size of y.
        K: number of atoms; more than D is what sparsity is for.
        lam: λ > 0, in units of y. An atom is used where it explains more than λ/2 of y.
        normalize: keep the atoms at norm 1. With ``False``, learning makes them longer and longer, until λ costs
            nothing and E is flat.
        nonnegative: z ≥ 0 only.
        generator: where the first atoms come from, uniform in direction.
        device: where the parameters live.
        dtype: their dtype.

    Attributes:
        W: the dictionary, (D, K), a parameter.

    Raises:
        ValueError: bad sizes, λ not positive; in every method, another last dimension or values that are not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Regularized Latent Variable Methods:
    Sparse Coding"; Olshausen and Field, Sparse Coding with an Overcomplete Basis Set: a Strategy Employed by V1?
    (Vision Research 1997).

    >>> model = SparseCoding(2, 3, lam=0.1, generator=torch.Generator().manual_seed(0))
    >>> y = model.W.detach()[:, 1]
    >>> model.infer(y)
    tensor([0.0000, 0.9500, 0.0000])
    >>> model(y).detach()
    tensor(0.0975)
    """

    def __init__(
        self,
        D: int,
        K: int,
        *,
        lam: float,
        normalize: bool = True,
        nonnegative: bool = False,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(D, K, lam=lam, normalize=normalize, generator=generator, device=device, dtype=dtype)
        self.nonnegative = nonnegative

    def price(self, z: Tensor) -> Tensor:
        """λ‖z‖₁, (..., K) gives (...)."""
        return self.lam * z.abs().sum(-1)

    def infer(self, y: Tensor, *, tol: float = 1e-5, start: Tensor | None = None) -> Tensor:
        """ž = argmin_z E(y, z), (..., K), by :func:`ebm_lib.latent.sparse.sparse_codes`; no gradient flows through."""
        return sparse_codes(y, self.W.detach(), self.lam, tol=tol, start=start, nonnegative=self.nonnegative)
