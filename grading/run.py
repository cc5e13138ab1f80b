"""A run: every submission of a set, one after the other, and what comes of it: gradebook, feedback, CSV, manifest."""

import csv
import fnmatch
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .course import CONFIG, SAMPLE, SAMPLE_SECONDS, Course, GradingError, check_student

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from .engine import Limits

GRADED = ("graded", "timed out", "kernel died")  # the states that give points


@dataclass
class Outcome:
    """What a run made of one submission.

    Args:
        student: the student's name.
        state: ``graded``; ``timed out`` or ``kernel died``, with the points earned before; ``refused``, which was
            never run; ``failed``, which is nbgrader's or the course's own trouble.
        score: points so far; None where nothing was graded.
        max_score: points there are; None where nothing was graded.
        pending: whether a question waits for a person.
        message: what the instructor should know, in one line.
        seconds: how long it took; 0 where an earlier run's result stands.
        questions: points so far and points there are, by question.
        notes: what was mended in the notebook, one sentence each.
        digest: the fingerprint of what was graded, and with what.
    """

    student: str
    state: str
    score: float | None = None
    max_score: float | None = None
    pending: bool = False
    message: str = ""
    seconds: float = 0.0
    questions: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    digest: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was graded."""
        return self.state in GRADED


def grade(
    ps: str,
    *,
    course: Course | None = None,
    students: Sequence[str] = (),
    cell_seconds: int = 60,
    notebook_seconds: int | None = None,
    force: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Outcome]:
    """Grade a set's submissions into the gradebook, with feedback pages and a CSV of the scores.

    A submission that was graded before and has not changed since is not run again; its feedback and its line of the
    CSV are made anew from the gradebook, where a person may have added marks.

    Args:
        ps: the set's name.
        course: the course; by default the one around the working directory.
        students: names or patterns such as ``sample-*``; by default all.
        cell_seconds: time limit of one cell.
        notebook_seconds: time limit of all answers and checks together; by default ten cells' worth.
        force: run what has not changed, too.
        tell: called with a line for each submission as it is done.

    Returns:
        One outcome per submission, those that could not be graded included.

    Raises:
        GradingError: unknown set, nothing submitted, no such student, or marks given by hand would be lost.
    """
    from .engine import Limits
    from .gradebook import enter_set
    from .intake import students as handed_in

    course = course or Course.find()
    source = course.source(ps)
    limits = Limits(cell_seconds, notebook_seconds)
    found = handed_in(course, ps)
    if not found:
        raise GradingError(f"submitted/ has nothing for {ps}: put notebooks at submitted/<student>/{ps}/{ps}.ipynb.")
    chosen = [s for s in found if not students or any(fnmatch.fnmatchcase(s, p) for p in students)]
    missing = [p for p in students if not any(fnmatch.fnmatchcase(s, p) for s in found)]
    if missing:
        raise GradingError(f"submitted/ has nothing for {ps} from {', '.join(missing)}.")
    with _alone(course, ps):
        release = enter_set(course, ps)
        files = (course.root / CONFIG).read_bytes() + b"\0" + source.read_bytes()
        before = _read_manifest(course, ps)
        after = dict(before)
        outcomes = []
        for i, student in enumerate(chosen, 1):
            # Sample students need no more time than this, and one of them would use all there is.
            own = Limits(min(cell_seconds, SAMPLE_SECONDS)) if student.startswith(SAMPLE) else limits
            with_what = hashlib.sha256(f"{own.cell} {own.total} ".encode() + files).hexdigest()
            outcome = _one(course, ps, student, release, own, with_what, None if force else before.get(student))
            after[student] = outcome
            _write_manifest(course, ps, after)  # after each one: a run that is cut off goes on where it was
            outcomes.append(outcome)
            took = f"{outcome.seconds:.1f} s" if outcome.seconds else "unchanged" if outcome.ok else ""
            tell(f"[{i}/{len(chosen)}] {student}: {outcome.state}{f', {took}' if took else ''}")
        write_csv(course, ps, after)
    return outcomes


@contextmanager
def _alone(course: Course, ps: str) -> Iterator[None]:
    """Refuse to run beside another run of the same set."""
    import fcntl

    course.grades.mkdir(exist_ok=True)
    with (course.grades / f".{ps}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise GradingError(f"another run is grading {ps}: wait until it is done.") from None
        yield


def _one(
    course: Course,
    ps: str,
    student: str,
    release: "NotebookNode",
    limits: "Limits",
    with_what: str,
    before: Outcome | None,
) -> Outcome:
    """Grade one submission; whatever goes wrong becomes its outcome."""
    from .engine import autograde
    from .feedback import page, write_feedback
    from .gradebook import clear, score
    from .intake import take_in

    try:
        submission = take_in(course, ps, student, release)
    except GradingError as e:
        message = str(e)
        old = score(course, ps, student)
        if old is not None:
            message += f" The gradebook still holds {old.score:g} points of an earlier submission."
        try:
            check_student(student)
            _put(course.feedback / student / ps, {f"{ps}.html": page(ps, student, problem=str(e)).encode()})
        except GradingError:
            pass  # no name to write a page for
        return Outcome(student, "refused", message=message)
    outcome = Outcome(student, "graded", notes=submission.notes)
    outcome.digest = hashlib.sha256(f"{with_what}{submission.digest()}".encode()).hexdigest()
    unchanged = before is not None and before.ok and before.digest == outcome.digest
    try:
        with tempfile.TemporaryDirectory(prefix="grading-") as tmp:
            folder = Path(tmp).resolve()
            held = score(course, ps, student)
            if unchanged and held is not None and (course.autograded / student / ps / f"{ps}.ipynb").is_file():
                outcome.state, outcome.message = before.state, before.message
            else:
                submission.stage(folder / "submitted" / student / ps, ps)
                clear(course, ps, student)
                run = autograde(course, ps, folder, limits)
                outcome.state, outcome.seconds = run.state, run.seconds
                outcome.message = " ".join([run.message, *submission.notes]).strip()
                if not outcome.ok:
                    shutil.rmtree(course.autograded / student / ps, ignore_errors=True)
                    _put(course.feedback / student / ps, {f"{ps}.html": page(ps, student, trouble=True).encode()})
                    return outcome
                _move(folder / "autograded" / student / ps, course.autograded / student / ps)
                held = score(course, ps, student)
            notes = list(submission.notes)
            if outcome.state != "graded":
                notes.insert(0, _ended(outcome.state))
            _move(write_feedback(course, ps, student, folder, release, notes), course.feedback / student / ps)
    except Exception as e:
        outcome.state, outcome.message = "failed", f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"
        return outcome
    outcome.score, outcome.max_score, outcome.pending = held.score, held.max_score, held.pending
    outcome.questions = held.questions
    return outcome


def _ended(state: str) -> str:
    if state == "kernel died":
        return "The kernel died while your notebook ran. What stands after that point was not run and gave no points."
    return "Your notebook took too long and was stopped; the checks below say where."


def _move(made: Path, target: Path) -> None:
    """Put a finished folder in the place of an old one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(made, fresh)  # the temporary folder may be on another file system
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def _put(folder: Path, files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as tmp:
        for name, content in files.items():
            Path(tmp, name).write_bytes(content)
        _move(Path(tmp), folder)


# --- records -------------------------------------------------------------------------------------------------------
def _read_manifest(course: Course, ps: str) -> dict[str, Outcome]:
    try:
        rows = json.loads((course.grades / f"{ps}.json").read_text())
        return {row["student"]: Outcome(**row) for row in rows}
    except (OSError, ValueError, TypeError, KeyError):
        return {}  # the first run, or one whose record was damaged: everything is graded again


def _write_manifest(course: Course, ps: str, outcomes: dict[str, Outcome]) -> None:
    rows = [asdict(outcomes[student]) for student in sorted(outcomes)]
    _replace(course.grades / f"{ps}.json", json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8", newline="")
    os.replace(new, path)


def harmless(value: object) -> object:
    """Return a CSV field that no spreadsheet takes for a formula.

    >>> harmless("=HYPERLINK(1)"), harmless("anna"), harmless(-1.5)
    ("'=HYPERLINK(1)", 'anna', -1.5)
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@", "\t", "\r", "|", "%"):
        return f"'{value}"
    return value


def write_csv(course: Course, ps: str, outcomes: dict[str, Outcome]) -> Path:
    """Write ``grades/<set>.csv``: a row for each student in the gradebook or in ``submitted/``.

    Args:
        course: the course.
        ps: the set's name.
        outcomes: what this run and those before made of the submissions, by student.
    """
    from .gradebook import recorded, score
    from .notebook import questions, read

    asked = questions(read(course.source(ps)))
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["student", "score", "max_score", "needs_manual_grading", "state", *asked, "message"])
    for student in sorted({*outcomes, *recorded(course, ps)}):
        outcome = outcomes.get(student) or Outcome(student, "graded", message="graded outside this program")
        held = score(course, ps, student) if outcome.ok else None
        if held is None:
            row = [student, "", "", "", outcome.state, *("" for _ in asked), outcome.message]
        else:
            got = [held.questions.get(q, (0.0, 0.0))[0] for q in asked]
            pending = "yes" if held.pending else "no"
            row = [student, held.score, held.max_score, pending, outcome.state, *got, outcome.message]
        rows.writerow([harmless(value) for value in row])
    _replace(course.grades / f"{ps}.csv", out.getvalue())
    return course.grades / f"{ps}.csv"


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as text to read in a terminal.

    >>> print(table([Outcome("anna", "graded", 15.0, 20.0, True), Outcome("bo", "refused", message="no notebook.")]))
    student     score  open question  state    message
    anna      15 / 20  to be marked   graded
    bo              -  -              refused  no notebook.
    """
    rows = [["student", "score", "open question", "state", "message"]]
    for o in outcomes:
        score = "-" if o.score is None else f"{o.score:g} / {o.max_score:g}"
        rows.append([o.student, score, "to be marked" if o.pending else "-", o.state, o.message])
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = []
    for row in rows:
        cells = [row[i].rjust(widths[i]) if i == 1 else row[i].ljust(widths[i]) for i in range(4)]
        lines.append("  ".join([*cells, row[4]]).rstrip())
    return "\n".join(lines)
