"""A replay buffer: chains that go on from where earlier ones stopped."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ebm_lib.require import require_count, require_finite, require_nonempty


class ReplayBuffer:
    r"""Keep the last samples as starts of the next chains, and now and then start afresh.

    .. math:: y_0 \sim \begin{cases} \text{fresh} & \text{with probability } p \\ \text{a stored sample, each at most
        once} & \text{otherwise} \end{cases}

    A model that moves a little with each update is still near to where its old chains were, so a few steps from there
    do the work of many from noise: persistent contrastive divergence. With a capacity of one batch and p = 0 the
    chains are exactly those of Tieleman (2008): every start is the end of the last batch.

    Args:
        capacity: how many samples to keep; the oldest make room.
        fresh: draws new starts: ``fresh(count, generator)`` gives (count, ...).
        reinit: p, the probability of a fresh start.
        generator: for the choice of samples, and handed to ``fresh``.

    Raises:
        ValueError: bad capacity or probability.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods vs
        Regularized/Architectural Methods", C2. Tieleman, Training restricted Boltzmann machines using approximations
        to the likelihood gradient (ICML 2008); Du and Mordatch, Implicit generation and modeling with energy-based
        models (NeurIPS 2019), whose capacity is 10,000 and whose p is 5 %.

    >>> buffer = ReplayBuffer(100, lambda count, generator: torch.rand(count, 2, generator=generator),
    ...                       generator=torch.Generator().manual_seed(0))
    >>> start = buffer.take(8)  # empty so far: all of them fresh
    >>> buffer.put(start + 1)   # what a sampler made of them
    >>> len(buffer), int((buffer.take(8) > 1).all(-1).sum())  # one of the eight starts afresh
    (8, 7)
    """

    def __init__(
        self,
        capacity: int,
        fresh: Callable[[int, torch.Generator | None], Tensor],
        *,
        reinit: float = 0.05,
        generator: torch.Generator | None = None,
    ) -> None:
        self.capacity = require_count("capacity", capacity)
        if not 0 <= reinit <= 1:
            raise ValueError(f"reinit must be a probability, from 0 to 1, got {reinit}")
        self.fresh, self.reinit, self.generator = fresh, reinit, generator
        self._samples: Tensor | None = None
        self._count = 0  # how many are stored
        self._next = 0  # where the next one goes: the oldest, once the buffer is full

    def __len__(self) -> int:
        """Return how many samples are stored."""
        return self._count

    @property
    def samples(self) -> Tensor | None:
        """The samples stored, (len, ...), in no particular order; None before the first ``put``. Not a copy."""
        return None if self._samples is None else self._samples[: self._count]

    def take(self, count: int) -> Tensor:
        """Return starts for ``count`` chains.

        Distinct stored samples, chosen at random, each replaced by a fresh start with probability ``reinit``; where
        too few are stored, the rest are fresh. The buffer keeps what it holds until :meth:`put`.

        Args:
            count: how many.

        Returns:
            (count, ...), a copy.

        Raises:
            ValueError: ``fresh`` returned another number of samples or another shape.
        """
        require_count("count", count)
        device = None if self.generator is None else self.generator.device
        chosen = torch.randperm(self._count, generator=self.generator, device=device)[:count]
        renewed = torch.rand(len(chosen), generator=self.generator, device=device) < self.reinit
        kept = chosen[~renewed]
        starts = [] if self._samples is None else [self._samples[kept.to(self._samples.device)]]
        if missing := count - len(kept):
            new = require_finite("fresh starts", self.fresh(missing, self.generator)).detach()
            self._require_alike("fresh starts", new, missing)
            starts.append(new)
        return torch.cat(starts)

    def put(self, samples: Tensor) -> None:
        """Store samples, the oldest ones making room.

        Args:
            samples: (B, ...), B at most the capacity; copied.

        Raises:
            ValueError: not finite, none or too many, or of another shape than those stored.
        """
        require_nonempty("samples", require_finite("samples", samples), 0)
        self._require_alike("samples", samples, len(samples))
        if len(samples) > self.capacity:
            raise ValueError(f"samples must fit in the buffer's capacity of {self.capacity}, got {len(samples)}")
        if self._samples is None:
            self._samples = self._storage(samples)
        places = (self._next + torch.arange(len(samples), device=self._samples.device)) % self.capacity
        self._samples[places] = samples.detach()
        self._next = (self._next + len(samples)) % self.capacity
        self._count = min(self.capacity, self._count + len(samples))

    def _storage(self, like: Tensor) -> Tensor:
        with torch.inference_mode(False):  # what is made within it cannot be written to outside
            return torch.empty((self.capacity, *like.shape[1:]), dtype=like.dtype, device=like.device)

    def _require_alike(self, name: str, samples: Tensor, count: int) -> None:
        shape = samples.shape[1:] if self._samples is None else self._samples.shape[1:]
        if samples.shape != (count, *shape):
            raise ValueError(f"{name} must have shape {(count, *shape)}, got {tuple(samples.shape)}")
        if self._samples is not None and (samples.dtype, samples.device) != (self._samples.dtype, self._samples.device):
            raise ValueError(
                f"{name} must be {self._samples.dtype} on {self._samples.device}, as those stored; "
                f"got {samples.dtype} on {samples.device}"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return all it takes to go on exactly from here: samples, order, and the generator's state."""
        samples = self.samples
        return {
            "capacity": self.capacity,
            "samples": None if samples is None else samples.clone(),
            "next": self._next,
            "generator": None if self.generator is None else self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`.

        Raises:
            ValueError: it comes from a buffer of another capacity, or one of the two has a generator and the other
                has none.
        """
        if state["capacity"] != self.capacity:
            raise ValueError(f"the state is of a buffer of capacity {state['capacity']}, this one's is {self.capacity}")
        if (state["generator"] is None) != (self.generator is None):
            raise ValueError("the state and this buffer must both have a generator, or neither")
        samples = state["samples"]
        self._count, self._next, self._samples = 0 if samples is None else len(samples), state["next"], None
        if samples is not None:
            self._samples = self._storage(samples)
            self._samples[: self._count] = samples
        if self.generator is not None:
            self.generator.set_state(state["generator"])
