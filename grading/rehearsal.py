"""The reference solution, run as a submission would be: settles a set's contract before any student meets it."""

import copy
from dataclasses import replace

import nbformat
from nbformat import NotebookNode

from . import contract, sandbox
from .contract import Contract
from .corpus import reference
from .course import Course, GradingError
from .kernels.session import execute
from .kernels.task import EngineError, Task
from .notebook import grade_id, is_answer, is_check, points, question, read
from .student_version import own_files


def reference_notebook(nb: NotebookNode) -> NotebookNode:
    """Return the instructor's notebook as a student who knows everything would hand it in, with its hidden tests.

    Args:
        nb: the instructor's notebook.
    """
    nb = copy.deepcopy(nb)
    for cell in nb.cells:
        if cell.cell_type == "code" and is_answer(cell):
            cell.source = reference(nb, question(cell)).source
    return nb


def rehearse(course: Course, ps: str) -> Contract:
    """Run a set's reference solution through both kernels and return its contract.

    What gave a handle here may give one in a submission; everything else must be data.

    Args:
        course: the course.
        ps: the set's name.

    Raises:
        GradingError: the names of a check are nobody's, or the reference solution loses a check.
    """
    nb = read(course.source(ps))
    draft = contract.draft(nb)
    boxed = sandbox.unavailable() is None
    task = Task(
        "reference", ps, nbformat.writes(reference_notebook(nb)), draft.remote, None, draft.forbidden,
        hidden=[str(course.root)], given=own_files(course, ps), notebook_seconds=1800, cell_seconds=600, sandbox=boxed,
    )  # fmt: skip
    try:
        done = execute(task)
    except EngineError as e:
        raise GradingError(f"{ps}: {e}.") from e
    for cell in nbformat.reads(done.notebook, as_version=4).cells:
        failed = [out for out in cell.get("outputs", []) if out.output_type == "error"]
        if failed and (is_check(cell) or is_answer(cell)):
            where = f"{ps}: the reference solution fails at {grade_id(cell)}"
            if is_check(cell):
                where += f" ({points(cell):g} points)"
            raise GradingError(f"{where}: {failed[0].ename}: {failed[0].evalue}")
    return replace(draft, handles=done.handles)


def settle(course: Course, ps: str) -> Contract:
    """Return a set's contract; made anew, by a rehearsal, only where the set's code has changed.

    Args:
        course: the course.
        ps: the set's name.

    Raises:
        GradingError: see :func:`rehearse`.
    """
    try:
        return contract.read(course, ps)
    except GradingError:
        made = rehearse(course, ps)
        contract.write(course, ps, made)
        return made
