"""nbgrader's gradebook: the problem sets and scores in it, read and kept straight."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode
from nbgrader.api import Assignment, Gradebook, MissingEntry, SubmittedAssignment

from .course import SAMPLE, Course, GradingError
from .notebook import grade_id, is_answer, is_check, is_manual, marked, parse, question, read
from .student_version import fresh


@dataclass
class Score:
    """What the gradebook holds for one submission.

    Args:
        score: points so far.
        max_score: points there are.
        pending: whether something waits for a person.
        by_hand: whether a person has given a mark or a comment.
        questions: points so far and points there are, by question.
    """

    score: float
    max_score: float
    pending: bool
    by_hand: bool
    questions: dict[str, tuple[float, float]] = field(default_factory=dict)


def db_url(course: Course) -> str:
    """Return the address of the course's gradebook: SQLite beside the course unless its settings name another."""
    return course.config().CourseDirectory.get("db_url") or f"sqlite:///{course.root / 'gradebook.db'}"


@contextmanager
def gradebook(course: Course) -> Iterator[Gradebook]:
    """Open the gradebook for the length of a with block."""
    # nbgrader asks the program `alembic` for a new gradebook's version, by name: that of this environment is meant.
    here = str(Path(sys.executable).parent)
    if here not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PATH")]))
    with Gradebook(db_url(course), course.config().CourseDirectory.get("course_id") or "default_course") as book:
        yield book


def enter_set(course: Course, ps: str) -> NotebookNode:
    """Record a set's cells, hidden tests included, as nbgrader needs them for grading.

    nbgrader refuses where cells came or went since submissions were graded. Their scores are then dropped (they are
    about to be graded again), unless a person's marks would be lost.

    Args:
        course: the course.
        ps: the set's name.

    Returns:
        A fresh release of the set, which is what submissions are held to.

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
    return parse(fresh(course, ps, db_url=db_url(course))[f"{ps}.ipynb"].decode(), f"{ps}.ipynb")


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


def clear(course: Course, ps: str, student: str) -> None:
    """Forget the scores that checks gave a submission, so that none outlives the run that follows.

    Marks and comments given by hand stay.
    """
    with gradebook(course) as book:
        try:
            submission = book.find_submission(ps, student)
        except MissingEntry:
            return
        for notebook in submission.notebooks:
            for grade in notebook.grades:
                grade.auto_score, grade.needs_manual_grade = None, True
            for comment in notebook.comments:
                comment.auto_comment = None
        book.db.commit()


def score(course: Course, ps: str, student: str) -> Score | None:
    """Return what the gradebook holds for a submission, or None."""
    order = {grade_id(cell): question(cell) or "other" for cell in marked(read(course.source(ps)))}
    with gradebook(course) as book:
        try:
            submission = book.find_submission(ps, student)
        except MissingEntry:
            return None
        grades = {g.name: g for notebook in submission.notebooks for g in notebook.grades}
        questions: dict[str, tuple[float, float]] = {}
        for name, q in order.items():
            if name in grades:
                got, of = questions.get(q, (0.0, 0.0))
                questions[q] = (got + (grades[name].score or 0.0), of + grades[name].max_score)
        return Score(
            score=submission.score,
            max_score=submission.max_score,
            pending=any(g.needs_manual_grade for g in grades.values()),
            by_hand=_by_hand(submission),
            questions=questions,
        )


def recorded(course: Course, ps: str) -> list[str]:
    """Return the students with a submission of this set in the gradebook."""
    with gradebook(course) as book:
        try:
            return sorted(s.student.id for s in book.find_assignment(ps).submissions)
        except MissingEntry:
            return []
