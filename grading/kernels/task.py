"""What goes to a worker, and what comes back: plain data, so that the worker may be another machine."""

from dataclasses import dataclass, field

# What a cell's output is named when the engine, not the student's code, ended it.
TIMEOUT, DEAD, NOT_RUN = "CellTimeoutError", "DeadKernelError", "NotRun"
GIVEN_SECONDS = 180  # for the imports at the top, whatever a student's cell is given


@dataclass(frozen=True)
class Task:
    """A submission to run, with everything that takes: plain data, so that another machine can do it.

    Args:
        student: whose it is.
        set: the problem set.
        notebook: the mended submission as JSON, its checks with their hidden tests.
        remote: names that each check takes from the student, by grade id.
        handles: expressions that may yield an opaque handle, by grade id; None records which do.
        forbidden: what is not there for the student: ``ebm_lib.inference`` or ``ebm_lib.energy:gibbs``.
        hidden: folders that the student's code must not see even inside something readable.
        files: what was handed in beside the notebook.
        given: the set's own files, for checks and answers alike; they replace handed-in ones of the same name.
        cell_seconds: seconds for one cell.
        notebook_seconds: seconds for all answers and checks together.
        memory_bytes: memory of the student's processes together.
        output_bytes: characters of output kept of one cell.
        sandbox: whether the student kernel lives in a sandbox.
    """

    student: str
    set: str
    notebook: str
    remote: dict[str, list[str]]
    handles: dict[str, list[str]] | None
    forbidden: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    given: dict[str, bytes] = field(default_factory=dict)
    cell_seconds: int = 60
    notebook_seconds: int = 600
    memory_bytes: int = 4 << 30
    output_bytes: int = 1_000_000
    sandbox: bool = True


@dataclass
class Executed:
    """What came of it.

    Args:
        notebook: the notebook as JSON, with outputs, as nbgrader's execution would leave it.
        state: ``graded``; ``timed out`` or ``kernel died``, which also give the points earned; ``failed``.
        message: one sentence for the instructor; empty where there is nothing to say.
        notes: sentences for the student.
        seconds: how long it took.
        cpu_seconds: processor time of all its kernels.
        memory: the most bytes that the student's processes used.
        handles: expressions that gave a handle, by grade id.
    """

    notebook: str
    state: str
    message: str = ""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory: int = 0
    handles: dict[str, list[str]] = field(default_factory=dict)


class EngineError(Exception):
    """The engine's own trouble: a fork server that does not come up, a check that breaks its kernel."""


class KernelLost(EngineError):
    """A kernel ended with the process that forked it, which no student's code can reach: the run can be made again."""
