r"""Hierarchical JEPA: two levels, each a JEPA of its own, the second on top of the first and on a slower clock.

.. math::

    s^1_t = \text{Enc}^1(x_t), \qquad
    s^2_t = \text{Enc}^2\big(s^1_{t - n + 1}, \dots, s^1_t;\; \check z^1_{t - W + 1}, \dots, \check z^1_t\big)

Level 1 predicts the representation of the next frame; its latent holds what could not be known of it. Level 2 reads
states and latents of a stretch of W frames, and predicts what it will read a stretch later.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.jepa.latent import Inferred
from ebm_lib.jepa.model import JEPA, JEPATerms
from ebm_lib.joint import Method
from ebm_lib.require import require_choice, require_count


class Levels(NamedTuple):
    """Something of each level.

    Attributes:
        low: of level 1.
        high: of level 2.
    """

    low: Tensor
    high: Tensor


class Ascent(NamedTuple):
    """What the two levels make of films.

    Attributes:
        low: s¹ of each frame, (N, T, D¹).
        found: ž¹ of the steps that led to frames a, ..., T - 1, (N, T - a, L¹), and their prices; None without latent.
        high: s² of each window, (N, K, D²).
        ends: the frame that each window ends with, (K,) int64.
    """

    low: Tensor
    found: Inferred | None
    high: Tensor
    ends: Tensor


class HJEPATerms(NamedTuple):
    """The criterion of both levels, and what it is the sum of.

    Attributes:
        loss: low + high.
        low: the criterion of level 1, which is the sum of its three terms below.
        high: that of level 2.
        prediction_low: mean energy of level 1.
        prediction_high: mean energy of level 2.
        information_low: what level 1's representations pay for carrying little information.
        information_high: what those of level 2 pay.
        latent_low: what z¹ pays for carrying much.
        latent_high: what z² pays.
    """

    loss: Tensor
    low: Tensor
    high: Tensor
    prediction_low: Tensor
    prediction_high: Tensor
    information_low: Tensor
    information_high: Tensor
    latent_low: Tensor
    latent_high: Tensor


class HJEPA(Method):
    r"""Two JEPAs, one on top of the other: the latents of the first are fed to the second, with its states.

    .. math::

        F(x) = \Big\langle \min_z E^1\big(s^1_{t-a}, s^1_t, z\big) + R^1(z) \Big\rangle_t
        + \Big\langle \min_z E^2\big(s^2_{t-m}, s^2_t, z\big) + R^2(z) \Big\rangle_t

    one function of a film x, and the sum of both levels' means. The windows that level 2 reads end with the frames
    a + W − 1, and every ``stride`` frames later; the first is the earliest all of whose steps have a latent. A window
    is read as one vector: its last ``states`` states in order of time, then, with ``hand_over``, its W latents in order
    of time; :meth:`read` makes it, ``high.encoder`` maps it to s².

    Args:
        low: level 1. Its encoder maps frames (N, ...) to (N, D¹).
        high: level 2. Its encoder maps what is read, (..., width), to (..., D²).
        window: W, frames that level 2 reads at a time.
        step: m, frames that level 2 predicts ahead; ``window`` if None, so that windows do not overlap.
        stride: from one window's end to the next one's, a divisor of ``step``; ``step`` if None.
        ahead: a, frames that level 1 predicts ahead.
        states: n, how many states of a window are read, the last ones; all if None, none if 0.
        hand_over: whether level 1's latents are read, too, if it has any.
        stop_gradient: let no gradient of level 2 reach level 1.
        learned: ``"both"``, or ``"low"`` or ``"high"`` to learn one level at a time: the criterion is then that level's
            alone, and has no gradient for the other. May be set again later.

    Attributes:
        encoder: level 1's.

    Raises:
        ValueError: sizes out of range, a stride that does not divide the step, nothing to read; when called, films that
            are too short.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Hierarchical JEPA:
        Multi-level, multi-timescale Predictions" and "JEPA and H-JEPA"; LeCun, Energy-Based Models, part 1 (NYU Deep
        Learning, spring 2020), "Sequence → Abstract Features"; LeCun, A Path Towards Autonomous Machine Intelligence
        (2022), section 4.6.

    >>> from torch import nn
    >>> from ebm_lib.jepa import Predictor
    >>> from ebm_lib.nn import MLP
    >>> g = torch.Generator().manual_seed(0)
    >>> low = JEPA(nn.Sequential(nn.Flatten(), MLP((16, 3), generator=g)), Predictor(3, generator=g))
    >>> model = HJEPA(low, JEPA(MLP((4 * 3, 2), generator=g), Predictor(2, generator=g)), window=4)
    >>> films = torch.rand(5, 13, 4, 4, generator=g)
    >>> model.ascend(films).ends.tolist(), [e.shape for e in model.energies(films)]
    ([4, 8, 12], [torch.Size([5, 12]), torch.Size([5, 2])])
    """

    def __init__(
        self,
        low: JEPA,
        high: JEPA,
        *,
        window: int,
        step: int | None = None,
        stride: int | None = None,
        ahead: int = 1,
        states: int | None = None,
        hand_over: bool = True,
        stop_gradient: bool = False,
        learned: str = "both",
    ) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.window, self.ahead = require_count("window", window), require_count("ahead", ahead)
        self.step = window if step is None else require_count("step", step)
        self.stride = self.step if stride is None else require_count("stride", stride)
        if self.step % self.stride:
            raise ValueError(f"stride must divide step = {self.step}, got {stride}")
        self.states = window if states is None else require_count("states", states, minimum=0)
        self.hand_over = hand_over and low.latent is not None
        if self.states > window or not (self.states or self.hand_over):
            raise ValueError(f"states must be from {0 if self.hand_over else 1} to window = {window}, got {states}")
        self.stop_gradient, self.learned = stop_gradient, learned
        self._level()

    @property
    def encoder(self) -> torch.nn.Module:
        """Level 1's."""
        return self.low.encoder

    def ends(self, frames: int, *, device: torch.device | str | None = None) -> Tensor:
        """The frames of a film of ``frames`` that windows end with, (K,)."""
        return torch.arange(self.ahead + self.window - 1, frames, self.stride, device=device)

    def read(self, low: Tensor, z: Tensor | None = None) -> Tensor:
        """What level 2 is given of states (N, T, D¹) and latents (N, T - a, L¹), window by window: (N, K, width)."""
        first, parts = self.ahead + self.window, []
        if low.ndim != 3 or low.shape[1] < first:
            raise ValueError(f"states must be (N, T, D) with T ≥ {first} for one window, got shape {tuple(low.shape)}")
        if self.states:
            parts.append(low[:, first - self.states :].unfold(1, self.states, self.stride))
        if self.hand_over:
            if z is None or z.shape[:2] != (len(low), low.shape[1] - self.ahead):
                got = "none" if z is None else f"shape {tuple(z.shape)}"
                raise ValueError(f"z must be (N, T - {self.ahead}, L), as there are states, got {got}")
            parts.append(z.unfold(1, self.window, self.stride))
        return torch.cat([part.transpose(-1, -2).flatten(2) for part in parts], -1)

    def ascend(self, films: Tensor, generator: torch.Generator | None = None) -> Ascent:
        """Representations and inferred latents of films (N, T, ...), level by level."""
        s, x, y = self._low(films)
        found = None if self.low.latent is None else self.low.infer(x, y, generator)
        high = self.high.represent(self.read(s, None if found is None else found.z))
        return Ascent(s, found, high, self.ends(s.shape[1], device=s.device))

    def energies(self, films: Tensor, z: Levels | None = None, generator: torch.Generator | None = None) -> Levels:
        """Energy of each prediction: level 1's (N, T - a), level 2's (N, K - m / stride).

        Args:
            films: (N, T, ...).
            z: latents of both levels, (N, T - a, L¹) and (N, K - m / stride, L²), to compute E at. (Where level 1 has
                latents and level 2 none, the second may be None.) Without, both are inferred, and prices included: F.
            generator: for inference.

        Returns:
            Levels.
        """
        s, x, y = self._low(films)
        low, z_low = _energy(self.low, x, y, None if z is None else z.low, generator)
        s_x, s_y = self._high(s, z_low)
        high, _ = _energy(self.high, s_x, s_y, None if z is None else z.high, generator)
        return Levels(low, high)

    def energy(self, films: Tensor, z: Levels | None = None, generator: torch.Generator | None = None) -> Tensor:
        """The energy of films as a whole, (N,): means over time of both levels, added."""
        return sum(part.mean(1) for part in self.energies(films, z, generator))

    def criterion(self, films: Tensor, generator: torch.Generator | None = None) -> HJEPATerms:
        """Both levels' criteria for films (N, T, ...)."""
        level = self._level()
        with torch.set_grad_enabled(torch.is_grad_enabled() and level != "high"):
            s, x, y = self._low(films)
            aim = y.detach() if self.low.stop_gradient else y
            found = None if self.low.latent is None else self.low.infer(x, aim, generator)
            low = self.low.terms(x, y, generator, found=found)
        if level == "low":
            high = JEPATerms(*[torch.zeros_like(low.loss)] * 5)
        else:
            z = None if found is None else found.z
            if self.stop_gradient:
                s, z = s.detach(), None if z is None else z.detach()
            high = self.high.terms(*self._high(s, z), generator)
        if level == "high":
            low = JEPATerms(*[torch.zeros_like(high.loss)] * 5)
        information = (term.information_x + term.information_y for term in (low, high))
        return HJEPATerms(
            low.loss + high.loss, low.loss, high.loss, low.prediction, high.prediction, *information, low.latent,
            high.latent,
        )  # fmt: skip

    def predict(
        self, level: int, s: Tensor, steps: int, n: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Roll one level out: each prediction is what the next one starts from.

        Args:
            level: 1 or 2.
            s: its representations, (..., D).
            steps: how many, each of a frames at level 1, of m at level 2.
            n: futures, each with latents drawn anew at each step; for a level with a latent only, 1 if None.
            generator: for these draws.

        Returns:
            (..., steps, D); with a latent (..., n, steps, D).

        Raises:
            ValueError: no such level; several futures of a level that has one.
        """
        if level not in (1, 2):
            raise ValueError(f"level must be 1 or 2, got {level}")
        model = self.low if level == 1 else self.high
        if model.latent is None:
            if n is not None:
                raise ValueError(f"level {level} has no latent variable: it has one future for each past, got n={n}")
        else:
            n = require_count("n", 1 if n is None else n)
            s = s.unsqueeze(-2).expand(*s.shape[:-1], n, -1)
        path = []
        for _ in range(require_count("steps", steps)):
            z = () if model.latent is None else (model.latent.sample(s, 1, generator).squeeze(-2),)
            s = model.predictor(s, *z)
            path.append(s)
        return torch.stack(path, -2)

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> HJEPATerms:
        """The criterion, as :func:`ebm_lib.joint.learn` calls it: the one view is the films."""
        (films,) = views
        return self.criterion(films, generator)

    def finish_step(self, progress: float) -> None:
        """Let target networks follow, if there are any that do."""
        for level in (self.low, self.high):
            level.finish_step(progress)

    def _level(self) -> str:
        return require_choice("learned", self.learned, ("both", "low", "high"))

    def _low(self, films: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States, and the pairs of them that level 1 compares."""
        if films.ndim < 3 or films.shape[1] <= self.ahead:
            raise ValueError(f"films must be (N, T, ...) with T > {self.ahead} frames, got shape {tuple(films.shape)}")
        frames, shape = films.flatten(0, 1), films.shape[:2]
        s = self.low.represent(frames).unflatten(0, shape)
        t = s if self.low.target is None else self.low.represent_target(frames).unflatten(0, shape)
        return s, s[:, : -self.ahead], t[:, self.ahead :]

    def _high(self, low: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor]:
        """The pairs of representations that level 2 compares."""
        windows, later = self.read(low, z), self.step // self.stride
        if windows.shape[1] <= later:
            least = self.ahead + self.window + self.step
            raise ValueError(f"films must have at least {least} frames for two windows, got {low.shape[1]}")
        s = self.high.represent(windows)
        t = s if self.high.target is None else self.high.represent_target(windows)
        return s[:, :-later], t[:, later:]


def _energy(
    model: JEPA, s_x: Tensor, s_y: Tensor, z: Tensor | None, generator: torch.Generator | None
) -> tuple[Tensor, Tensor | None]:
    """E at z if it is given, else F, and z."""
    if z is not None or model.latent is None:
        return model.compare(s_x, s_y, z), z
    z, cost = model.infer(s_x, s_y, generator)
    return model.compare(s_x, s_y, z) + cost, z
