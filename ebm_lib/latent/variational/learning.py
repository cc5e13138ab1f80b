"""What variational models share in learning: the objective with its options, and records of the codes on the way."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ebm_lib.data.draw import normal
from ebm_lib.latent.variational.gaussian import (
    gaussian_kl,
    information_parts,
    log_normal_density,
    reparameterize,
)
from ebm_lib.require import require_count, require_points
from ebm_lib.train import History

Objective = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], dict[str, Tensor]]


class Clock:
    """Counts the steps of a run, and is stored with it, so that a warm-up goes on where it was interrupted."""

    def __init__(self) -> None:
        self.step = 0

    def state_dict(self) -> dict[str, int]:
        """The count."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take the count back."""
        self.step = state["step"]


def information_terms(mean: Tensor, std: Tensor, z: Tensor | None = None) -> Tensor:
    r"""Information of each dimension, in closed form, or :math:`\log q_i(z_i) - \log p_i(z_i)` at draws z.

    Args:
        mean: (..., L).
        std: (..., L), positive.
        z: (..., K, L); None for the closed form.

    Returns:
        (..., L), or (..., K, L), in nats.

    >>> information_terms(torch.ones(2), torch.ones(2), torch.ones(1, 2))
    tensor([[0.5000, 0.5000]])
    """
    if z is None:
        return gaussian_kl(mean, std, per_dimension=True)
    mean, std = mean.unsqueeze(-2), std.unsqueeze(-2)
    return (z.square() - ((z - mean) / std).square()) / 2 - std.log()


def bound_objective(
    beta: float,
    *,
    samples: int = 1,
    importance: bool = False,
    warmup: int = 0,
    free_bits: float = 0.0,
    spring: float = 1.0,
    size: float = 1.0,
    generator: torch.Generator | None = None,
) -> tuple[Objective, Clock]:
    """The loss of a batch of fuzzy codes, with the options of :meth:`VAE.learn`, and the clock of its warm-up.

    Returns:
        ``objective(energy, mean, std)``, which draws z, (B, K, L), evaluates the energy there, (B, K), and returns the
        loss with what is to be recorded; and the clock, to be passed to ``fit`` as ``stateful``.

    Raises:
        ValueError: options out of range, or that contradict each other.

    >>> objective, clock = bound_objective(1.0)
    >>> parts = objective(lambda z: 0 * z.sum(-1), torch.ones(3, 2), torch.ones(3, 2))
    >>> parts["loss"], clock.step
    (tensor(1.), 1)
    """
    require_count("samples", samples)
    require_count("warmup", warmup, minimum=0)
    for name, number in (("free_bits", free_bits), ("spring", spring), ("size", size)):
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} must be a finite number of at least 0, got {number}")
    if importance and (warmup or free_bits or spring != 1 or size != 1):
        raise ValueError(
            "importance weighs energy and information together: it takes no warmup, free_bits, spring or size, "
            f"got warmup={warmup}, free_bits={free_bits}, spring={spring}, size={size}"
        )
    clock = Clock()

    def objective(energy: Callable[[Tensor], Tensor], mean: Tensor, std: Tensor) -> dict[str, Tensor]:
        z = reparameterize(mean, std, samples=samples, generator=generator)
        values = energy(z)
        spring_part, size_part = information_parts(mean, std)
        true = (spring_part + size_part).mean(0)
        if importance:
            log_q = log_normal_density(z, mean.unsqueeze(-2), std.unsqueeze(-2))
            log_weight = log_normal_density(z) - log_q - beta * values
            loss = (math.log(samples) - torch.logsumexp(log_weight, -1)).mean() / beta
        else:
            priced = (spring * spring_part + size * size_part).mean(0).clamp(min=free_bits).sum()
            loss = values.mean() + min(1.0, clock.step / warmup if warmup else 1.0) * priced / beta
        clock.step += 1
        parts = {f"information_{i}": term for i, term in enumerate(true.detach().unbind())}
        return {"loss": loss, "energy": values.mean(), "information": true.sum(), **parts}

    return objective, clock


def information_history(history: History) -> Tensor:
    """Information of each dimension at each step of learning, (steps, L), in nats, from the history of ``learn``.

    Raises:
        ValueError: a history of something else.

    >>> information_history(History(metrics={"information_0": [0.0, 0.5], "information_1": [0.1, 0.2]})).tolist()
    [[0.0, 0.10000000149011612], [0.5, 0.20000000298023224]]
    """
    columns = []
    while (name := f"information_{len(columns)}") in history.metrics:
        columns.append(history.metrics[name])
    if not columns:
        raise ValueError(f"history must record information_0 and so on, and has {sorted(history.metrics)}")
    return torch.tensor(columns).T


class CodePath:
    r"""Follows the codes of some samples through learning: a callback for ``learn``, and the frames of an animation.

    Args:
        model: with ``encode(y)`` and ``energy(y, z)``, or ``encode(x, y)`` and ``energy(x, y, z)``.
        observed: the samples, (n, D), or x and y.
        every: steps between records; the first is made at once, before any step.
        generator: draws one code for each sample, with the same ξ in all records, to tell its energy.

    Attributes:
        steps: the step of each record, T of them.

    Raises:
        ValueError: nothing observed, ``every`` below 1.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Variational Auto-Encoder" (four
    slides: code vectors, fuzzy balls, flying apart, springs).

    >>> from ebm_lib.latent.variational import VAE
    >>> y = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    >>> model = VAE(3, 2, beta=1.0, hidden=(4,))
    >>> path = CodePath(model, y, every=5)
    >>> history = model.learn(y, steps=10, batch_size=4, callback=path)
    >>> path.steps, path.mean.shape, path.std.shape, path.energy.shape
    ([0, 5, 10], torch.Size([3, 8, 2]), torch.Size([3, 8, 2]), torch.Size([3, 8]))
    """

    def __init__(
        self, model: nn.Module, *observed: Tensor, every: int = 10, generator: torch.Generator | None = None
    ) -> None:
        if not observed:
            raise ValueError("observed must hold the samples to follow, got none")
        for position, tensor in enumerate(observed):
            require_points(f"observed[{position}]", tensor)
            if not tensor.numel():
                raise ValueError(f"observed[{position}] must hold at least one sample, got shape {tuple(tensor.shape)}")
        self.model, self.observed, self.every = model, observed, require_count("every", every)
        self.steps: list[int] = []
        self._records: list[tuple[Tensor, Tensor, Tensor]] = []
        with torch.no_grad():
            mean = model.encode(*observed).mean
        self._noise = normal(mean.shape, generator, mean.dtype, mean.device)
        self._record(0)

    def __call__(self, history: History) -> None:
        """Record, if it is time to."""
        if history.steps % self.every == 0:
            self._record(history.steps)

    @property
    def mean(self) -> Tensor:
        """The balls' centres, (T, n, L)."""
        return torch.stack([record[0] for record in self._records])

    @property
    def std(self) -> Tensor:
        """Their sizes, (T, n, L)."""
        return torch.stack([record[1] for record in self._records])

    @property
    def energy(self) -> Tensor:
        """E at one point of each ball, (T, n), which says how badly it is decoded."""
        return torch.stack([record[2] for record in self._records])

    @property
    def information(self) -> Tensor:
        """Mean information of each dimension, (T, L), in nats."""
        return gaussian_kl(self.mean, self.std, per_dimension=True).mean(-2)

    def _record(self, step: int) -> None:
        with torch.no_grad():
            mean, std = self.model.encode(*self.observed)
            energy: Any = self.model.energy(*self.observed, mean + std * self._noise)
        self.steps.append(step)
        self._records.append((mean.clone(), std.clone(), energy.clone()))
