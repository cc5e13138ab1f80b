"""How far a run is: a bar on a terminal, lines elsewhere, both with the time that is left."""

import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from .manifest import Outcome


class Progress:
    """Tells of each submission as it is done.

    Args:
        total: how many there are.
        tell: called with a line for each; with a bar, only for those that could not be graded.
        bar: whether to draw a bar on the terminal.
    """

    def __init__(self, total: int, tell: Callable[[str], None], *, bar: bool = False) -> None:
        self.total, self.tell = total, tell
        self.done, self.ran = 0, 0
        self.states: Counter[str] = Counter()
        self.begun = time.monotonic()
        self.bar = None
        if bar:
            from tqdm import tqdm

            self.bar = tqdm(total=total, unit="submission", dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def add(self, outcome: Outcome) -> None:
        """Count one submission.

        Args:
            outcome: what became of it.
        """
        self.done += 1
        self.ran += outcome.ran  # only these say how long the rest will take
        self.states[outcome.state] += 1
        took = f", {outcome.seconds:.1f} s" if outcome.ran else ", unchanged" if outcome.ok else ""
        line = f"[{self.done}/{self.total}] {outcome.student}: {outcome.state}{took}"
        if self.bar is None:
            self.tell(f"{line}{self._left()}")
            return
        self.bar.set_postfix_str(", ".join(f"{n} {state}" for state, n in self.states.most_common()), refresh=False)
        self.bar.update()
        if not outcome.ok:
            self.bar.write(f"{line}: {outcome.message}")

    def _left(self) -> str:
        remaining = self.total - self.done
        if not self.ran or not remaining:
            return ""
        return f" ({duration((time.monotonic() - self.begun) / self.ran * remaining)} left)"


def duration(seconds: float) -> str:
    """Return a time to read.

    Args:
        seconds: at least 0.

    >>> [duration(s) for s in (0.4, 59, 60, 3599, 7260)]
    ['1 s', '59 s', '1 min', '60 min', '2 h 1 min']
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes <= 60 else f"{minutes // 60} h {minutes % 60} min"
