"""A student's own notebook through the same engine, for nobody's eyes but theirs: no gradebook, no record.

Where the instructor's notebook is at hand, the hidden tests run too; else the checks that the released notebook shows.
"""

import builtins
from dataclasses import dataclass, replace
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import reads_json
from nbgrader.utils import determine_grade

from . import contract, manifest, sandbox
from .contract import Contract
from .course import Course, GradingError
from .feedback import graded_page, sections
from .gradebook import Mark, Score
from .intake import Submission, mend, task, whole
from .kernels.session import execute
from .kernels.task import EngineError, Task
from .loading import load
from .notebook import grade_id, is_answer, is_check, is_given, parse, points, question, read
from .record import Record
from .settings import Settings
from .student_version import fresh

PAGE = "feedback.html"
_WHO = "your own copy"  # in the place of a student's name
_VISIBLE = "Only the checks that you can see were run. Your course may grade with others, too."


@dataclass(frozen=True)
class Line:
    """What one question got.

    Args:
        question: its name.
        got: points that its checks gave.
        of: points that its checks can give.
        by_hand: points that only a person can give.
        message: what the first check said that did not give all its points; empty where all did.
    """

    question: str
    got: float
    of: float
    by_hand: float
    message: str


@dataclass(frozen=True)
class Own:
    """What came of grading one's own notebook.

    Args:
        page: the feedback page.
        lines: the questions, in order.
        hidden: whether the hidden tests ran.
        remarks: what else there is to know, one sentence each.
    """

    page: Path
    lines: list[Line]
    hidden: bool
    remarks: list[str]


@dataclass(frozen=True)
class _Set:
    release: NotebookNode
    checks: NotebookNode  # the notebook that checks are taken from
    agreed: Contract
    files: dict[str, bytes]
    hidden: bool


def grade_own(
    ps: str, *, course: Course | None = None, notebook: Path | None = None, settings: Settings | None = None
) -> Own:
    """Grade one's own notebook and write the feedback page beside it; nothing else is written.

    Args:
        ps: the set's name.
        course: the course; by default the one around the working directory.
        notebook: the notebook; by default the one in ``work/``, whose page is ``work/<set>/feedback.html``.
        settings: how it is run.

    Raises:
        GradingError: unknown set, no such notebook, one that cannot be graded, or one that the engine cannot run.
    """
    course, settings = course or Course.find(), settings or Settings()
    known = _set(course, ps)
    mine, page = _mine(ps, course, notebook)
    submission = _submission(mine, known.release)
    why_not = sandbox.unavailable() if settings.sandbox else "as you wished"
    one = task(
        submission, ps, known.checks, known.agreed, known.files,
        hidden=[str(course.root)], cell_seconds=settings.cell_seconds, notebook_seconds=settings.total,
        memory_bytes=settings.memory_bytes, output_bytes=settings.output_bytes, sandbox=why_not is None,
    )  # fmt: skip
    if not known.hidden:
        one = replace(one, handles=None)  # nobody has recorded which results may stay with the student
    nb, stopped, notes = _run(one, course, known.release)
    notes += [*submission.notes, *([] if known.hidden else [_VISIBLE])]
    held = _held(nb)
    text = graded_page(ps, _WHO, nb, held, known.release, notes)
    manifest.replace(page, text.encode("utf-8", "replace"))
    remarks = [*stopped, *notes]
    if why_not is not None:
        remarks.append(f"Run without a sandbox, since it is your own code ({why_not.rstrip('.')}).")
    lines = [_line(section, nb, held) for section in sections(nb, held, known.release, notes)]
    return Own(page, lines, known.hidden, remarks)


def told(own: Own) -> str:
    """Return what came of it as text to read in a terminal.

    Args:
        own: from :func:`grade_own`.

    >>> lines = [Line("q1", 2, 2, 0, ""), Line("q2", 1.5, 3, 2, "9 has a root.")]
    >>> print(told(Own(Path("feedback.html"), lines, True, [])))
    q1  2 / 2
    q2  1.5 / 3, and 2 by hand: 9 has a root.
    3.5 of 5 points by checks, hidden ones included; 2 more are for a person to give.
    """
    rows = []
    for line in own.lines:
        score = [f"{line.got:g} / {line.of:g}"] if line.of else []
        score += [f"{'and ' if score else ''}{line.by_hand:g} by hand"] if line.by_hand else []
        rows.append(f"{line.question}  {', '.join(score)}{f': {line.message}' if line.message else ''}")
    got, of, by_hand = (sum(getattr(line, name) for line in own.lines) for name in ("got", "of", "by_hand"))
    which = "hidden ones included" if own.hidden else "those that you can see"
    more = f"; {by_hand:g} more are for a person to give" if by_hand else ""
    return "\n".join([*rows, f"{got:g} of {of:g} points by checks, {which}{more}.", *own.remarks])


# --- what is run ---------------------------------------------------------------------------------------------------
def _mine(ps: str, course: Course, notebook: Path | None) -> tuple[Path, Path]:
    """Return the notebook to grade, and where its page goes."""
    usual = course.work / ps / f"{ps}.ipynb"
    mine = usual if notebook is None else notebook.absolute()
    if not mine.is_file():
        how = f": `python -m grading start {ps}` makes a copy to answer." if notebook is None else "."
        raise GradingError(f"there is no notebook {notebook or usual}{how}")
    return mine, mine.with_name(PAGE if mine == usual else f"{mine.stem}-{PAGE}")


def _submission(mine: Path, release: NotebookNode) -> Submission:
    notebook, notes = load(mine.read_bytes(), mine.name)
    mended, more = mend(notebook, release)
    return Submission(_WHO, mended, notes=[*notes, *more])


def _set(course: Course, ps: str) -> _Set:
    """Return a set with its hidden tests where they are at hand, else as it was released."""
    if ps in course.sets():
        files = fresh(course, ps)
        release = parse(files.pop(f"{ps}.ipynb").decode(), f"{ps}.ipynb")
        return _Set(release, whole(course, ps), contract.read(course, ps), files, True)
    path = course.exercises / ps / f"{ps}.ipynb"
    if not path.is_file():
        raise course.nowhere(ps)
    release, files = read(path), {}
    for beside in sorted(path.parent.rglob("*")):
        name = beside.relative_to(path.parent)
        if beside.is_file() and beside != path and not any(part.startswith(".") for part in name.parts):
            files[name.as_posix()] = beside.read_bytes()
    agreed = Contract(visible_names(release), {}, contract.forbidden(release))
    return _Set(release, release, agreed, files, False)


def visible_names(release: NotebookNode) -> dict[str, list[str]]:
    """Return the names that the checks of a released notebook take from the student.

    The reference answers are not there to say what they define: whatever no given cell and no earlier check binds is
    the student's.

    Args:
        release: the released notebook.

    Returns:
        Names in alphabetical order, by the check's grade id.
    """
    remote, trusted = {}, {*dir(builtins), "display", "get_ipython"}
    for cell in release.cells:
        if cell.cell_type != "code" or not (is_given(cell) or is_check(cell)):
            continue
        its = contract.names(cell)
        if is_check(cell):
            remote[grade_id(cell)] = sorted(its.reads - its.binds - trusted)
        trusted |= its.binds
    return remote


def _run(one: Task, course: Course, release: NotebookNode) -> tuple[NotebookNode, list[str], list[str]]:
    """Return the executed notebook, what had to be stopped (its page says so at its place), and other notes."""
    try:
        done = execute(one)
    except EngineError as e:
        raise GradingError(f"{one.set} cannot be run: {e}.") from e
    nb = reads_json(done.notebook)
    odd = Record(course, one.set, release).settle(nb)  # opens no gradebook
    return nb, [done.message] if done.message else [], [*done.notes, *odd]


# --- what it got ---------------------------------------------------------------------------------------------------
def _held(nb: NotebookNode) -> Score:
    """Return the marks of an executed notebook, in the form in which a gradebook holds them."""
    marks = {}
    for cell in nb.cells:
        if grade_id(cell) and points(cell):
            got, of = determine_grade(cell)
            marks[grade_id(cell)] = Mark(got or 0.0, of, got is None)
    got, of = (sum(getattr(mark, name) for mark in marks.values()) for name in ("got", "of"))
    return Score(got, of, any(mark.pending for mark in marks.values()), by_hand=False, marks=marks)


def _line(section: dict, nb: NotebookNode, held: Score) -> Line:
    by_hand = sum(
        held.marks[grade_id(cell)].of
        for cell in nb.cells
        if is_answer(cell) and grade_id(cell) in held.marks and question(cell) == section["id"]
    )
    failing = next((check for check in section["checks"] if check["state"] != "passed"), None)
    message = "" if failing is None else " ".join(failing["message"].split()) or "a check did not give all its points."
    of = section["of"] - by_hand
    got = sum(check["got"] for check in section["checks"])
    return Line(section["id"], got, of, by_hand, message)
