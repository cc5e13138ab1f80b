"""A forward model: where an action, and what nobody chose, take a state."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ebm_lib.require import require_count
from ebm_lib.world._shapes import leading_dimensions
from ebm_lib.world._step import FreeStep

OPEN = 2.0  # added to the gate's logits, so that gates begin mostly open: σ(2) ≈ 0.88


class GatedDynamics(FreeStep):
    r"""A forward model that moves a state as the action would in free space, through a gate that can shut.

    .. math:: G(s, a, z) = s + \sigma\big(g(s, a, z) + 2\big) \odot \big(B a + m(s, a, z)\big)

    One perceptron gives the gate's logits g and the correction m, each (..., D). Without a gate a network that is to
    stop at a wall must answer m = −B a there, exactly, for every action: a surface with an edge. With one it can say
    *no* (g far below zero). That it can does not mean that it learns to: pushed on and on, walls of this model gave way
    like those of a plain perceptron; those of :class:`~ebm_lib.world.ContactDynamics` held, if it was taught by walks
    that keep pushing (``training/forward_models.py``).

    A state may hold what no action changes, a wall say, behind the D coordinates that move: it passes through, so that
    the model is a ``step(s, a)`` for :func:`~ebm_lib.world.rollout` and for planners.

    Args:
        D: coordinates that move.
        A: components of an action.
        L: dimensions of the latent variable z; 0 for none, which makes the model deterministic.
        fixed: coordinates of the state that never change, behind the D.
        hidden: widths of the hidden layers.
        scale: the actions' unit, by which they are divided: about their largest value. States should have a standard
            deviation near 1 without that; what is fixed, too.
        activation: a key of ``ebm_lib.nn.ACTIVATIONS``.
        generator: where the weights come from.

    Raises:
        ValueError: sizes or scale out of range; when called, a state, action or z of another width, leading dimensions
            that do not broadcast, a z missing, or one too many.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Forward Model for Model-Predictive
    Control", for G(s, a, z); the gate is that of Srivastava, Greff and Schmidhuber, Highway Networks (2015), equation
    (3), on a step in place of a layer.

    >>> model = GatedDynamics(2, 2, fixed=1, generator=torch.Generator().manual_seed(0))
    >>> s = torch.tensor([0.3, 0.1, 0.7])  # the last coordinate is fixed
    >>> ahead = model(s, torch.zeros(5, 4, 2))
    >>> ahead.shape, bool((ahead[..., 2] == s[2]).all())
    (torch.Size([5, 4, 3]), True)
    """

    def __init__(
        self,
        D: int,
        A: int,
        L: int = 0,
        *,
        fixed: int = 0,
        hidden: Sequence[int] = (256, 256, 256),
        scale: float = 1.0,
        activation: str = "relu",
        generator: torch.Generator | None = None,
    ) -> None:
        made = {"hidden": hidden, "scale": scale, "activation": activation, "generator": generator}
        more, outputs = require_count("A", A) + require_count("L", L, minimum=0), 2 * require_count("D", D)
        super().__init__(D, A, fixed=fixed, more=more, outputs=outputs, **made)
        self.L = L

    def forward(self, s: Tensor, a: Tensor, z: Tensor | None = None) -> Tensor:
        """The state after action a, (..., D + fixed): s (..., D + fixed), a (..., A), z (..., L) broadcast."""
        s, a, gate, more = self._parts(s, a, z)
        return s + F.pad(gate * (self.free(a) + more), (0, self.fixed))

    def gate(self, s: Tensor, a: Tensor, z: Tensor | None = None) -> Tensor:
        """How far each coordinate's gate is open, from 0 to 1, (..., D)."""
        return self._parts(s, a, z)[2]

    def _parts(self, s: Tensor, a: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        given = {"s": (s, self.D + self.fixed), "a": (a, self.A)}
        if (z is None) != (self.L == 0):
            raise ValueError(f"z must be {f'(..., {self.L})' if self.L else 'left out: this model has none (L = 0)'}")
        if z is not None:
            given["z"] = (z, self.L)
        leading = leading_dimensions(**given)
        s, a, *rest = (tensor.expand(*leading, -1) for tensor, _ in given.values())
        a = a / self.scale
        logits, more = self.mlp(torch.cat([s, a, *rest], -1)).split(self.D, -1)
        return s, a, (logits + OPEN).sigmoid(), more

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"D={self.D}, A={self.A}, L={self.L}, fixed={self.fixed}, scale={self.scale:g}"
