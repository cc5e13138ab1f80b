"""The record of a run."""

import math
from dataclasses import dataclass, field


@dataclass
class History:
    """What happened in a run: plain numbers, to plot, compare and store.

    Attributes:
        loss: the loss of each step, before its update.
        metrics: the other entries of a loss that returns a mapping, one number per step each.
        validation_steps: the steps after which ``validate`` was called.
        validation: what it returned each time.
        steps_per_epoch: how many steps go through the data once.
        seconds: time spent, over all resumptions.
        stopped_early: whether ``patience`` ran out.

    >>> History(loss=[4.0, 2.0, 1.0, 1.0], steps_per_epoch=2).epoch_loss
    [3.0, 1.0]
    """

    loss: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    validation_steps: list[int] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    steps_per_epoch: int = 1
    seconds: float = 0.0
    stopped_early: bool = False

    @property
    def steps(self) -> int:
        """Steps done."""
        return len(self.loss)

    @property
    def epoch_loss(self) -> list[float]:
        """The mean loss of each complete epoch."""
        size = self.steps_per_epoch
        return [math.fsum(self.loss[i : i + size]) / size for i in range(0, self.steps - size + 1, size)]

    @property
    def best_step(self) -> int | None:
        """The step with the lowest validation value, the first of equals; None without validation."""
        return self.validation_steps[self._best] if self.validation else None

    @property
    def _best(self) -> int:
        return min(range(len(self.validation)), key=self.validation.__getitem__)

    def exhausts(self, patience: int | None) -> bool:
        """Tell whether the last ``patience`` validations all failed to improve on the best."""
        return patience is not None and bool(self.validation) and len(self.validation) - 1 - self._best >= patience
