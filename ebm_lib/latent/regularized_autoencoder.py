r"""Auto-encoders limited by a penalty: contractive, saturating and sparse.

.. math:: \mathcal L = \frac1N \sum_i F(y[i]) + \lambda R(y[i])

The code may have more dimensions than y. R acts while learning only: no latent variable is free, so it has nothing to
change in inference and is no part of the energy.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from ebm_lib.latent.autoencoder import AutoEncoder
from ebm_lib.require import require_choice, require_points, require_positive

# How far an activation is from where the code's curve is flat.
COMPLEMENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "saturated": lambda a: functional.relu(1 - a.abs()),
    "shrink": lambda a: functional.relu(a.abs() - 1),
}


def jacobian_norm(function: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    r"""Squared Frobenius norm of a function's Jacobian, exactly: how much it moves when its argument does.

    .. math:: \Bigl\lVert \frac{\partial f}{\partial y} \Bigr\rVert_F^2 = \sum_{ij}
        \Bigl(\frac{\partial f_i}{\partial y_j}\Bigr)^2

    Args:
        function: (D,) → (K,), applied to each point on its own.
        y: (..., D).

    Returns:
        (...), differentiable in y and in the function's parameters.

    Raises:
        ValueError: y not finite or not floating point.

    Source: Rifai, Vincent, Muller, Glorot and Bengio, Contractive auto-encoders: explicit invariance during feature
    extraction (ICML 2011).

    >>> jacobian_norm(lambda y: 3 * y, torch.ones(4, 2))
    tensor([18., 18., 18., 18.])
    """
    require_points("y", y)
    points = y.reshape(-1, y.shape[-1])
    with torch.no_grad():
        K = torch.func.vmap(function)(points[:1]).shape[-1]
    jacobian = torch.func.jacfwd if y.shape[-1] < K else torch.func.jacrev
    slope = torch.func.vmap(jacobian(function))(points)
    return slope.square().sum((-2, -1)).reshape(y.shape[:-1])


class ContractiveAutoEncoder(AutoEncoder):
    r"""An auto-encoder that learns to move as little as it can when y does.

    .. math:: R(y) = \Bigl\lVert \frac{\partial\,\text{Enc}(y)}{\partial y} \Bigr\rVert_F^2
        \quad\text{or}\quad \Bigl\lVert \frac{\partial\,\text{Dec}(\text{Enc}(y))}{\partial y} \Bigr\rVert_F^2

    Reconstructing the data forbids this along them and nothing forbids it across them: off the data the
    reconstruction stays behind and the energy rises, however large the code.

    Args:
        D: dimensions of y.
        K: dimensions of the code; it may exceed D.
        hidden: as :class:`AutoEncoder`'s; none here.
        lam: λ, the weight of R, > 0.
        of: whose Jacobian: ``"encoder"``, which with free weights a small code and a large decoder evade, or
            ``"reconstruction"``, which they do not.
        code: as :class:`AutoEncoder`'s.
        weights: as :class:`AutoEncoder`'s; tied here.
        options: of :class:`AutoEncoder`.

    Raises:
        ValueError: λ not positive and finite; as :class:`AutoEncoder`.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Regularized
    Auto-Encoders"; Rifai, Vincent, Muller, Glorot and Bengio, Contractive auto-encoders (ICML 2011), for the encoder
    with tied weights; Alain and Bengio, What regularized auto-encoders learn from the data-generating distribution
    (JMLR 15, 2014), for the reconstruction.

    >>> model = ContractiveAutoEncoder(2, 8, lam=0.1)
    >>> model.penalty(torch.zeros(5, 2)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        D: int,
        K: int,
        hidden: Sequence[int] = (),
        *,
        lam: float,
        of: str = "encoder",
        code: str = "sigmoid",
        weights: str = "tied",
        **options: Any,
    ) -> None:
        super().__init__(D, K, hidden, code=code, weights=weights, **options)
        self.lam = require_positive("lam", lam)
        self.of = require_choice("of", of, ("encoder", "reconstruction"))

    def penalty(self, y: Tensor) -> Tensor:
        """Return λR, (...), for y (..., D)."""
        moves = self.encode if self.of == "encoder" else lambda y: self.decode(self.encode(y))
        return self.lam * jacobian_norm(moves, y)


class SaturatingAutoEncoder(AutoEncoder):
    r"""An auto-encoder that learns to keep its code where the code's curve is flat.

    .. math:: R(y) = \sum_k f_c(a_k), \qquad f_c(a) = \min_{a' :\, f'(a') = 0} \lvert a - a' \rvert

    Where a unit is saturated the reconstruction does not change with y, so points near the data are not reconstructed
    unless they are data. With rectified units R is the L1 norm of the code.

    Args:
        D: dimensions of y.
        K: dimensions of the code; it may exceed D.
        hidden: as :class:`AutoEncoder`'s; none here.
        lam: λ, the weight of R, > 0.
        code: f, a curve with a flat part: ``"saturated"``, ``"shrink"`` or ``"relu"``.
        weights: as :class:`AutoEncoder`'s; a decoder with columns of length one here.
        options: of :class:`AutoEncoder`.

    Raises:
        ValueError: λ not positive and finite, a code without a flat part; as :class:`AutoEncoder`.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Regularized
    Auto-Encoders"; Goroshin and LeCun, Saturating auto-encoders (ICLR 2013).

    >>> model = SaturatingAutoEncoder(2, 8, lam=0.1)
    >>> model.penalty(torch.zeros(5, 2)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        D: int,
        K: int,
        hidden: Sequence[int] = (),
        *,
        lam: float,
        code: str = "saturated",
        weights: str = "unit",
        **options: Any,
    ) -> None:
        require_choice("code", code, COMPLEMENTS)
        super().__init__(D, K, hidden, code=code, weights=weights, **options)
        self.lam = require_positive("lam", lam)

    def penalty(self, y: Tensor) -> Tensor:
        """Return λR, (...), for y (..., D)."""
        return self.lam * COMPLEMENTS[self.code](self.activations(y)).sum(-1)


class SparseAutoEncoder(AutoEncoder):
    r"""An auto-encoder that learns to use few units of a large code at a time.

    .. math:: R(y) = \lVert \text{Enc}(y) \rVert_1

    Args:
        D: dimensions of y.
        K: dimensions of the code; it may exceed D.
        hidden: as :class:`AutoEncoder`'s; none here.
        lam: λ, the weight of R, > 0.
        code: as :class:`AutoEncoder`'s; ``"relu"`` makes exact zeros.
        weights: as :class:`AutoEncoder`'s. With ``"free"`` weights L1 is evaded: the code shrinks and the decoder
            grows, at no cost.
        options: of :class:`AutoEncoder`.

    Raises:
        ValueError: λ not positive and finite; as :class:`AutoEncoder`.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Amortized Inference: Learning to
    predict the latent variable", and "Regularized Latent Variable EBM", which asks for decoder normalisation.

    >>> model = SparseAutoEncoder(2, 8, lam=0.1)
    >>> bool((model.encode(torch.zeros(5, 2)) >= 0).all())
    True
    """

    def __init__(
        self,
        D: int,
        K: int,
        hidden: Sequence[int] = (),
        *,
        lam: float,
        code: str = "relu",
        weights: str = "unit",
        **options: Any,
    ) -> None:
        super().__init__(D, K, hidden, code=code, weights=weights, **options)
        self.lam = require_positive("lam", lam)

    def penalty(self, y: Tensor) -> Tensor:
        """Return λR, (...), for y (..., D)."""
        return self.lam * self.encode(y).abs().sum(-1)
