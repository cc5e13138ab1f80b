r"""Linear auto-encoders: PCA with an encoder in place of inference, tied or untied.

.. math:: F(y) = \lVert y - \mu - W V (y - \mu) \rVert^2
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ebm_lib import train
from ebm_lib.data.draw import kind_of, normal
from ebm_lib.latent.linear import Moments, principal_subspace, require_directions
from ebm_lib.latent.model import Learned, require_data, require_last
from ebm_lib.require import require_count, require_positive


def reconstruction_loss(found: Moments, W: Tensor, V: Tensor) -> Tensor:
    r"""Mean energy of a linear auto-encoder over data, from their moments alone.

    .. math:: \frac1N \sum_i \lVert (I - W V)(y[i] - \mu) \rVert^2 = \operatorname{tr}\,(I - W V)\,C\,(I - W V)^\top

    Its only minima are the principal subspace's; every other set of K eigenvectors is a saddle point, where the loss
    is the sum of the other variances.

    Args:
        found: the data's moments.
        W: the decoder, (D, K).
        V: the encoder, (K, D); ``W.T`` if tied.

    Returns:
        A scalar, differentiable in W and V.

    Raises:
        ValueError: matrices of other shapes.

    Source: Baldi and Hornik, Neural networks and principal component analysis: learning from examples without local
    minima (Neural Networks 2, 1989).

    >>> line = torch.tensor([[1.0], [0.0]])
    >>> reconstruction_loss(Moments(torch.zeros(2), torch.diag(torch.tensor([4.0, 0.5])), 9), line, line.T)
    tensor(0.5000)
    """
    D = len(found.mean)
    if W.ndim != 2 or len(W) != D or V.shape != W.mT.shape:
        raise ValueError(f"W and V must be ({D}, K) and (K, {D}), got shapes {tuple(W.shape)} and {tuple(V.shape)}")
    miss = torch.eye(D, dtype=W.dtype, device=W.device) - W @ V
    return (miss @ found.covariance * miss).sum()


class LinearAutoEncoder(nn.Module):
    r"""PCA as an auto-encoder: the code is computed, not searched for.

    .. math:: F(y) = \lVert y - \mu - W V (y - \mu) \rVert^2, \qquad V = W^\top \text{ if tied}

    The loss depends on W and V through their product. At its minimum this is the projection on the principal
    subspace: W is then known up to a rotation if tied, up to any invertible map A (and V up to its inverse) if not.

    Args:
        D: dimensions of y.
        K: dimensions of the code, at most D.
        tied: use the decoder's transpose as the encoder.
        generator: draws the weights; torch's global generator if None.
        device: where the parameters live.
        dtype: their dtype.

    Attributes:
        mean: μ, (D,), a parameter.
        W: the decoder, (D, K), a parameter.
        V: the encoder, (K, D): a parameter, or the transpose of W.

    Raises:
        ValueError: a size below 1, K above D.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Principal Component Analysis" (whose
    formula wants y after :math:`w^\top w`); Bourlard and Kamp, Auto-association by multilayer perceptrons and singular
    value decomposition (Biological Cybernetics 59, 1988).

    >>> model = LinearAutoEncoder(3, 1, tied=True)
    >>> model(torch.zeros(5, 3)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        D: int,
        K: int,
        *,
        tied: bool = False,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_directions(require_count("K", K), require_count("D", D), D + 1)
        dtype, device = kind_of(None, dtype, device)
        self.W = nn.Parameter(normal((D, K), generator, dtype, device) / math.sqrt(D))
        self.encoder = None if tied else nn.Parameter(normal((K, D), generator, dtype, device) / math.sqrt(D))
        self.mean = nn.Parameter(torch.zeros(D, dtype=dtype, device=device))

    @property
    def V(self) -> Tensor:
        """The encoder, (K, D)."""
        return self.W.mT if self.encoder is None else self.encoder

    def encode(self, y: Tensor) -> Tensor:
        """Return the code z̄, (..., K), of y, (..., D)."""
        return (require_last("y", y, len(self.W)) - self.mean) @ self.V.mT

    def decode(self, z: Tensor) -> Tensor:
        """Return ȳ, (..., D), for a code z, (..., K)."""
        return self.mean + require_last("z", z, self.W.shape[1]) @ self.W.mT

    def energy(self, y: Tensor) -> Tensor:
        """Return F(y), (...), for y (..., D)."""
        return (y - self.decode(self.encode(y))).square().sum(-1)

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """Return F(y), (...), for y (..., D): nothing is minimised or marginalised, so β changes nothing."""
        require_positive("beta", beta, allow_inf=True)
        return self.energy(y)

    forward = free_energy

    def learn(
        self, y: Tensor, *, steps: int | None = None, progress: bool = False, **options: Any
    ) -> Learned | train.History:
        """Minimise the mean energy of the data: in closed form, or by gradient descent to see it get there.

        Args:
            y: (N, D).
            steps: None takes the principal subspace, with orthonormal W and V its transpose; a number makes as many
                gradient steps from the present weights, after which only the product W V is determined.
            progress: show a bar.
            options: of :func:`ebm_lib.train.fit`, such as ``lr``, ``batch_size`` and ``generator``.

        Returns:
            The record of one round, or the history of the steps.

        Raises:
            ValueError: as :func:`principal_subspace`; options without ``steps``.
        """
        require_data(y, len(self.W), minimum=2)
        if steps is not None:
            return train.fit(self, lambda model, y: model(y).mean(), y, steps=steps, progress=progress, **options)
        if options:
            raise ValueError(f"options need steps: the closed form has none, got {', '.join(sorted(options))}")
        found = principal_subspace(y, self.W.shape[1])
        with torch.no_grad():
            self.W.copy_(found.W)
            self.mean.copy_(found.mean)
            if self.encoder is not None:
                self.encoder.copy_(found.W.mT)
        return Learned([found.variance[self.W.shape[1] :].sum().item()], True)
