"""Scores on their way into nbgrader's gradebook: one submission, one transaction, all of it or nothing.

What is written is what nbgrader's own Autograde would write for the same executed notebook.
"""

from collections.abc import Iterator, Set
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Self

from nbconvert.preprocessors import ClearMetadataPreprocessor
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader import api
from nbgrader.preprocessors import AssignLatePenalties, IgnorePattern, LimitOutput
from nbgrader.utils import compute_checksum, determine_grade, is_grade, is_solution, is_task
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from .course import CONFIG, Course, GradingError
from .gradebook import GradebookGone, Score, gradebook, order_of, scores
from .notebook import grade_id, is_check
from .quiet import quietly

NO_POINTS = "PointsError"  # what a check's output is named when the number it gave cannot be points


class Record:
    """One set's scores in the gradebook, open for the length of a run.

    Args:
        course: the course; its gradebook knows the set.
        ps: the set's name.
        release: the set as it is handed out now.
    """

    def __init__(self, course: Course, ps: str, release: NotebookNode) -> None:
        self.ps = ps
        self._course = course
        self._order = order_of(release)
        config = course.config()
        # nbgrader's steps between execution and scoring, as the course's settings have them.
        self._steps = [step(config=config) for step in (IgnorePattern, ClearMetadataPreprocessor, LimitOutput)]
        try:
            self._late = AssignLatePenalties(config=config)
            self._late.init_plugin()
        except Exception as e:
            raise GradingError(f"{CONFIG}: the plugin for late penalties cannot be loaded: {e}") from e

    def __enter__(self) -> Self:
        self._opened = gradebook(self._course)
        self._book = self._opened.__enter__()
        with self._transaction() as db:
            self._assignment = db.scalars(select(api.Assignment.id).filter_by(name=self.ps)).one()
            notebook = select(api.Notebook.id).filter_by(name=self.ps, assignment_id=self._assignment)
            self._notebook = db.scalars(notebook).one()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, trace)

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        """Give a session that is committed at the end, or leaves no trace where an exception ends it.

        Raises:
            GradebookGone: its server cannot be reached.
        """
        db = self._book.db()
        try:
            if db.get_bind().dialect.name == "sqlite":
                # Take the lock before reading, so that no mark is given by hand between a look and a write.
                db.connection().exec_driver_sql("BEGIN IMMEDIATE")
            yield db
            db.commit()
        except OperationalError as e:
            if db.get_bind().dialect.name == "sqlite":
                raise
            said = " ".join(str(e.orig).split())[:200]
            raise GradebookGone(f"the gradebook cannot be reached ({said}): run again to go on.") from e
        finally:
            self._book.db.remove()  # rolls back what was not committed, and forgets all objects

    def settle(self, nb: NotebookNode) -> list[str]:
        """Leave in an executed notebook what nbgrader's steps after execution leave, and only what it can score.

        nbgrader takes a number that a check ends with for points: one above the maximum stops it, and a negative one
        or NaN gives full marks. None of these are points: here they become an error, which scores 0.

        Args:
            nb: the notebook; it is changed.

        Returns:
            What the instructor should know, one sentence each.
        """
        with quietly():
            for step in self._steps:
                nb, _ = step(nb, {})
        notes = []
        for cell in nb.cells:
            if is_check(cell) and cell.cell_type == "code" and (odd := _odd_points(cell)):
                text = f"The check gave {odd}, which is no number of points: {_range(cell)} are expected."
                failed = new_output("error", ename=NO_POINTS, evalue=text, traceback=[f"{NO_POINTS}: {text}"])
                cell.outputs = [failed if o.output_type == "execute_result" else o for o in cell.outputs]
                notes.append(f"{grade_id(cell)}: {text}")
        return notes

    def record(
        self, student: str, nb: NotebookNode, submitted: datetime | None = None, *, same: Set[str] = frozenset()
    ) -> Score:
        """Write a submission's scores.

        Marks and comments given by hand stay; unless what they are for is the same, it is to be looked at again.

        Args:
            student: the student's name; entered where the gradebook does not know it.
            nb: the executed notebook, settled.
            submitted: when it was handed in, in UTC without zone; by default as the gradebook has it.
            same: cells that are what they were when they were marked, by grade id.

        Returns:
            What the gradebook now holds.

        Raises:
            GradingError: a graded cell of the set is not in the notebook.
        """
        auto = {grade_id(cell): determine_grade(cell)[0] for cell in nb.cells if is_grade(cell)}
        said = {grade_id(c): _no_response(c) for c in nb.cells if is_solution(c) or is_task(c)}
        with self._transaction() as db:
            submission, notebook = self._submission(db, student)
            if submitted is not None:
                submission.timestamp = submitted
            for grade, name in self._rows(db, api.Grade, notebook):
                if name not in auto:
                    raise GradingError(f"the executed notebook of {student} lacks the graded cell {name}.")
                grade.auto_score = auto[name]
                marked = grade.manual_score is not None and not grade.needs_manual_grade
                if not (marked and name in same):
                    grade.needs_manual_grade = grade.manual_score is not None or auto[name] is None
            for comment, name in self._rows(db, api.Comment, notebook):
                comment.auto_comment = said.get(name)
            return self._settled(db, student, submission, notebook)

    def refresh(self, student: str) -> Score | None:
        """Return what the gradebook holds for a submission, its lateness counted anew: a due date may have changed."""
        with self._transaction() as db:
            found = self._find(db, student)
            return self._settled(db, student, *found) if found else None

    def clear(self, student: str) -> None:
        """Forget the scores that checks gave a submission; marks and comments given by hand stay."""
        with self._transaction() as db:
            found = self._find(db, student)
            if found:
                for grade, _ in self._rows(db, api.Grade, found[1]):
                    grade.auto_score, grade.needs_manual_grade = None, True
                for comment, _ in self._rows(db, api.Comment, found[1]):
                    comment.auto_comment = None
                found[1].late_submission_penalty = None

    def scores(self) -> dict[str, Score]:
        """Return what the gradebook holds for every submission of the set, by student."""
        with self._transaction() as db:
            return scores(db, self.ps, self._order)

    # --- rows ------------------------------------------------------------------------------------------------------
    def _find(self, db: Session, student: str) -> tuple[api.SubmittedAssignment, api.SubmittedNotebook] | None:
        mine = select(api.SubmittedAssignment).filter_by(assignment_id=self._assignment, student_id=student)
        submission = db.scalars(mine.with_for_update()).one_or_none()
        if submission is None:
            return None
        notebook = select(api.SubmittedNotebook).filter_by(assignment_id=submission.id, notebook_id=self._notebook)
        return submission, db.scalars(notebook).one()

    def _submission(self, db: Session, student: str) -> tuple[api.SubmittedAssignment, api.SubmittedNotebook]:
        """Return a student's submission, made with all its rows where there is none."""
        found = self._find(db, student)
        if found:
            return found
        if db.get(api.Student, student) is None:
            db.add(api.Student(id=student))
            db.flush()
        submission = api.SubmittedAssignment(assignment_id=self._assignment, student_id=student)
        db.add(submission)
        db.flush()
        for one in db.scalars(select(api.Notebook).filter_by(assignment_id=self._assignment)):
            notebook = api.SubmittedNotebook(notebook_id=one.id, assignment_id=submission.id)
            db.add(notebook)
            db.flush()
            for cell in one.grade_cells + one.task_cells:
                db.add(api.Grade(cell_id=cell.id, notebook_id=notebook.id))
            for cell in one.solution_cells + one.task_cells:
                db.add(api.Comment(cell_id=cell.id, notebook_id=notebook.id))
        db.flush()
        return self._find(db, student)

    @staticmethod
    def _rows(db: Session, kind: type, notebook: api.SubmittedNotebook) -> list:
        """Return a notebook's grades or comments, each with its cell's name, locked until the transaction ends."""
        cells = api.BaseCell.__table__
        rows = select(kind, cells.c.name).join(cells, cells.c.id == kind.cell_id)
        return list(db.execute(rows.where(kind.notebook_id == notebook.id).with_for_update(of=kind)))

    def _settled(
        self, db: Session, student: str, submission: api.SubmittedAssignment, notebook: api.SubmittedNotebook
    ) -> Score:
        """Count lateness by the course's plugin, and return what all this comes to."""
        notebook.late_submission_penalty = None
        db.flush()
        held = scores(db, self.ps, self._order, [student])[student]
        late = submission.total_seconds_late if submission.assignment.duedate is not None else 0
        if late > 0:
            plugin = self._late.plugin_inst
            try:
                with quietly():
                    penalty = plugin.late_submission_penalty(student, held.score, late)
            except Exception as e:
                raise GradingError(f"the late penalty {type(plugin).__name__}: {type(e).__name__}: {e}") from e
            if penalty is not None:
                notebook.late_submission_penalty = 0.0 if penalty < 0 else min(penalty, held.score)
                db.flush()
                held = scores(db, self.ps, self._order, [student])[student]
        return held


def _no_response(cell: NotebookNode) -> str | None:
    unchanged = cell.metadata.nbgrader.get("checksum") == compute_checksum(cell) and not is_task(cell)
    return "No response." if unchanged else None


def _odd_points(cell: NotebookNode) -> str | None:
    """Return what a check gave if nbgrader would take it for points and it cannot be any."""
    for output in cell.outputs:
        if output.output_type == "error":
            return None  # it scores 0 whatever came after
        if output.output_type == "execute_result":
            given = output.get("data", {}).get("text/plain") or ""
            text = "".join(given).strip()
            try:
                value = float(text)
            except ValueError:
                return None if text else "nothing that can be read"
            return None if 0 <= value <= cell.metadata.nbgrader.points else text[:40]
    return None


def _range(cell: NotebookNode) -> str:
    return f"0 to {cell.metadata.nbgrader.points:g}"
