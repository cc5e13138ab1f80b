"""From submissions to records: everything that a run writes is written here, in one process and one thread.

For each submission, in this order: the autograded notebook, then the gradebook, then the page, then the line in the
manifest. Formgrader shows the notebook of whatever is in the gradebook, so the notebook comes first; the page shows the
gradebook, so it comes after; and only what is in the manifest counts as done. A run that is killed anywhere leaves
whole files and whole records, and the next run does again what has no line.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from dataclasses import replace as copy_with
from datetime import datetime
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import reads_json, writes_json

from .collect import SECRET, TIMESTAMP, collect, readable, timestamp
from .contract import Contract
from .course import CONFIG, Course, GradingError, check_student
from .feedback import graded_page, messages, page
from .gradebook import GradebookGone, Issue, Score
from .intake import Submission, task, understand, write_files
from .kernels.task import Executed, Task
from .manifest import GRADED, Manifest, Outcome, replace
from .notebook import grade_id, is_answer, is_check
from .progress import Progress
from .record import Record
from .settings import Settings

_LONGEST_LINE = 2_000  # characters of a message
_MESSAGE = 300  # characters of what a check said that the manifest keeps


@dataclass
class _UnderWay:
    """What is known of a submission while it is being run."""

    digest: str
    notes: list[str]
    submitted: datetime | None
    submission: Submission


@dataclass
class Coordinator:
    """One run's way from submissions to records.

    Args:
        course: the course.
        ps: the set's name.
        settings: how submissions are run.
        contract: which names the checks take from the student.
        issue: the set as it is graded now.
        record: its scores in the gradebook, open.
        manifest: what came of earlier runs, open.
        progress: told of each submission.
        force: whether to run what has not changed, too.
    """

    course: Course
    ps: str
    settings: Settings
    contract: Contract
    issue: Issue
    record: Record
    manifest: Manifest
    progress: Progress
    force: bool
    outcomes: dict[str, Outcome] = field(default_factory=dict, init=False)
    under_way: dict[str, _UnderWay] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Settle what all submissions have in common."""
        parts = [(self.course.root / CONFIG).read_bytes(), self.course.source(self.ps).read_bytes()]
        parts += [name.encode() + b"\0" + content for name, content in sorted(self.issue.files.items())]
        self.two_kernels = self.settings.engine == "kernels"
        parts.append(repr(self.contract).encode())
        self.with_what = hashlib.sha256(b"\0".join(parts)).hexdigest()
        here = Path(__file__).parent
        looks = sorted([*here.glob("templates/*"), *here.glob("feedback/*.py")])
        release = repr([(cell.get("id"), cell.source) for cell in self.issue.release.cells])
        self.look = hashlib.sha256(b"".join(p.read_bytes() for p in looks) + release.encode()).hexdigest()

    # --- before ----------------------------------------------------------------------------------------------------
    def tasks(self, students: Iterable[str]) -> Iterator[Task]:
        """Yield what has to be run, as the workers ask for it; all else is done on the way.

        Args:
            students: whose submissions.

        Raises:
            GradebookGone: nothing can be written any more.
        """
        for student in students:
            outcome = task = None
            try:
                try:
                    task = self._prepared(student)
                except GradebookGone:
                    raise
                except GradingError as e:
                    outcome = self._refused(student, str(e))
            except GradebookGone:
                raise
            except Exception as e:
                outcome = self._failed(student, e)
            if task is not None:
                yield task
            elif outcome is not None:
                self._done(student, outcome)

    def _prepared(self, student: str) -> Task | None:
        """Return the task of a submission, or None where its last result stands."""
        found = collect(self.course, self.ps, student)
        own = self.settings.of(student)
        digest = hashlib.sha256(f"{own}{self.with_what}{found.digest()}".encode()).hexdigest()
        before = self.manifest.outcomes.get(student)
        if not self.force and before is not None and before.ok and before.digest == digest:
            held = self.record.refresh(student)
            if held is not None and self._autograded(student).is_file():
                self._done(student, self._unchanged(before, held))
                return None
        submission = understand(found, self.issue.release)
        submitted, odd = timestamp(found, own.late)
        notes = [*submission.notes, *odd]
        self.under_way[student] = _UnderWay(digest, notes, submitted, submission)
        return task(
            submission, self.ps, self.issue.whole, self.contract, self.issue.files,
            hidden=[str(self.course.root)], cell_seconds=own.cell_seconds, notebook_seconds=own.total,
            memory_bytes=own.memory_bytes, output_bytes=own.output_bytes, sandbox=own.sandbox,
        )  # fmt: skip

    def by_nbgrader(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Executed | Exception]]:
        """Run submissions by plain nbgrader, one after the other; it also writes their scores.

        Args:
            tasks: from :meth:`tasks`.

        Yields:
            What :func:`grading.pool.run_all` would.
        """
        from .engine import autograde

        for one in tasks:
            with tempfile.TemporaryDirectory(prefix="grading-") as tmp:
                folder = Path(tmp).resolve()
                try:
                    self.under_way[one.student].submission.stage(folder / "submitted" / one.student / self.ps, self.ps)
                    self.record.clear(one.student)
                    ran = autograde(self.course, self.ps, folder, one.cell_seconds, one.notebook_seconds)
                    made = folder / "autograded" / one.student / self.ps / f"{self.ps}.ipynb"
                    text = made.read_text(encoding="utf-8") if ran.state in GRADED else "{}"
                except Exception as e:
                    yield one, e
                    continue
            yield one, Executed(text, ran.state, ran.message, seconds=ran.seconds)

    # --- after -----------------------------------------------------------------------------------------------------
    def finish(self, task: Task, result: Executed | Exception) -> None:
        """Write down what came of a submission.

        Args:
            task: what was run.
            result: what its kernels made of it, or the exception that the engine ended with.

        Raises:
            GradebookGone: nothing can be written any more.
        """
        student, known = task.student, self.under_way.pop(task.student)
        try:
            if isinstance(result, Exception):
                outcome = self._lost(student, f"{type(result).__name__}: {result}", 0.0)
            elif result.state not in GRADED:
                outcome = self._lost(student, result.message, result.seconds)
            else:
                outcome = self._recorded(task, result, known)
        except GradebookGone:
            raise
        except Exception as e:
            outcome = self._failed(student, e)
        self._done(student, outcome)

    def show_again(self, student: str) -> None:
        """Take what a person changed in the gradebook since into a submission's page.

        Args:
            student: whose submission; it was graded before.
        """
        held = self.record.refresh(student)
        if held is not None and self._autograded(student).is_file():
            self._done(student, self._unchanged(self.manifest.outcomes[student], held))

    def _recorded(self, task: Task, result: "Executed", known: _UnderWay) -> Outcome:
        student, nb, odd = task.student, reads_json(result.notebook), []
        if self.two_kernels:
            odd = self.record.settle(nb)
        content, same = f"{writes_json(nb)}\n".encode("utf-8", "replace"), self._same(student, nb)
        self._keep(student, {**task.files, **task.given, f"{self.ps}.ipynb": content})
        if self.two_kernels:
            held = self.record.record(student, nb, known.submitted, same=same)
        else:
            held = self.record.refresh(student)
        outcome = Outcome(
            student, result.state, message=_line(result.message, *odd, *known.notes), seconds=result.seconds, ran=True,
            cpu_seconds=result.cpu_seconds, memory=result.memory, digest=known.digest,
            executed=hashlib.sha256(content).hexdigest(),
            notes=[*result.notes, *known.notes], failures=_failures(nb, self.issue.release, held, known.notes),
        )  # fmt: skip
        self._show(outcome, held, nb)
        return _scored(outcome, held)

    def _same(self, student: str, nb: NotebookNode) -> set[str]:
        """Return which cells have not changed since they were scored: answers, and checks if no answer has either."""
        scored, path = self.manifest.outcomes.get(student), self._autograded(student)
        text = path.read_bytes() if path.is_file() else b""
        if scored is None or hashlib.sha256(text).hexdigest() != scored.executed:
            return set()  # of a run that was cut off, perhaps
        before = reads_json(text.decode())
        was, now = ({grade_id(c): c.source for c in one.cells if grade_id(c)} for one in (before, nb))
        same = {name for name, source in now.items() if was.get(name) == source}
        checks = {grade_id(c) for c in nb.cells if is_check(c)}
        answered = {grade_id(c) for c in nb.cells if is_answer(c)} <= same
        return same if answered else same - checks

    def _unchanged(self, before: Outcome, held: Score) -> Outcome:
        outcome = copy_with(before, ran=False)
        if self._fingerprint(outcome, held) != outcome.shown or not self._page(outcome.student).is_file():
            self._show(outcome, held, reads_json(self._autograded(outcome.student).read_text(encoding="utf-8")))
        return _scored(outcome, held)

    def _refused(self, student: str, message: str) -> Outcome:
        told = message
        try:
            check_student(student)
        except GradingError:
            return Outcome(readable(student), "refused", message=_line(told))  # no name to write a page for
        held = self.record.refresh(student)
        if held is not None:
            told += f" The gradebook still holds {held.score:g} points of an earlier submission."
        replace(self._page(student), page(self.ps, student, problem=message).encode("utf-8", "replace"))
        return Outcome(student, "refused", message=_line(told))

    def _lost(self, student: str, message: str, seconds: float) -> Outcome:
        """Note that the engine could not run a submission; no old score is left to pass for a new one."""
        self.record.clear(student)
        shutil.rmtree(self._autograded(student).parent, ignore_errors=True)
        replace(self._page(student), page(self.ps, student, trouble=True).encode("utf-8", "replace"))
        return Outcome(student, "failed", message=_line(message), seconds=seconds, ran=True)

    def _failed(self, student: str, error: Exception) -> Outcome:
        return Outcome(readable(student), "failed", message=_line(f"{type(error).__name__}: {error}"))

    def _done(self, student: str, outcome: Outcome) -> None:
        self.manifest.add(outcome)
        self.outcomes[student] = outcome
        self.progress.add(outcome)

    # --- files -----------------------------------------------------------------------------------------------------
    def _autograded(self, student: str) -> Path:
        return self.course.autograded / student / self.ps / f"{self.ps}.ipynb"

    def _page(self, student: str) -> Path:
        return self.course.feedback / student / self.ps / f"{self.ps}.html"

    def _keep(self, student: str, files: dict[str, bytes]) -> None:
        """Put the executed notebook and its files in the place of older ones, all at once."""
        folder = self._autograded(student).parent
        fresh, old = (folder.with_name(f".{folder.name}.{name}") for name in ("new", "old"))
        for left_over in (fresh, old):
            shutil.rmtree(left_over, ignore_errors=True)
        write_files(fresh, files)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)

    def _fingerprint(self, outcome: Outcome, held: Score) -> str:
        return hashlib.sha256(repr((self.look, held, outcome.notes, outcome.digest)).encode()).hexdigest()

    def _show(self, outcome: Outcome, held: Score, nb: NotebookNode) -> None:
        text = graded_page(self.ps, outcome.student, nb, held, self.issue.release, outcome.notes)
        replace(self._page(outcome.student), text.encode("utf-8", "replace"))
        for name in (TIMESTAMP, SECRET):  # nbgrader's release_feedback reads them beside the page
            if (handed_in := self._autograded(outcome.student).with_name(name)).is_file():
                replace(self._page(outcome.student).with_name(name), handed_in.read_bytes())
        outcome.shown = self._fingerprint(outcome, held)


def _scored(outcome: Outcome, held: Score) -> Outcome:
    outcome.score, outcome.max_score, outcome.pending = held.score, held.max_score, held.pending
    outcome.penalty, outcome.questions = held.penalty, held.questions
    return outcome


def _failures(nb: NotebookNode, release: NotebookNode, held: Score, notes: list[str]) -> dict[str, str]:
    """Return what each check said that did not give all its points."""
    said, code = messages(nb, release, notes), {grade_id(cell) for cell in nb.cells if cell.cell_type == "code"}
    return {
        name: _line(said.get(name) or f"{mark.got:g} of {mark.of:g} points")[:_MESSAGE]
        for name, mark in held.marks.items()
        if name in said and name in code and mark.got < mark.of
    }


def _line(*parts: str) -> str:
    """Return text as one line for a terminal and a table: no character in it means anything but itself."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(" ".join(parts).split()))
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"
