"""What a student does beside answering: take a copy to work on, and hand it in."""

import shutil
from pathlib import Path

from .course import SAMPLE, Course, GradingError, check_student
from .notebook import is_answer, marked, read


def start(*sets: str, course: Course | None = None) -> dict[Path, str]:
    """Copy released problem sets into ``work/``, where they are answered; what is there already stays as it is.

    Args:
        sets: names of sets; by default all that are released.
        course: the course; by default the one around the working directory.

    Returns:
        For each notebook in ``work/`` what became of it: ``new``, ``kept``, or ``kept, older than the release``.

    Raises:
        GradingError: a set that is unknown or not released.
    """
    course = course or Course.find()
    told = {}
    for ps in sets or course.released_sets():
        released = course.released(ps)
        mine = course.work / ps / released.name
        if mine.exists():
            told[mine] = "kept" if _same_release(mine, released) else "kept, older than the release"
            continue
        shutil.copytree(released.parent, mine.parent, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
        told[mine] = "new"
    return told


def _same_release(mine: Path, released: Path) -> bool:
    try:
        return _locked(mine) == _locked(released)
    except GradingError:
        return True  # a damaged copy is not an old one; JupyterLab will say what is wrong with it


def _locked(path: Path) -> set[str]:
    return {cell.metadata.nbgrader.get("checksum", "") for cell in marked(read(path)) if not is_answer(cell)}


def hand_in(ps: str, name: str, *, notebook: Path | None = None, course: Course | None = None) -> Path:
    """Put a notebook where it is graded from: ``submitted/<name>/<set>/``.

    Args:
        ps: the set's name.
        name: the student's name.
        notebook: the notebook; by default the one in ``work/``.
        course: the course; by default the one around the working directory.

    Returns:
        The notebook handed in.

    Raises:
        GradingError: unknown set, no such notebook, or a name that cannot be a student's.
    """
    course = course or Course.find()
    course.released(ps)
    check_student(name)
    if name.startswith(SAMPLE):
        raise GradingError(f"names that start with {SAMPLE!r} belong to the sample students.")
    notebook = notebook or course.work / ps / f"{ps}.ipynb"
    if not notebook.is_file():
        raise GradingError(f"there is no {notebook}: `python -m grading start {ps}` makes a copy to answer.")
    read(notebook)
    target = course.submitted / name / ps / f"{ps}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(notebook, target)
    return target
