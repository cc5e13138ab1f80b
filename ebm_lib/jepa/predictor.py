"""The network between two representations."""

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
