"""The command line: ``python -m grading --help``."""

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .course import SAMPLE_SECONDS, Course, GradingError

if TYPE_CHECKING:
    from .manifest import Outcome

_EPILOG = """\
a student's day                          an instructor's day
  python -m grading lab                    python -m grading lint ps01
    answer work/ps01/ps01.ipynb,           python -m grading release ps01
    run it, press Validate                 python -m grading corpus ps01
  python -m grading self ps01              python -m grading bundle
    hand it in as your course says         python -m grading run ps01
                                           python -m grading lab   (Nbgrader > Formgrader: marks by hand)
                                           python -m grading run ps01   (new marks into feedback and CSV)

Exit status: 0 all is well; 1 something could not be graded, a check of the corpus failed, or lint found something;
2 wrong use."""


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    top = argparse.ArgumentParser(
        prog="python -m grading",
        description="Release and grade the problem sets. nbgrader keeps the record (gradebook.db).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--course", default=".", metavar="DIR", help="a folder of the course (default: here)")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str, description: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}. {description}".strip())

    p = add(
        "release",
        "write the student version of problem sets",
        "Reads solutions/, writes exercises/: no solutions, no hidden tests, the same bytes every time. "
        "The gradebook is not touched.",
    )
    p.add_argument("sets", nargs="*", metavar="psNN", help="default: all")

    p = add(
        "run",
        "grade what is in submitted/",
        "Each submitted/<student>/<set>/<set>.ipynb is checked, mended where something is missing, run, and scored "
        "into the gradebook; the student's page goes to feedback/<student>/<set>/, the scores to grades/<set>.csv, a "
        "report to grades/<set>.html. Students' code runs in a sandbox, checks outside it. What was graded before and "
        "has not changed is not run again, but takes in marks given by hand since; a run that was cut off goes on.",
    )
    p.add_argument("set", metavar="psNN")
    p.add_argument(
        "students", nargs="*", default=[], metavar="STUDENT", help="names or patterns such as 'b*' (default: all)"
    )
    p.add_argument("--cell-seconds", type=int, default=60, metavar="N", help="time limit of one cell (default: 60)")
    p.add_argument(
        "--notebook-seconds", type=int, metavar="N", help="limit of all answers and checks (default: ten cells')"
    )
    p.add_argument(
        "--memory", type=float, default=4.0, metavar="GIB", help="memory of a submission's code (default: 4)"
    )
    p.add_argument("--workers", type=int, metavar="N", help="submissions at a time (default: one per processor)")
    p.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler, tcp://..., whose workers run them")
    p.add_argument(
        "--late", choices=("timestamp", "file"), default="timestamp",
        help="when it was handed in: nbgrader's timestamp.txt, or else also the notebook's own time",
    )  # fmt: skip
    p.add_argument("--engine", choices=("kernels", "nbgrader"), default="kernels", help="nbgrader: the plain way")
    p.add_argument(
        "--no-sandbox", action="store_true", help="run students' code with your own rights (see SECURITY.md)"
    )
    p.add_argument("--force", action="store_true", help="run again what has not changed")

    for name, help in (("feedback", "make the students' pages anew"), ("report", "sum up what was graded")):
        p = add(name, help, "From the gradebook as it is now, marks given by hand included; nothing is run.")
        p.add_argument("set", metavar="psNN")

    p = add(
        "samples",
        "write the sample submissions",
        "One perfect, one half right, one untouched, one that crashes, one that never ends: submitted/sample-*/. Their "
        f"cells have {SAMPLE_SECONDS} seconds. They count in no report or CSV once somebody else's work is there.",
    )
    p.add_argument("set", metavar="psNN")
    p.add_argument(
        "--grade",
        action="store_true",
        help="grade them too; nothing is done at all where submitted/ holds anybody else's work",
    )

    p = add(
        "corpus",
        "score the answers whose worth is known",
        "Every right and wrong answer in tests/grading/corpus/<set>/, the reference, the untouched stub, and wrong "
        "answers made from the reference (NaN, nothing, another shape, zeros, the input).",
    )
    p.add_argument("set", metavar="psNN")
    p.add_argument("questions", nargs="*", metavar="qN", help="default: all")

    p = add(
        "lint",
        "look through the checks of problem sets",
        "Finds names that nobody defines, comparisons that let NaN through, hidden values that a student could read, "
        "what cannot work across processes, questions without a corpus. A line that is right as it is says "
        "'# lint: ok RULE (why)'.",
    )
    p.add_argument("sets", nargs="*", metavar="psNN", help="default: all")

    p = add(
        "bundle",
        "write the archive for students",
        "The released sets, the library, the pages and, where it is built, the website; no solutions, hidden tests or "
        "anybody's work.",
    )
    p.add_argument("--out", type=Path, metavar="FILE", help="default: _build/ebm-course.zip")

    p = add("start", "copy released sets into work/ to answer them", "What is there already stays as it is.")
    p.add_argument("sets", nargs="*", metavar="psNN", help="default: all that are released")

    p = add(
        "self",
        "grade your own notebook",
        "Runs work/<set>/<set>.ipynb as a grader would, and writes the feedback page to work/<set>/feedback.html: with "
        "the hidden tests where solutions/ is at hand, else with the checks that you can see. Nothing is recorded.",
    )
    p.add_argument("set", metavar="psNN")
    p.add_argument(
        "--notebook", type=Path, metavar="FILE", help="another notebook; its page goes beside it, to X-feedback.html"
    )
    p.add_argument("--open", action="store_true", help="show the page in the browser")

    p = add(
        "submit",
        "hand in a notebook, where the instructor's copy of the course is",
        "Copies work/<set>/<set>.ipynb to submitted/<name>/<set>/.",
    )
    p.add_argument("set", metavar="psNN")
    p.add_argument("--as", required=True, dest="name", metavar="NAME", help="the student's name")

    add(
        "lab",
        "open JupyterLab with nbgrader's extensions",
        "Copies the released sets into work/ first. Other options go to `jupyter lab`: --no-browser, --port N.",
    )
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    args, extra = parser().parse_known_args(argv)
    if args.command == "run":  # argparse takes no names after an option
        args.students += [name for name in extra if not name.startswith("-")]
        extra = [option for option in extra if option.startswith("-")]
    if extra and args.command != "lab":
        parser().error(f"unrecognized arguments: {' '.join(extra)}")
    try:
        course = Course.find(args.course)
        return _COMMANDS[args.command](course, args, extra)
    except GradingError as e:
        print(f"grading: {e}", file=sys.stderr)
        return 2
    except OSError as e:
        print(f"grading: {e.filename or args.command}: {e.strerror or e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ngrading: stopped; what was graded so far is kept", file=sys.stderr)
        return 130


def _release(course: Course, args: argparse.Namespace, extra: list[str]) -> int:
    from .student_version import release

    for ps in args.sets or course.sets():
        print(f"{ps}: {release(ps, course=course).relative_to(course.root)}")
    return 0


def _run(course: Course, args: argparse.Namespace, extra: list[str]) -> int:
    if args.no_sandbox and args.engine == "kernels":
        print(
            "grading: no sandbox: students' code has your rights here, and what the set forbids is not kept from it.",
            file=sys.stderr,
        )
    return _grade(
        course,
        args.set,
        students=args.students,
        cell_seconds=args.cell_seconds,
        notebook_seconds=args.notebook_seconds,
        memory_bytes=int(args.memory * 2**30),
        workers=args.workers,
        scheduler=args.scheduler,
        late=args.late,
        engine=args.engine,
        sandbox=not args.no_sandbox,
        force=args.force,
    )


def _grade(course: Course, ps: str, **options: object) -> int:
    from .run import grade

    outcomes = grade(ps, course=course, tell=_say, bar=sys.stderr.isatty(), **options)
    return _told(course, ps, outcomes)


def _say(line: str) -> None:
    print(line, flush=True)


def _told(course: Course, ps: str, outcomes: "Sequence[Outcome]") -> int:
    from .export import table
    from .run import overview

    print(f"\n{table(outcomes)}\n\n{overview(ps, course=course)}\n")
    print(f"Scores: grades/{ps}.csv   report: grades/{ps}.html   pages: feedback/<student>/{ps}/{ps}.html")
    lost = [o.student for o in outcomes if not o.ok]
    if lost:
        print(f"grading: not graded: {', '.join(lost)} (see above); everyone else is.", file=sys.stderr)
    return 1 if lost else 0


def _feedback(course: Course, args: argparse.Namespace, extra: list[str]) -> int:
    from .run import publish

    outcomes = publish(args.set, course=course, tell=_say)
    graded = sum(o.ok for o in outcomes)
    print(f"{graded} pages are up to date: feedback/<student>/{args.set}/{args.set}.html")
    if graded < len(outcomes):
        print(f"grading: {len(outcomes) - graded} submissions have no score to show.", file=sys.stderr)
    return 0


def _report(course: Course, args: argparse.Namespace, extra: list[str]) -> int:
    from .run import publish

    return _told(course, args.set, publish(args.set, course=course))


def _samples(course: Course, args: argparse.Namespace, extra: list[str]) -> int:
    from .course import SAMPLE
    from .sample_students import own_submissions, samples

    if args.grade and own_submissions(course):
        print("submitted/ holds work of your students: the samples stay away.")
        return 0
    for path in samples(args.set, course=course):
        print(path.relative_to(course.root))
    if not args.grade:
        return 0
    from .sandbox import unavailable

    engine = "kernels"
    if why := unavailable():
        print(f"*** {why} The samples are the course's own, so plain nbgrader runs them here, unprotected. ***")
        engine = "nbgrader"
    return _grade(course, args.set, students=[f"{SAMPLE}*"], engine=engine)


def _corpus(course: Course, args: argparse.Namespace, extra: list[str]) -> int:
    from .corpus import complaints, examine, report

    verdicts = examine(course, args.set, args.questions)
    print(report(verdicts))
    wrong = complaints(verdicts)
    print("\n" + ("\n".join(wrong) if wrong else f"All {len(verdicts)} answers got what they deserve."))
    return 1 if wrong else 0


def _lint(course: Course, args: argparse.Namespace, extra: list[str]) -> int:
    from .lint import lint

    if not course.sets():
        raise GradingError("there is nothing to look through: solutions/ holds no set.")
    found = {ps: lint(course, ps) for ps in args.sets or course.sets()}
    for ps, findings in found.items():
        for finding in findings:
            print(f"{ps} {finding}")
        if not findings:
            print(f"{ps}: nothing to mend.")
    return 1 if any(found.values()) else 0


def _start(course: Course, args: argparse.Namespace, extra: list[str]) -> int:
    from .student import start

    for path, told in start(*args.sets, course=course).items():
        print(f"{path.relative_to(course.root)}: {told}")
    return 0


def _self(course: Course, args: argparse.Namespace, extra: list[str]) -> int:
    from .self_grading import grade_own, told

    own = grade_own(args.set, course=course, notebook=args.notebook)
    print(f"{told(own)}\nPage: {own.page}")
    if args.open:
        webbrowser.open(own.page.as_uri())
    return 0


def _bundle(course: Course, args: argparse.Namespace, extra: list[str]) -> int:
    from .bundle import bundle, contents

    path = bundle(course, args.out)
    print(f"{path}: {contents(path)}")
    return 0


def _submit(course: Course, args: argparse.Namespace, extra: list[str]) -> int:
    from .student import hand_in

    path = hand_in(args.set, args.name, course=course).relative_to(course.root)
    if course.sets():
        print(f"handed in: {path}")
    else:
        print(f"copied to {path}. Nobody receives it from here: give your notebook to your instructor.")
    return 0


def _lab(course: Course, args: argparse.Namespace, extra: list[str]) -> int:
    from .lab import open_lab

    _start(course, argparse.Namespace(sets=[]), [])
    sys.stdout.flush()
    open_lab(course, extra)
    return 0


_COMMANDS = {
    "release": _release,
    "run": _run,
    "feedback": _feedback,
    "report": _report,
    "samples": _samples,
    "corpus": _corpus,
    "lint": _lint,
    "bundle": _bundle,
    "start": _start,
    "self": _self,
    "submit": _submit,
    "lab": _lab,
}

if __name__ == "__main__":
    sys.exit(main())
