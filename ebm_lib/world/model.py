r"""A world model learned from pictures: a JEPA whose predictor is given the action.

.. math:: s_t = \text{Enc}(x_t), \qquad \hat s_{t+1} = G(\hat s_t, a_t), \quad \hat s_0 = s_0
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ebm_lib.joint import covariance_squares, variance_hinge
from ebm_lib.joint._require import require_weight
from ebm_lib.nn import MLP
from ebm_lib.require import require_count, require_finite, require_points, require_positive
from ebm_lib.world.control import rollout


class WorldTerms(NamedTuple):
    """A world model's criterion and the five terms that it is the sum of, each with its weight.

    Attributes:
        loss: the sum.
        prediction: mean energy of the predicted states.
        variance: what coordinates pay that do not vary.
        covariance: what pairs of them pay that vary together.
        similarity: what successive states pay for being far from each other.
        inverse: mean squared error of the action that is read off two successive states.
    """

    loss: Tensor
    prediction: Tensor
    variance: Tensor
    covariance: Tensor
    similarity: Tensor
    inverse: Tensor


class WorldModel(nn.Module):
    r"""An action-conditioned JEPA: an encoder of what is seen, a model of what actions do to it, and its criterion.

    .. math::

        \mathcal L = \lambda \Big\langle \frac1D \lVert \hat s_t - s_t \rVert^2 \Big\rangle + \mu\, v(S) + \nu\, c(S)
        + \delta \Big\langle \frac1D \lVert s_{t+1} - s_t \rVert^2 \Big\rangle
        + \omega \Big\langle \frac1A \lVert \text{Inv}(s_t, s_{t+1}) - a_t / \rho \rVert^2 \Big\rangle

    v and c are VICReg's variance and covariance terms, over all states of the batch; Inv is a perceptron that is only
    there for this term, which asks states to say what was done. Predicted and encoded states both receive the gradient.

    Args:
        encoder: pictures (..., C, height, width) to states (..., D).
        dynamics: G, (..., D) and (..., A) to (..., D), with leading dimensions that broadcast.
        D: dimensions of a state.
        A: components of an action.
        scale: ρ, the actions' unit.
        generator: where the weights of Inv come from.

    Attributes:
        encoder: as given, as all arguments.
        inverse: Inv.

    Raises:
        ValueError: sizes out of range; in every method, shapes that do not fit each other.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), the
        slide on Mode-2 ("World Model predicts outcome"); Sobal et al., Learning from Reward-Free Offline Data: A Case
        for Planning with Latent Dynamics Models (2025), which has these terms.

    >>> from ebm_lib.world import ContactDynamics, Keypoints
    >>> g = torch.Generator().manual_seed(0)
    >>> model = WorldModel(Keypoints(2, 4, generator=g), ContactDynamics(4, 2, generator=g), 4, 2, generator=g)
    >>> films, actions = torch.rand(8, 5, 2, 28, 28, generator=g), torch.rand(8, 4, 2, generator=g)
    >>> model.criterion(films, actions)._fields
    ('loss', 'prediction', 'variance', 'covariance', 'similarity', 'inverse')
    >>> model(model.represent(films[:, 0]), actions[:, 0]).shape
    torch.Size([8, 4])
    """

    def __init__(
        self,
        encoder: nn.Module,
        dynamics: nn.Module,
        D: int,
        A: int,
        *,
        scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.D, self.A, self.scale = require_count("D", D), require_count("A", A), require_positive("scale", scale)
        self.encoder, self.dynamics = encoder, dynamics
        self.inverse = MLP((2 * D, 64, A), activation="relu", generator=generator)

    def represent(self, x: Tensor) -> Tensor:
        """s, (..., D), of what is seen."""
        s = require_points("s", self.encoder(x))
        if s.shape[-1] != self.D:
            raise ValueError(f"encoder must return (..., {self.D}), got shape {tuple(s.shape)}")
        return s

    def forward(self, s: Tensor, a: Tensor) -> Tensor:
        """The state after action a, (..., D)."""
        return self.dynamics(s, a)

    def criterion(
        self,
        films: Tensor,
        actions: Tensor,
        *,
        prediction: float = 1.0,
        variance: float = 16.0,
        covariance: float = 25.0,
        similarity: float = 2.0,
        inverse: float = 20.0,
    ) -> WorldTerms:
        """What a batch of films costs.

        Args:
            films: (N, T, C, height, width), N ≥ 2 and T ≥ 2.
            actions: what was done between its pictures, (N, T − 1, A).
            prediction: λ ≥ 0.
            variance: μ ≥ 0.
            covariance: ν ≥ 0.
            similarity: δ ≥ 0.
            inverse: ω ≥ 0.

        Returns:
            The terms, scalars.

        Raises:
            ValueError: shapes that do not fit, a weight that is negative, values not finite.
        """
        if films.ndim != 5 or len(films) < 2 or films.shape[1] < 2:
            raise ValueError(f"films must be (N, T, C, height, width), N, T ≥ 2, got shape {tuple(films.shape)}")
        if actions.shape != (len(films), films.shape[1] - 1, self.A):
            expected = (len(films), films.shape[1] - 1, self.A)
            raise ValueError(f"actions must be {expected} for these films, got shape {tuple(actions.shape)}")
        require_finite("actions", actions)
        s = self.represent(films)
        every = s.flatten(0, 1)
        read = self.inverse(torch.cat([s[:, :-1], s[:, 1:]], -1))
        terms = {
            "prediction": (prediction, (rollout(self.dynamics, s[:, 0], actions) - s)[:, 1:].square().mean()),
            "variance": (variance, variance_hinge(every)),
            "covariance": (covariance, covariance_squares(every)),
            "similarity": (similarity, s.diff(dim=1).square().mean()),
            "inverse": (inverse, (read - actions / self.scale).square().mean()),
        }
        parts = [require_weight(name, weight) * term for name, (weight, term) in terms.items()]
        return WorldTerms(sum(parts), *parts)
