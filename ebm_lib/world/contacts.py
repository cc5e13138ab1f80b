"""A forward model that knows what a contact is: an action is carried out as far as nothing is in its way."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad, relu, softplus

from ebm_lib.require import require_count, require_positive
from ebm_lib.world._shapes import leading_dimensions
from ebm_lib.world._step import FreeStep

NEAREST = 0.01  # the least distance of a plane, in the actions' unit: keeps the ratio finite
FAR = 1.0  # taken off the distances' logits, so that softplus(-1) = 0.31 is where they begin


class ContactDynamics(FreeStep):
    r"""A forward model that moves a state as the action would in free space, as far as K planes around it allow.

    .. math::

        G(s, a) = s + t(s, a)\, \big(B + M(s)\big)\, a, \qquad
        t(s, a) = \Big( 1 + \sum_{k=1}^{K} \Big[ \frac{n_k(s) \cdot a}{c_k(s)} \Big]_+^p \Big)^{-1/p}

    One perceptron gives M (D × A), the normals n_k (A numbers each) and the distances c_k > 0: what is in the way is a
    function of the state alone, and holds for all actions. For large p this is
    :math:`t = \min(1, \min_k c_k / n_k \cdot a)`, the share of a straight step that is made before it meets the first
    plane. p stays small enough for planes that are nearly met to have a slope.

    A state may hold what no action changes, a wall say, behind the D coordinates that move: it passes through.

    Args:
        D: coordinates that move.
        A: components of an action.
        fixed: coordinates of the state that never change, behind the D.
        planes: K.
        sharpness: p.
        hidden: widths of the hidden layers.
        scale: the actions' unit, by which they are divided: about their largest value. States should have a standard
            deviation near 1 without that; what is fixed, too.
        activation: a key of ``ebm_lib.nn.ACTIVATIONS``.
        generator: where the weights come from.

    Raises:
        ValueError: sizes or numbers out of range; when called, a state or action of another width, or leading
            dimensions that do not broadcast.

    Source: ours. (B + M(s)) a is a control-affine system; t is one over a smooth gauge of the polytope of actions that
        are carried out in full, {a : n_k · a ≤ c_k}; gauges: Rockafellar, Convex Analysis (1970), section 15.

    >>> model = ContactDynamics(3, 2, generator=torch.Generator().manual_seed(0))
    >>> s, a = torch.zeros(3), torch.zeros(5, 4, 2)
    >>> model(s, a).shape, bool((model(s, a) == s).all())  # nothing moves by itself
    (torch.Size([5, 4, 3]), True)
    """

    def __init__(
        self,
        D: int,
        A: int,
        *,
        fixed: int = 0,
        planes: int = 6,
        sharpness: float = 6.0,
        hidden: Sequence[int] = (256, 256, 256),
        scale: float = 1.0,
        activation: str = "relu",
        generator: torch.Generator | None = None,
    ) -> None:
        made = {"hidden": hidden, "scale": scale, "activation": activation, "generator": generator}
        outputs = require_count("planes", planes) * (require_count("A", A) + 1) + require_count("D", D) * A
        super().__init__(D, A, fixed=fixed, more=0, outputs=outputs, **made)
        self.planes, self.sharpness = planes, require_positive("sharpness", sharpness)

    def forward(self, s: Tensor, a: Tensor) -> Tensor:
        """The state after action a, (..., D + fixed): s (..., D + fixed) and a (..., A) broadcast."""
        a, normals, distances, more = self._around(s, a)
        moved = self._share(a, normals, distances)[..., None] * (self.free(a) + (more @ a[..., None]).squeeze(-1))
        return s + pad(moved, (0, self.fixed))

    def share(self, s: Tensor, a: Tensor) -> Tensor:
        """t, how much of the action is carried out, (...), from 0 to 1."""
        return self._share(*self._around(s, a)[:3])

    def _share(self, a: Tensor, normals: Tensor, distances: Tensor) -> Tensor:
        met = relu((normals @ a[..., None]).squeeze(-1)) / distances
        most = met.detach().amax(-1, keepdim=True).clamp(min=1)  # out of the root: its power may overflow
        total = most.squeeze(-1).pow(-self.sharpness) + (met / most).pow(self.sharpness).sum(-1)
        return total.pow(-1 / self.sharpness) / most.squeeze(-1)

    def _around(self, s: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        leading_dimensions(s=(s, self.D + self.fixed), a=(a, self.A))
        K, A = self.planes, self.A
        normals, distances, more = self.mlp(s).split([K * A, K, self.D * A], -1)
        return (
            a / self.scale,
            normals.unflatten(-1, (K, A)),
            softplus(distances - FAR) + NEAREST,
            more.unflatten(-1, (self.D, A)),
        )

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"D={self.D}, A={self.A}, fixed={self.fixed}, planes={self.planes}, scale={self.scale:g}"
