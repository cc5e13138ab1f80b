"""nbgrader's gradebook: the problem sets and scores in it. Scores are written by :mod:`grading.record`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import nbgrader
from nbformat import NotebookNode
from nbgrader import api
from nbgrader.api import Assignment, Gradebook, MissingEntry, SubmittedAssignment
from sqlalchemy import and_, func, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import Session

from .course import CONFIG, SAMPLE, Course, GradingError
from .intake import whole
from .notebook import grade_id, is_answer, is_check, is_manual, marked, parse, question, read
from .student_version import fresh


def tables_version() -> str:
    """Return the version of nbgrader's tables."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(nbgrader.__file__).parent / "alembic")).get_current_head()


# For a new gradebook nbgrader starts the program `alembic` to ask for the same, by name, which takes seconds.
api.get_alembic_version = tables_version


class GradebookGone(GradingError):
    """The gradebook cannot be reached any more; a run stops instead of losing what it does."""


class Mark(NamedTuple):
    """What one graded cell got: points, points there are, and whether it waits for a person."""

    got: float
    of: float
    pending: bool


@dataclass
class Score:
    """What the gradebook holds for one submission.

    Args:
        score: points so far, less those taken off for lateness; never below 0 on that account.
        max_score: points there are.
        pending: whether something waits for a person.
        by_hand: whether a person has given a mark or a comment.
        penalty: points taken off for lateness.
        questions: points so far and points there are, by question.
        marks: the same for each graded cell, by grade id.
        comments: what is said about each answer, by grade id.
    """

    score: float
    max_score: float
    pending: bool
    by_hand: bool
    penalty: float = 0.0
    questions: dict[str, tuple[float, float]] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Issue:
    """A set as it is graded now.

    Args:
        release: what students are handed, which submissions are held to.
        whole: the same with hidden tests, as :func:`grading.intake.whole` makes it.
        files: the set's other files, by path.
    """

    release: NotebookNode
    whole: NotebookNode
    files: dict[str, bytes]


def db_url(course: Course) -> str:
    """Return the address of the course's gradebook: SQLite beside the course unless its settings name another."""
    # Formgrader may hold SQLite's one lock for a moment: wait for it instead of the usual 5 seconds.
    return course.config().CourseDirectory.get("db_url") or f"sqlite:///{course.root / 'gradebook.db'}?timeout=60"


def _version(book: Gradebook) -> str | None:
    if not inspect(book.engine).has_table("alembic_version"):
        return None  # nbgrader was cut off when it made the tables
    return book.db.execute(text("SELECT version_num FROM alembic_version")).scalar()


@contextmanager
def gradebook(course: Course) -> Iterator[Gradebook]:
    """Open the gradebook for the length of a with block.

    Raises:
        GradebookGone: its server cannot be reached.
        GradingError: its file cannot be opened, or is no gradebook.
    """
    address = db_url(course)
    try:
        where = make_url(address)
        opened = Gradebook(address, course.config().CourseDirectory.get("course_id") or "default_course")
    except ArgumentError as e:
        raise GradingError(f"{CONFIG}: db_url is no address of a database: {e}") from e
    except DBAPIError as e:
        said = " ".join(str(e.orig).split())[:200]
        if where.get_backend_name() == "sqlite":
            raise GradingError(f"the gradebook {where.database} cannot be used: {said}") from e
        raise GradebookGone(f"the gradebook at {where.render_as_string()} cannot be reached: {said}") from e
    with opened as book:
        held = _version(book)
        if held not in (None, tables_version()):
            raise GradingError(
                f"the gradebook {where.render_as_string()} is of another nbgrader (version {held} of its tables, "
                f"{tables_version()} is needed): `nbgrader db upgrade` brings an older one up to date."
            )
        yield book


def enter_set(course: Course, ps: str) -> Issue:
    """Record a set's cells, hidden tests included, as nbgrader needs them for grading.

    nbgrader refuses where cells came or went since submissions were graded. Their scores are then dropped (they are
    about to be graded again), unless a person's marks would be lost.

    Args:
        course: the course.
        ps: the set's name.

    Returns:
        The set as submissions are held to it from now on.

    Raises:
        GradingError: marks given by hand, or scores whose submission is gone, stand in the way.
    """
    cells = {
        (kind, grade_id(cell))
        for cell in marked(read(course.source(ps)))
        for kind, of_kind in (
            ("graded", is_check(cell) or is_manual(cell)),
            ("answer", is_answer(cell)),
            ("cell", True),
        )
        if of_kind
    }
    with gradebook(course) as book:
        try:
            assignment = book.find_assignment(ps)
        except MissingEntry:
            assignment = None
        if assignment is not None and assignment.submissions and _cells(assignment) != cells:
            now, then = ({name for _, name in found} for found in (cells, _cells(assignment)))
            lost = [s.student.id for s in assignment.submissions if not _can_be_graded_again(course, ps, s)]
            if lost:
                changes = "; ".join(
                    f"{what}: {', '.join(sorted(names))}"
                    for what, names in (("new", now - then), ("gone", then - now))
                    if names
                )
                raise GradingError(
                    f"{ps} has other cells than when it was graded ({changes or 'other roles'}), and the gradebook "
                    f"holds what cannot be made again for {', '.join(sorted(lost))}: marks given by hand, or scores "
                    "of a submission that is gone. Put the cells back, or move gradebook.db away to grade afresh."
                )
            for student in [s.student.id for s in assignment.submissions]:
                book.remove_submission(ps, student)
    files = fresh(course, ps, db_url=db_url(course))
    release = parse(files.pop(f"{ps}.ipynb").decode(), f"{ps}.ipynb")
    return Issue(release, whole(course, ps), files)


def _cells(assignment: Assignment) -> set[tuple[str, str]]:
    return {
        (kind, cell.name)
        for notebook in assignment.notebooks
        for kind, cells in (
            ("graded", notebook.grade_cells),
            ("answer", notebook.solution_cells),
            ("cell", notebook.source_cells),
        )
        for cell in cells
    }


def _can_be_graded_again(course: Course, ps: str, submission: SubmittedAssignment) -> bool:
    student = submission.student.id
    here = (course.submitted / student / ps).is_dir() or student.startswith(SAMPLE)
    return here and not _by_hand(submission)


def _by_hand(submission: SubmittedAssignment) -> bool:
    return any(
        any(g.manual_score is not None or g.extra_credit for g in notebook.grades)
        or any(c.manual_comment for c in notebook.comments)
        for notebook in submission.notebooks
    )


# --- scores --------------------------------------------------------------------------------------------------------
def order_of(nb: NotebookNode) -> dict[str, str]:
    """Return the question of each marked cell of a set, in the order of its notebook.

    Args:
        nb: the instructor's notebook, or its release.
    """
    return {grade_id(cell): question(cell) or "other" for cell in marked(nb)}


def scores(db: Session, ps: str, order: dict[str, str], students: Sequence[str] | None = None) -> dict[str, Score]:
    """Return what the gradebook holds for a set's submissions, by student, in two queries.

    Args:
        db: a session of the gradebook.
        ps: the set's name.
        order: from :func:`order_of`.
        students: whose; by default everybody's.
    """
    points = func.coalesce(api.GradeCell.__table__.c.max_score, api.TaskCell.__table__.c.max_score, 0.0)
    student = SubmittedAssignment.student_id
    at = and_(Assignment.name == ps, student.in_(students) if students is not None else True)
    owners = select(student, api.SubmittedNotebook.late_submission_penalty, api.SubmittedNotebook.id)
    owners = owners.join_from(SubmittedAssignment, Assignment).where(at)
    owners = owners.join(api.SubmittedNotebook, api.SubmittedNotebook.assignment_id == SubmittedAssignment.id)
    notebooks = owners.subquery()
    cells = api.BaseCell.__table__
    grades = (
        select(notebooks.c.student_id, cells.c.name, api.Grade.score, points, api.Grade.needs_manual_grade)
        .add_columns(api.Grade.manual_score, api.Grade.extra_credit)
        .select_from(notebooks)
        .join(api.Grade, api.Grade.notebook_id == notebooks.c.id)
        .join(cells, cells.c.id == api.Grade.cell_id)
        .outerjoin(api.GradeCell.__table__, api.GradeCell.__table__.c.id == cells.c.id)
        .outerjoin(api.TaskCell.__table__, api.TaskCell.__table__.c.id == cells.c.id)
    )
    found: dict[str, Score] = {}
    for name, penalty, _ in db.execute(owners):
        held = found.setdefault(name, Score(0.0, 0.0, False, False))
        held.penalty += penalty or 0.0
    for name, cell, got, of, pending, manual, extra in db.execute(grades):
        held = found[name]
        held.marks[cell] = Mark(got, of, pending)
        held.by_hand |= manual is not None or bool(extra)
    comments = (
        select(notebooks.c.student_id, cells.c.name, api.Comment.comment, api.Comment.manual_comment)
        .select_from(notebooks)
        .join(api.Comment, api.Comment.notebook_id == notebooks.c.id)
        .join(cells, cells.c.id == api.Comment.cell_id)
    )
    for name, cell, comment, manual in db.execute(comments):
        if comment:
            found[name].comments[cell] = comment
        found[name].by_hand |= bool(manual)
    for held in found.values():
        _add_up(held, order)
    return found


def _add_up(held: Score, order: dict[str, str]) -> None:
    held.marks = {cell: held.marks[cell] for cell in order if cell in held.marks}
    held.comments = {cell: held.comments[cell] for cell in order if cell in held.comments}
    for cell, q in order.items():
        if cell in held.marks:
            got, of = held.questions.get(q, (0.0, 0.0))
            held.questions[q] = (got + held.marks[cell].got, of + held.marks[cell].of)
    total = sum(mark.got for mark in held.marks.values())
    held.score = max(0.0, total - held.penalty) if held.penalty else total
    held.max_score = sum(mark.of for mark in held.marks.values())
    held.pending = any(mark.pending for mark in held.marks.values())


def score(course: Course, ps: str, student: str) -> Score | None:
    """Return what the gradebook holds for a submission, or None."""
    order = order_of(read(course.source(ps)))
    with gradebook(course) as book:
        return scores(book.db(), ps, order, [student]).get(student)


def recorded(course: Course, ps: str) -> list[str]:
    """Return the students with a submission of this set in the gradebook."""
    with gradebook(course) as book:
        try:
            return sorted(s.student.id for s in book.find_assignment(ps).submissions)
        except MissingEntry:
            return []
