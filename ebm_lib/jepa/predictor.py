"""The network between two representations: any perceptron, or one that a latent variable can only push so far."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ebm_lib.nn import MLP
from ebm_lib.require import require_count


class Predictor(nn.Module):
    """A perceptron from a representation, and a latent variable if there is one, to the representation of y.

    Args:
        D: dimensions of s_x.
        L: dimensions of z; 0 for none.
        out: dimensions of s_y; D if None.
        hidden: widths of the hidden layers; with none the predictor is linear.
        residual: add s_x to the result: what does not change need not be learned. Needs ``out`` equal to D.
        activation: a key of ``ebm_lib.nn.ACTIVATIONS``.
        generator: where the weights come from.

    Raises:
        ValueError: sizes out of range, a residual predictor of another width; when called, an s_x or z of another
            width, leading dimensions that do not broadcast, a z missing, or one too many.

    >>> g = torch.Generator().manual_seed(0)
    >>> Predictor(4, 2, generator=g)(torch.zeros(5, 1, 4), torch.zeros(3, 2)).shape
    torch.Size([5, 3, 4])
    """

    def __init__(
        self,
        D: int,
        L: int = 0,
        *,
        out: int | None = None,
        hidden: Sequence[int] = (128,),
        residual: bool = False,
        activation: str = "silu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.D, self.L, self.residual = require_count("D", D), require_count("L", L, minimum=0), residual
        self.out = D if out is None else require_count("out", out)
        for position, width in enumerate(hidden):
            require_count(f"hidden[{position}]", width)
        if residual and self.out != D:
            raise ValueError(f"a residual predictor must have out equal to D = {D}, got {out}")
        self.mlp = MLP((D + L, *hidden, self.out), activation=activation, generator=generator)

    def forward(self, s_x: Tensor, z: Tensor | None = None) -> Tensor:
        """ŝ_y, (..., out), for s_x (..., D) and z (..., L), whose leading dimensions broadcast."""
        if s_x.shape[-1:] != (self.D,):
            raise ValueError(f"s_x must be (..., {self.D}), got shape {tuple(s_x.shape)}")
        if self.L == 0:
            if z is not None:
                raise ValueError("this predictor has no latent variable (L = 0), got a z")
            moved = self.mlp(s_x)
        else:
            if z is None or z.shape[-1:] != (self.L,):
                got = "none" if z is None else f"shape {tuple(z.shape)}"
                raise ValueError(f"z must be (..., {self.L}), got {got}")
            try:
                leading = torch.broadcast_shapes(s_x.shape[:-1], z.shape[:-1])
            except RuntimeError:
                told = f"{tuple(s_x.shape)} and {tuple(z.shape)}"
                raise ValueError(f"s_x and z must have leading dimensions that broadcast, got shapes {told}") from None
            moved = self.mlp(torch.cat([s_x.expand(*leading, -1), z.expand(*leading, -1)], -1))
        return s_x + moved if self.residual else moved


class Dictionary(nn.Module):
    r"""A predictor that adds to its guess a few directions of fixed length, which depend on x: linear in z.

    .. math::

        \text{Pred}(s_x, z) = g(s_x) + A(s_x)\, z, \qquad \lVert A_l(s_x) \rVert = \sqrt D

    One unit of one :math:`z_l` moves the prediction by an energy of 1, neither more nor less: the columns of A cannot
    grow to make z cheap, as a perceptron's weights can.

    Args:
        D: dimensions of s_x.
        L: dimensions of z.
        out: dimensions of s_y; D if None.
        hidden: widths of the hidden layers of the two perceptrons g and A.
        activation: a key of ``ebm_lib.nn.ACTIVATIONS``.
        generator: where the weights come from.

    Raises:
        ValueError: sizes out of range; when called, s_x or z of another width.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Regularized Latent Variable EBM" ("L1
        norm with decoder normalization").

    >>> predictor = Dictionary(4, 2, generator=torch.Generator().manual_seed(0))
    >>> s_x, z = torch.zeros(5, 1, 4), torch.eye(2)
    >>> (predictor(s_x, z) - predictor(s_x, 0 * z)).square().mean(-1).allclose(torch.ones(5, 2))
    True
    """

    def __init__(
        self,
        D: int,
        L: int,
        *,
        out: int | None = None,
        hidden: Sequence[int] = (64,),
        activation: str = "silu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.D, self.L, self.out = require_count("D", D), require_count("L", L), D if out is None else out
        self.guess = MLP((D, *hidden, self.out), activation=activation, generator=generator)
        self.directions = MLP((D, *hidden, L * self.out), activation=activation, generator=generator)

    def columns(self, s_x: Tensor) -> Tensor:
        """A(s_x), (..., out, L), its columns of length √out."""
        A = self.directions(s_x).unflatten(-1, (self.out, self.L))
        tiny = torch.finfo(A.dtype).tiny ** 0.5
        return math.sqrt(self.out) * A / torch.linalg.vector_norm(A, dim=-2, keepdim=True).clamp(min=tiny)

    def forward(self, s_x: Tensor, z: Tensor) -> Tensor:
        """ŝ_y, (..., out), for s_x (..., D) and z (..., L), whose leading dimensions broadcast."""
        for name, given, width in (("s_x", s_x, self.D), ("z", z, self.L)):
            if given.shape[-1:] != (width,):
                raise ValueError(f"{name} must be (..., {width}), got shape {tuple(given.shape)}")
        return self.guess(s_x) + (self.columns(s_x) @ z.unsqueeze(-1)).squeeze(-1)
