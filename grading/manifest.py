"""What a run made of each submission, kept so that a run that is cut off goes on where it was.

``grades/<set>.json`` is a list with an entry for each student. While a run goes on, each outcome is a line appended to
a journal beside it, so that the thousandth costs what the first did; at the end, or at the start of the next run, the
journal is worked into the list.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from .course import Course

GRADED = ("graded", "timed out", "kernel died")  # the states that give points


@dataclass
class Outcome:
    """What a run made of one submission.

    Args:
        student: the student's name.
        state: ``graded``; ``timed out`` or ``kernel died``, with the points earned before; ``refused``, which was
            never run; ``failed``, which is the engine's or the course's own trouble.
        score: points so far, less those taken off for lateness; None where nothing was graded.
        max_score: points there are; None where nothing was graded.
        pending: whether a question waits for a person.
        message: what the instructor should know, in one line.
        seconds: how long it took.
        ran: whether it was run now; False where an earlier run's result stands.
        cpu_seconds: processor time of its kernels.
        memory: the most bytes that the student's processes used.
        penalty: points taken off for lateness.
        questions: points so far and points there are, by question.
        failures: what each check said that did not give all its points, by grade id.
        notes: what was mended in the notebook, one sentence each.
        digest: the fingerprint of what was graded, and with what.
        shown: the fingerprint of what its page says.
        executed: the fingerprint of the executed notebook that was scored.
    """

    student: str
    state: str
    score: float | None = None
    max_score: float | None = None
    pending: bool = False
    message: str = ""
    seconds: float = 0.0
    ran: bool = False
    cpu_seconds: float = 0.0
    memory: int = 0
    penalty: float = 0.0
    questions: dict[str, tuple[float, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    digest: str = ""
    shown: str = ""
    executed: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was graded."""
        return self.state in GRADED


class Manifest:
    """The outcomes of a set's submissions by student, and their files.

    Args:
        course: the course.
        ps: the set's name.
    """

    def __init__(self, course: Course, ps: str) -> None:
        self.path = course.grades / f"{ps}.json"
        self.journal = course.grades / f".{ps}.journal"
        self.outcomes: dict[str, Outcome] = {}
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        for row in [*_rows(self.path), *_lines(self.journal)]:
            outcome = _outcome(row)
            if outcome is not None:
                self.outcomes[outcome.student] = outcome
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._compact()
        self._file = self.journal.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._compact()

    def add(self, outcome: Outcome) -> None:
        """Note one outcome; from now on it survives the end of the process."""
        self.outcomes[outcome.student] = outcome
        self._file.write(f"{json.dumps(asdict(outcome))}\n")
        self._file.flush()

    def _compact(self) -> None:
        if self.outcomes or self.path.exists():
            rows = [asdict(self.outcomes[student]) for student in sorted(self.outcomes)]
            replace(self.path, f"{json.dumps(rows, indent=1)}\n".encode())
        self.journal.unlink(missing_ok=True)  # only now: lines that are in both do no harm


def read_manifest(course: Course, ps: str) -> dict[str, Outcome]:
    """Return what runs made of a set's submissions so far, by student, those of a run under way included.

    Args:
        course: the course.
        ps: the set's name.
    """
    manifest = Manifest(course, ps)
    rows = [*_rows(manifest.path), *_lines(manifest.journal)]
    return {outcome.student: outcome for outcome in map(_outcome, rows) if outcome is not None}


def _rows(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []  # the first run, or one whose record was damaged: everything is graded again
    return rows if isinstance(rows, list) else []


def _lines(path: Path) -> list[Any]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            pass  # the run was cut off while it wrote this line: that submission is graded again
    return rows


def _outcome(row: Any) -> Outcome | None:
    """Return a row as an outcome; one from a damaged file, or of a program that knows other fields, is none."""
    try:
        outcome = Outcome(**row)
        outcome.questions = {q: (float(got), float(of)) for q, (got, of) in outcome.questions.items()}
    except (TypeError, ValueError, AttributeError):
        return None
    return outcome if isinstance(outcome.student, str) and isinstance(outcome.state, str) else None


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of an old one, so that whoever looks finds the one or the other, whole.

    Args:
        path: the file; its folder is made where it is missing.
        content: what it is to hold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    try:
        with new.open("wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())  # or a machine that loses power may keep the name and lose the content
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
