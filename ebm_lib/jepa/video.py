r"""JEPA on films: predict the representations of later frames from those of earlier ones.

.. math::

    E_k(x, y) = \frac1D \big\lVert \text{Pred}(\text{Enc}(x_1), \dots, \text{Enc}(x_T))_k - \text{Enc}(y_k)
    \big\rVert^2

Every frame is encoded by itself; what moves is known to the predictor alone. Time can teach the encoder, too: slow,
linear, straight (:func:`ebm_lib.joint.temporal`).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ebm_lib.jepa.information import Information
from ebm_lib.jepa.model import JEPA
from ebm_lib.jepa.predictor import Predictor
from ebm_lib.joint import temporal
from ebm_lib.joint._require import require_weight
from ebm_lib.require import require_count, require_points


class VideoTerms(NamedTuple):
    """A video JEPA's criterion and what it is the sum of, each with its weight.

    Attributes:
        loss: the sum.
        prediction: mean energy of films and frames.
        information_x: what the representations of earlier frames pay for carrying little information.
        information_y: what those of later frames pay.
        slowness: what long steps of a film's path cost.
        linearity: what changes from step to step cost.
        curvature: what turning costs.
    """

    loss: Tensor
    prediction: Tensor
    information_x: Tensor
    information_y: Tensor
    slowness: Tensor
    linearity: Tensor
    curvature: Tensor


class FramePredictor(nn.Module):
    """A perceptron from the representations of some frames to those of others, all at once.

    Args:
        past: T, frames that are known.
        future: T', frames to predict.
        D: dimensions of a representation.
        hidden: widths of the hidden layers.
        generator: where the weights come from.

    Raises:
        ValueError: sizes below 1; when called, representations of another shape.

    >>> FramePredictor(3, 2, 4)(torch.zeros(5, 3, 4)).shape
    torch.Size([5, 2, 4])
    """

    def __init__(
        self,
        past: int,
        future: int,
        D: int,
        *,
        hidden: tuple[int, ...] = (128,),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.past, self.future, self.D = require_count("past", past), require_count("future", future), D
        self.net = Predictor(past * require_count("D", D), out=future * D, hidden=hidden, generator=generator)

    def forward(self, s_x: Tensor) -> Tensor:
        """(..., T', D) for (..., T, D)."""
        if s_x.shape[-2:] != (self.past, self.D):
            raise ValueError(f"s_x must be (..., {self.past}, {self.D}), got shape {tuple(s_x.shape)}")
        return self.net(s_x.flatten(-2)).unflatten(-1, (self.future, self.D))


class VideoJEPA(JEPA):
    r"""A JEPA of films, with temporal regularisers of the paths that films take in representation space.

    .. math::

        \mathcal L = \lambda \langle E \rangle + I_x(S_x) + I_y(S_y)
        + \lambda_s \langle \lVert \Delta_t \rVert^2 \rangle
        + \lambda_l \langle \lVert \Delta_t - \Delta_{t-1} \rVert^2 \rangle
        + \lambda_c \langle 1 - \cos(\Delta_t, \Delta_{t-1}) \rangle, \qquad \Delta_t = s_{t+1} - s_t

    over D: the first two are divided by the dimensions, as the energy is.

    Args:
        encoder: frames (N, ...) to representations (N, D): one frame at a time.
        predictor: (N, T, D) to (N, T', D), such as a :class:`FramePredictor`.
        target: as :class:`JEPA`.
        information_x: I_x, of all earlier frames of all films.
        information_y: I_y, of all later ones.
        prediction: λ ≥ 0; 0 leaves time to the regularisers alone.
        stop_gradient: as :class:`JEPA`.
        slowness: λ_s ≥ 0.
        linearity: λ_l ≥ 0.
        curvature: λ_c ≥ 0.

    Raises:
        ValueError: as :class:`JEPA`, a negative weight.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Training a JEPA (non
        contrastively)"; Bardes and others, Revisiting Feature Prediction for Learning Visual Representations from Video
        (2024), whose V-JEPA hides blocks of space and time; Goroshin, Mathieu and LeCun, Learning to Linearize Under
        Uncertainty (NIPS 2015), for the regularisers.

    >>> from ebm_lib.nn import MLP
    >>> g = torch.Generator().manual_seed(0)
    >>> encoder = nn.Sequential(nn.Flatten(), MLP((16, 4), generator=g))
    >>> model = VideoJEPA(encoder, FramePredictor(3, 2, 4, generator=g), slowness=1.0)
    >>> x, y = split_film(3)(torch.rand(6, 5, 4, 4, generator=g))
    >>> model.energy(x, y).shape, model.criterion(x, y)._fields[4:]
    (torch.Size([6, 2]), ('slowness', 'linearity', 'curvature'))
    """

    def __init__(
        self,
        encoder: nn.Module,
        predictor: nn.Module,
        *,
        target: nn.Module | None = None,
        information_x: Information | None = None,
        information_y: Information | None = None,
        prediction: float = 1.0,
        stop_gradient: bool = False,
        slowness: float = 0.0,
        linearity: float = 0.0,
        curvature: float = 0.0,
    ) -> None:
        super().__init__(
            encoder, predictor, target=target, information_x=information_x, information_y=information_y,
            prediction=prediction, stop_gradient=stop_gradient,
        )  # fmt: skip
        self.temporal = {"slowness": slowness, "linearity": linearity, "curvature": curvature}
        for name, weight in self.temporal.items():
            require_weight(name, weight)

    def represent(self, x: Tensor) -> Tensor:
        """The path of a film, (N, T, D), for frames (N, T, ...)."""
        return require_points("s_x", _each(self.encoder, x))

    def represent_target(self, y: Tensor) -> Tensor:
        """That of later frames, (N, T', D)."""
        return require_points("s_y", _each(self.encoder if self.target is None else self.target, y))

    def criterion(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> VideoTerms:
        """The terms for earlier frames x, (N, T, ...), and later ones y, (N, T', ...), of the same films."""
        s_x, s_y = self.represent(x), self.represent_target(y)
        four, zero = self.terms(s_x, s_y, generator), s_x.new_zeros(())
        if not any(self.temporal.values()):
            return VideoTerms(*four[:4], zero, zero, zero)
        own = s_y if self.target is None else self.represent(y)  # time teaches the encoder, whoever sets the target
        weights = {name: w / (1 if name == "curvature" else own.shape[-1]) for name, w in self.temporal.items()}
        paths = temporal(torch.cat([s_x, own], -2), **weights)
        return VideoTerms(four.loss + paths.loss, *four[1:4], *paths[1:])


def split_film(past: int) -> Callable[..., tuple[Tensor, Tensor]]:
    """Make views for :func:`ebm_lib.joint.learn`: the first ``past`` frames as x, the others as y.

    Args:
        past: T ≥ 1.

    Returns:
        A function of (films, generator), films (N, T + T', ...), that returns (x, y).

    Raises:
        ValueError: when called, films without a frame after the first ``past``.

    >>> [v.shape[1] for v in split_film(2)(torch.zeros(4, 5, 8, 8))]
    [2, 3]
    """
    require_count("past", past)

    def views(films: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        if films.ndim < 3 or films.shape[1] <= past:
            raise ValueError(f"films must be (N, T, ...) with T > {past} frames, got shape {tuple(films.shape)}")
        return films[:, :past], films[:, past:]

    return views


def _each(encoder: nn.Module, frames: Tensor) -> Tensor:
    if frames.ndim < 3 or 0 in frames.shape[:2]:
        raise ValueError(f"frames must be (N, T, ...), got shape {tuple(frames.shape)}")
    return encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
