"""What a predictor's latent variable must offer: a value for a pair, its price, and values for unseen futures."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


class Inferred(NamedTuple):
    """A latent variable found for pairs (x, y), and what is paid for its information.

    Attributes:
        z: (..., L).
        cost: R, (...), at least 0, in units of the energy.
    """

    z: Tensor
    cost: Tensor


@runtime_checkable
class Latent(Protocol):
    r"""A latent variable with a limited capacity: how it is inferred, what it costs, how it is drawn.

    Attributes:
        L: dimensions of z, the last of all values.
    """

    L: int

    def infer(
        self, energy: Callable[[Tensor], Tensor], s_x: Tensor, s_y: Tensor, generator: torch.Generator | None = None
    ) -> Inferred:
        """Find z for pairs.

        Args:
            energy: z ↦ E(x, y, z) of these pairs: (..., L) to (...), where further leading dimensions of z broadcast.
            s_x: representations of x, (..., D).
            s_y: those of y, (..., D').
            generator: for what is drawn.
        """
        ...

    def sample(self, s_x: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n values for each x, (..., n, L), without knowledge of y: every one a possible future."""
        ...
