"""A run: every submission of a set through the engine, and what comes of it: gradebook, feedback, CSV, report."""

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .course import SAMPLE, Course, GradingError
from .export import harmless, table, write_csv
from .manifest import Outcome
from .pool import run_all
from .progress import Progress
from .settings import ENGINES, Settings

if TYPE_CHECKING:
    from .coordinator import Coordinator
    from .gradebook import Score

__all__ = ["ENGINES", "Outcome", "Settings", "grade", "harmless", "table"]


def grade(
    ps: str,
    *,
    course: Course | None = None,
    students: Sequence[str] = (),
    settings: Settings | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    force: bool = False,
    tell: Callable[[str], None] = lambda line: None,
    bar: bool = False,
    **changed: Any,
) -> list[Outcome]:
    """Grade a set's submissions into the gradebook, with feedback pages, a report and a CSV of the scores.

    A submission that was graded before and has not changed since is not run again; its page and its line of the CSV
    take in what a person has changed in the gradebook since: marks, comments, due dates.

    Args:
        ps: the set's name.
        course: the course; by default the one around the working directory.
        students: names or patterns such as ``sample-*``; by default all.
        settings: how submissions are run.
        workers: worker processes; by default one for each processor.
        scheduler: the address of a Dask scheduler, whose workers run the submissions instead.
        force: run what has not changed, too.
        tell: called with a line for each submission as it is done.
        bar: draw a progress bar on the terminal, and tell only of what could not be graded.
        **changed: single settings by name, such as ``cell_seconds=20``.

    Returns:
        One outcome per submission, those that could not be graded included, in the order of the students' names.

    Raises:
        GradingError: unknown set, nothing submitted, no such student, marks given by hand would be lost, or no
            scheduler at that address.
    """
    from .collect import students as handed_in
    from .kernels.server import begin
    from .manifest import read_manifest
    from .sandbox import unavailable

    course, settings = course or Course.find(), replace(settings or Settings(), **changed)
    course.source(ps)
    if settings.engine == "kernels" and settings.sandbox and not scheduler and (why := unavailable()):
        raise GradingError(
            f"{why} --no-sandbox runs students' code all the same, with the rights of whoever grades: it can read "
            "solutions and other submissions, write the gradebook and use the network."
        )
    found = handed_in(course, ps)
    if not found:
        raise GradingError(f"submitted/ has nothing for {ps}: put notebooks at submitted/<student>/{ps}/{ps}.ipynb.")
    chosen = [s for s in found if not students or any(fnmatch.fnmatchcase(s, p) for p in students)]
    missing = [p for p in students if not any(fnmatch.fnmatchcase(s, p) for s in found)]
    if missing:
        raise GradingError(f"submitted/ has nothing for {ps} from {', '.join(missing)}.")
    with _alone(course, ps):
        before = read_manifest(course, ps)
        fresh = force or not all(student in before and before[student].ok for student in chosen)
        if settings.engine == "kernels" and not scheduler and fresh:
            begin()  # it loads torch on one processor while nbgrader is loaded here, on another
        with (
            Progress(len(chosen), tell, bar=bar) as progress,
            _open(course, ps, settings, progress, force=force) as work,
        ):
            tasks = work.tasks(chosen)
            if settings.engine == "nbgrader":
                results = work.by_nbgrader(tasks)
            else:
                results = run_all(tasks, workers=workers, scheduler=scheduler)
            with closing(results):
                for task, result in results:
                    work.finish(task, result)
    return [work.outcomes[student] for student in chosen]


def publish(ps: str, *, course: Course | None = None, tell: Callable[[str], None] = lambda line: None) -> list[Outcome]:
    """Make pages, CSV and report anew from what is recorded, without running anything.

    Args:
        ps: the set's name.
        course: the course; by default the one around the working directory.
        tell: called with a line for each submission whose page was made.

    Returns:
        The outcomes that are recorded, by student.

    Raises:
        GradingError: unknown set, or nothing of it was graded.
    """
    from .manifest import read_manifest

    course = course or Course.find()
    course.source(ps)
    with _alone(course, ps):
        graded = [student for student, outcome in read_manifest(course, ps).items() if outcome.ok]
        if not graded:
            raise GradingError(f"nothing of {ps} was graded yet: `python -m grading run {ps}` grades it.")
        with Progress(len(graded), tell) as progress, _open(course, ps, Settings(), progress) as work:
            for student in graded:
                work.show_again(student)
        return [work.manifest.outcomes[student] for student in sorted(work.manifest.outcomes)]


def overview(ps: str, *, course: Course | None = None) -> str:
    """Return what was graded so far, in a few lines to read in a terminal.

    Args:
        ps: the set's name.
        course: the course; by default the one around the working directory.
    """
    from .manifest import read_manifest
    from .notebook import read
    from .record import Record
    from .report import report, summary

    course = course or Course.find()
    release = read(course.released(ps))
    with Record(course, ps, release) as record:
        return summary(report(release, *_current(course, ps, read_manifest(course, ps), record.scores())))


def _current(
    course: Course, ps: str, outcomes: Mapping[str, Outcome], held: Mapping[str, "Score"]
) -> tuple[dict[str, Outcome], dict[str, "Score"]]:
    """Return what counts now, of all that was ever graded.

    Whoever is neither in ``submitted/`` nor in the gradebook has left; samples count only among themselves.
    """
    from .collect import students as handed_in

    present = {*handed_in(course, ps), *held}
    real = {student for student in present if not student.startswith(SAMPLE)}
    counted = {}
    for student in (real or present) & outcomes.keys():
        outcome = outcomes[student]
        if outcome.ok and student not in held:
            message = f"no longer in the gradebook: `python -m grading run {ps}` grades it."
            outcome = replace(outcome, state="failed", message=message)
        counted[student] = outcome
    return counted, {student: score for student, score in held.items() if student in (real or present)}


@contextmanager
def _open(
    course: Course, ps: str, settings: Settings, progress: Progress, *, force: bool = False
) -> "Iterator[Coordinator]":
    """Open gradebook and manifest for a coordinator; at the end write the CSV and the report of what they hold."""
    from . import contract
    from .coordinator import Coordinator
    from .gradebook import enter_set
    from .manifest import Manifest
    from .notebook import questions
    from .record import Record
    from .report import write_report

    agreed = contract.read(course, ps) if settings.engine == "kernels" else contract.Contract({})
    issue = enter_set(course, ps)  # may drop scores that are about to be made again: so nothing is refused after it
    with Manifest(course, ps) as manifest, Record(course, ps, issue.release) as record:
        yield Coordinator(course, ps, settings, agreed, issue, record, manifest, progress, force)
        outcomes, held = _current(course, ps, manifest.outcomes, record.scores())
        write_csv(course.grades / f"{ps}.csv", questions(issue.release), outcomes, held)
        write_report(course, ps, issue.release, outcomes, held)


@contextmanager
def _alone(course: Course, ps: str) -> Iterator[None]:
    """Refuse to run beside another run of the same set; the lock of one that was killed is free."""
    import fcntl

    course.grades.mkdir(exist_ok=True)
    with (course.grades / f".{ps}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise GradingError(f"another run is grading {ps}: wait until it is done.") from None
        yield
