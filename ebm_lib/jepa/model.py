r"""A joint-embedding predictive architecture: predict the representation of y from that of x, not y itself.

.. math::

    s_x = \text{Enc}_x(x), \qquad s_y = \text{Enc}_y(y), \qquad
    E(x, y, z) = \frac1D \big\lVert \text{Pred}(s_x, z) - s_y \big\rVert^2
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ebm_lib.jepa.information import Information
from ebm_lib.jepa.latent import Inferred, Latent
from ebm_lib.joint import Method, Momentum, momentum_schedule
from ebm_lib.joint._require import require_weight
from ebm_lib.require import require_count, require_points


class JEPATerms(NamedTuple):
    """A JEPA's criterion and the four terms that it is the sum of, each with its weight.

    Attributes:
        loss: the sum.
        prediction: mean energy of the pairs.
        information_x: what the representations of x pay for carrying little information.
        information_y: what those of y pay.
        latent: mean of what z pays for carrying much.
    """

    loss: Tensor
    prediction: Tensor
    information_x: Tensor
    information_y: Tensor
    latent: Tensor


class JEPA(Method):
    r"""A joint-embedding predictive architecture, with any of its parts exchangeable.

    .. math::

        \mathcal L = \lambda \big\langle E(x, y, \check z) \big\rangle + I_x(S_x) + I_y(S_y) + \langle R(\check z)
        \rangle, \qquad \check z = \arg\min_z E(x, y, z) + R(z)

    The information terms, or a target that is stopped or slow, keep it from collapsing; R keeps z from telling the
    predictor all of y. The energy is a mean over the D variables of s_y: where each has variance 1, predicting their
    means scores 1, whatever D.

    Args:
        encoder: x to s_x, (..., D).
        predictor: (s_x) or, with a latent variable, (s_x, z) to ŝ_y.
        target: Enc_y. None shares ``encoder``; a :class:`ebm_lib.joint.Momentum` of it follows it and passes no
            gradient on, not to y either, so that I_y teaches nothing then; any other module is a second network,
            trained beside the first.
        latent: how z is inferred, priced and drawn; None predicts without.
        information_x: I_x; None asks nothing of s_x.
        information_y: I_y.
        prediction: λ ≥ 0. ž is inferred as if it were 1: to limit what z says, scale R.
        stop_gradient: let no gradient of the *prediction* term through to s_y. (I_y still shapes it.)

    Attributes:
        encoder: as given, as all arguments.

    Raises:
        TypeError: a latent without ``infer`` and ``sample``.
        ValueError: in every method, representations that do not fit each other; where something is encoded, values that
            are not finite.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Joint Embedding
        Predictive Architecture (JEPA)" and "Training a JEPA (non contrastively)"; LeCun, A Path Towards Autonomous
        Machine Intelligence (2022), sections 4.4 and 4.5.

    >>> from ebm_lib.jepa import Predictor, variance_covariance
    >>> from ebm_lib.nn import MLP
    >>> g = torch.Generator().manual_seed(0)
    >>> model = JEPA(MLP((6, 4), generator=g), Predictor(4, generator=g), information_x=variance_covariance)
    >>> x, y = torch.rand(2, 8, 6, generator=g)
    >>> model.energy(x, y).shape, model.criterion(x, y)._fields
    (torch.Size([8]), ('loss', 'prediction', 'information_x', 'information_y', 'latent'))
    """

    def __init__(
        self,
        encoder: nn.Module,
        predictor: nn.Module,
        *,
        target: nn.Module | None = None,
        latent: Latent | None = None,
        information_x: Information | None = None,
        information_y: Information | None = None,
        prediction: float = 1.0,
        stop_gradient: bool = False,
    ) -> None:
        super().__init__()
        if latent is not None and not isinstance(latent, Latent):
            raise TypeError(f"latent must offer L, infer and sample, got {type(latent).__name__}")
        self.encoder, self.predictor, self.target, self.latent = encoder, predictor, target, latent
        self.information_x, self.information_y = information_x, information_y
        self.prediction, self.stop_gradient = require_weight("prediction", prediction), stop_gradient

    def represent(self, x: Tensor) -> Tensor:
        """s_x, (..., D)."""
        return require_points("s_x", self.encoder(x))

    def represent_target(self, y: Tensor) -> Tensor:
        """s_y, (..., D'): by the encoder of x, if no other was given."""
        return require_points("s_y", (self.encoder if self.target is None else self.target)(y))

    def compare(self, s_x: Tensor, s_y: Tensor, z: Tensor | None = None) -> Tensor:
        """E of representations, (...): (..., D), (..., D') and z (..., L), whose leading dimensions broadcast."""
        predicted = self.predictor(s_x) if z is None else self.predictor(s_x, z)
        if predicted.shape[-1] != s_y.shape[-1]:
            raise ValueError(
                f"predictor must return (..., {s_y.shape[-1]}), the width of s_y, got {tuple(predicted.shape)}"
            )
        try:
            torch.broadcast_shapes(predicted.shape, s_y.shape)
        except RuntimeError:
            told = f"{tuple(predicted.shape)} and {tuple(s_y.shape)}"
            raise ValueError(f"predictions and s_y must have leading dimensions that broadcast, got {told}") from None
        return (predicted - s_y).square().mean(-1)

    def energy(self, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
        """E(x, y, z), (...): how badly y's representation is predicted from x's, and z if the predictor takes one."""
        if z is not None:
            require_points("z", z)
        return self.compare(self.represent(x), self.represent_target(y), z)

    def infer(self, s_x: Tensor, s_y: Tensor, generator: torch.Generator | None = None) -> Inferred:
        """ž for representations of pairs, and its price, by the latent's own inference."""
        if self.latent is None:
            raise ValueError("this JEPA has no latent variable to infer")
        return self.latent.infer(lambda z: self.compare(s_x, s_y, z), s_x, s_y, generator)

    def free_energy(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""F(x, y) = :math:`\min_z E(x, y, z) + R(z)`, (...), as far as inference finds it."""
        s_x, s_y = self.represent(x), self.represent_target(y)
        if self.latent is None:
            return self.compare(s_x, s_y)
        z, cost = self.infer(s_x, s_y, generator)
        return self.compare(s_x, s_y, z) + cost

    def futures(self, x: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Several predictions of y's representation, (..., n, D'), each with a z of its own."""
        if self.latent is None:
            raise ValueError("this JEPA has no latent variable: it has one prediction for each x")
        s_x = self.represent(x)
        return self.predictor(s_x.unsqueeze(-2), self.latent.sample(s_x, require_count("n", n), generator))

    def criterion(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> JEPATerms:
        """The four terms for pairs, row i of x with row i of y."""
        return self.terms(self.represent(x), self.represent_target(y), generator)

    def terms(
        self, s_x: Tensor, s_y: Tensor, generator: torch.Generator | None = None, *, found: Inferred | None = None
    ) -> JEPATerms:
        """The criterion for representations, with latents ``found`` before or inferred here."""
        if len(s_x) != len(s_y):
            raise ValueError(f"pairs must be as many s_x as s_y, row i with row i, got {len(s_x)} and {len(s_y)}")
        aim = s_y.detach() if self.stop_gradient else s_y
        if found is None and self.latent is not None:
            found = self.infer(s_x, aim, generator)
        z, cost = (None, s_x.new_zeros(())) if found is None else found
        parts = (
            self.prediction * self.compare(s_x, aim, z).mean(),
            _information(self.information_x, s_x, generator),
            _information(self.information_y, s_y, generator),
            cost.mean(),
        )
        return JEPATerms(sum(parts), *parts)

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> JEPATerms:
        """The criterion, as :func:`ebm_lib.joint.learn` calls it: views are x and y."""
        x, y = views
        return self.criterion(x, y, generator)

    def finish_step(self, progress: float) -> None:
        """Move the target network, if it is one that follows the encoder."""
        if isinstance(self.target, Momentum):
            self.target.update(self.encoder, momentum_schedule(progress, self.target.momentum))


def generative(encoder: nn.Module, decoder: nn.Module, *, latent: Latent | None = None) -> JEPA:
    r"""The counterpart that predicts y itself: a JEPA in which y is its own representation.

    .. math:: E(x, y, z) = \frac1{D_y} \big\lVert \text{Dec}(s_x, z) - y \big\rVert^2

    Nothing can collapse, as y is not learned; and nothing of y can be left out.

    Args:
        encoder: x to s_x, (N, D).
        decoder: (s_x) or (s_x, z) to y's values side by side, (N, D_y), such as a :class:`Predictor` with ``out``.
        latent: as :class:`JEPA`.

    Returns:
        A JEPA without information terms, whose target flattens y, (N, ...).

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "EBM Architectures:
    Generative vs Joint Embedding".

    >>> from ebm_lib.jepa import Predictor
    >>> from ebm_lib.nn import MLP
    >>> g = torch.Generator().manual_seed(0)
    >>> model = generative(MLP((6, 4), generator=g), Predictor(4, out=12, generator=g))
    >>> model.energy(torch.zeros(5, 6), torch.zeros(5, 3, 2, 2)).shape
    torch.Size([5])
    """
    return JEPA(encoder, decoder, target=nn.Flatten(), latent=latent)


def _information(term: Information | None, s: Tensor, generator: torch.Generator | None) -> Tensor:
    return s.new_zeros(()) if term is None else term(s.flatten(0, -2), generator=generator)
