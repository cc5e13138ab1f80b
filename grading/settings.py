"""How submissions are run: limits, engine, sandbox."""

from dataclasses import dataclass, replace

from .course import SAMPLE, SAMPLE_SECONDS, GradingError

ENGINES = ("kernels", "nbgrader")


@dataclass(frozen=True)
class Settings:
    """How submissions are run.

    Args:
        cell_seconds: time limit of one cell.
        notebook_seconds: time limit of all answers and checks together; by default ten cells' worth.
        memory_bytes: memory of a submission's student code.
        output_bytes: characters of output kept of one cell.
        engine: ``kernels``: a student kernel and an examiner; ``nbgrader``: plain nbgrader, one kernel, no protection.
        sandbox: whether student kernels live in a sandbox.
        late: where the time of handing in comes from: ``timestamp``, nbgrader's ``timestamp.txt``; ``file``: where
            there is none, when the notebook was last written.

    Raises:
        GradingError: a value that nothing could be run with.
    """

    cell_seconds: int = 60
    notebook_seconds: int | None = None
    memory_bytes: int = 4 << 30
    output_bytes: int = 1_000_000
    engine: str = "kernels"
    sandbox: bool = True
    late: str = "timestamp"

    def __post_init__(self) -> None:
        """Refuse what no submission could keep to."""
        for name, value in (("cell", self.cell_seconds), ("notebook", self.notebook_seconds)):
            if value is not None and value < 1:
                raise GradingError(f"the time limit per {name} must be at least 1 second, got {value}.")
        if self.memory_bytes < 256 << 20:
            raise GradingError(f"the memory limit must be at least 256 MiB, got {self.memory_bytes:,} bytes.")
        if self.output_bytes < 1000:
            raise GradingError(f"the limit of output must be at least 1,000 bytes, got {self.output_bytes:,}.")
        if self.engine not in ENGINES:
            raise GradingError(f"unknown engine {self.engine!r}: there are {' and '.join(ENGINES)}.")
        if self.late not in ("timestamp", "file"):
            raise GradingError(f"late is 'timestamp' or 'file', not {self.late!r}.")

    def of(self, student: str) -> "Settings":
        """Return what holds for one student: sample students need little time, and one of them would use it all."""
        if not student.startswith(SAMPLE):
            return self
        return replace(self, cell_seconds=min(self.cell_seconds, SAMPLE_SECONDS), notebook_seconds=None)

    @property
    def total(self) -> int:
        """Seconds for all answers and checks together."""
        return self.notebook_seconds or 10 * self.cell_seconds
