"""What was handed in, checked and mended before anything runs.

A release says which cells a submission must have, where, and worth what. What a student lost or changed by accident
is put back from the release and reported; what cannot be mended is refused with a sentence for the student.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbformat import NotebookNode
from nbformat.v4 import writes_json

from .collect import HandedIn, collect
from .course import Course, GradingError
from .loading import load
from .notebook import grade_id, is_answer, is_check, marked, read

if TYPE_CHECKING:
    from .contract import Contract
    from .kernels.task import Task

_KINDS = ("answer cell", "check", "given cell")
_MOST_NOTES, _LONGEST_NOTE = 20, 400
_SETTINGS = ("points", "grade", "solution", "locked", "task")


@dataclass
class Submission:
    """One student's notebook, ready to be graded.

    Args:
        student: the student's name.
        notebook: what was handed in, mended; no outputs.
        files: what was handed in beside it, by path.
        notes: what was mended or left out, one sentence each.
    """

    student: str
    notebook: NotebookNode
    files: dict[str, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def stage(self, folder: Path, ps: str) -> None:
        """Write the submission where nbgrader is to find it.

        Args:
            folder: an empty or missing folder.
            ps: the set's name.
        """
        write_files(folder, {**self.files, f"{ps}.ipynb": f"{writes_json(self.notebook)}\n".encode()})


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files below a folder that nobody else writes to.

    Args:
        folder: the folder; made where it is missing.
        files: contents by path relative to it.
    """
    for name, content in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def take_in(course: Course, ps: str, student: str, release: NotebookNode) -> Submission:
    """Read and mend one submission.

    Args:
        course: the course.
        ps: the set's name.
        student: the name of a folder in ``submitted/``.
        release: the set as it is handed out now.

    Raises:
        GradingError: it cannot be graded; the message is for the student and the instructor.
    """
    return understand(collect(course, ps, student), release)


def understand(found: HandedIn, release: NotebookNode) -> Submission:
    """Make a submission of what was read.

    Args:
        found: what was handed in.
        release: the set as it is handed out now.

    Raises:
        GradingError: it cannot be graded; the message is for the student and the instructor.
    """
    name, notebook, notes = _choose(found, release)
    mended, more = mend(notebook, release)
    if name != f"{found.ps}.ipynb":
        notes.insert(0, f"{name} was taken for {found.ps}.ipynb.")
    return Submission(found.student, mended, found.files, _few([*notes, *more, *found.notes]))


def _few(notes: list[str]) -> list[str]:
    """Return notes that a person can read, whatever a submission gave rise to."""
    notes = [note if len(note) <= _LONGEST_NOTE else f"{note[:_LONGEST_NOTE]}…" for note in dict.fromkeys(notes)]
    return notes if len(notes) <= _MOST_NOTES else [*notes[:_MOST_NOTES], f"And {len(notes) - _MOST_NOTES:,} more."]


def _choose(found: HandedIn, release: NotebookNode) -> tuple[str, NotebookNode, list[str]]:
    """Return the notebook that is the set's."""
    expected = f"{found.ps}.ipynb"
    if expected in found.notebooks:
        return expected, *load(found.notebooks[expected], expected)
    known = {grade_id(cell) for cell in marked(release)}
    fitting, reason = [], ""
    for name, content in found.notebooks.items():
        try:
            notebook, notes = load(content, name)
        except GradingError as e:
            reason = str(e)
            continue
        if known & {grade_id(cell) for cell in notebook.cells}:
            fitting.append((name, notebook, notes))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(name for name, _, _ in fitting)
        raise GradingError(f"several notebooks could be {expected} ({names}): hand in one.")
    where = f"It belongs at submitted/{found.student}/{found.ps}/{expected}."
    raise GradingError(f"no {expected}: {reason or f'{min(found.notebooks)} is something else.'} {where}")


# --- mending -------------------------------------------------------------------------------------------------------
def mend(notebook: NotebookNode, release: NotebookNode) -> tuple[NotebookNode, list[str]]:
    """Put back what a notebook lost since its release.

    Cells are recognised by their ``grade_id``, or, where an editor dropped it, by their cell id. Every recognised cell
    gets the metadata of its release (points, locks, tags: a test cell tagged ``skip-execution`` would count as
    passed); of a cell that was copied the last one counts, as it does when the notebook runs; a missing cell is put
    back after the one it followed.

    Args:
        notebook: what was handed in.
        release: what was handed out.

    Returns:
        The mended notebook and what was mended, one sentence each.

    Raises:
        GradingError: nothing of the release is in it.
    """
    nb, notes = copy.deepcopy(notebook), []
    wanted = {grade_id(cell): cell for cell in marked(release)}
    by_cell_id = {cell.id: name for name, cell in wanted.items()}
    released = {cell.id: cell for cell in release.cells}
    place: dict[str, int] = {}
    marks: dict[str, dict] = {}
    for i, cell in enumerate(nb.cells):
        name = grade_id(cell)
        if name not in wanted and name is None and cell.get("id") in by_cell_id:
            name = by_cell_id[cell.id]
        mark = cell.metadata.get("nbgrader")
        cell.metadata = copy.deepcopy(released[cell.id].metadata) if cell.id in released else NotebookNode()
        cell.metadata.pop("nbgrader", None)
        if name not in wanted:
            continue
        if name in place:
            notes.append(f"There were two cells {name}: the last one counts.")
        place[name], marks[name] = i, mark
    if not place:
        raise GradingError("this is another notebook: none of the problem set's cells is in it.")
    # All sets name their cells alike, so another set's notebook has the names and not the checks.
    locked = {name for name, cell in wanted.items() if not is_answer(cell)}
    changed = [name for name in place if name in locked and nb.cells[place[name]].source != wanted[name].source]
    if len(locked) > 1 and set(changed) == locked:
        raise GradingError("this is another set's notebook: none of its checks and given cells is one of this set's.")
    for name, i in place.items():
        nb.cells[i], more = _restored(nb.cells[i], wanted[name], marks[name])
        notes += more
    if changed:
        notes.append(
            f"{_listed(wanted, changed)} {_was(changed)} not as the set has it now (changed, or handed out before the "
            "set was): the set's own counted."
        )
    missing = _put_back(nb, release, wanted)
    if missing:
        notes.append(f"{_listed(wanted, missing)} {_was(missing)} missing and {_was(missing)} put back.")
    seen: set[str] = set()
    for i, cell in enumerate(nb.cells):
        if cell.id in seen:
            cell.id = f"cell-{i}"
        seen.add(cell.id)
    nb.metadata = copy.deepcopy(release.metadata)
    nb.nbformat, nb.nbformat_minor = release.nbformat, release.nbformat_minor
    return nb, notes


def _restored(cell: NotebookNode, original: NotebookNode, mark: Any) -> tuple[NotebookNode, list[str]]:
    """Return a released cell with what a student may change in it."""
    name, notes = grade_id(original), []
    what = f"The {_kind(original)} {name}"
    changed = not is_answer(original) and cell.source != original.source  # which says all
    if (
        not changed
        and isinstance(mark, dict)
        and any(mark.get(s) != original.metadata.nbgrader.get(s) for s in _SETTINGS)
    ):
        notes.append(f"The settings of {what[0].lower()}{what[1:]} (its points, or what it is) were put back.")
    if is_answer(original) and cell.cell_type != original.cell_type:
        now, then = (("text", "raw text")[c.cell_type == "raw"] if c.cell_type != "code" else "code"
                     for c in (cell, original))  # fmt: skip
        notes.append(f"{what} had been turned into a {now} cell. It was run and read as {then}, which it was made for.")
    fresh = copy.deepcopy(original)
    if is_answer(original):
        fresh.source = cell.source
        if "attachments" in cell and fresh.cell_type == "markdown":
            fresh.attachments = cell.attachments
    fresh.id = cell.id
    return fresh, notes


def _put_back(nb: NotebookNode, release: NotebookNode, wanted: dict[str, NotebookNode]) -> list[str]:
    """Insert what is missing, each after the cell it followed; return its names."""
    at, missing = 0, []
    for original in release.cells:
        name = grade_id(original)
        here = next((i for i, cell in enumerate(nb.cells) if _same(cell, original)), None)
        if here is not None:
            at = here + 1
        elif name in wanted:
            nb.cells.insert(at, copy.deepcopy(original))
            at += 1
            missing.append(name)
    return missing


def _listed(wanted: dict[str, NotebookNode], names: list[str]) -> str:
    """Begin a sentence with cells: a few by name, many by number."""
    kinds = {kind: [name for name in names if _kind(wanted[name]) == kind] for kind in _KINDS}
    parts = []
    for kind, some in kinds.items():
        if some:
            shown = ", ".join(some if len(some) <= 4 else [*some[:3], "…"])
            parts.append(f"the {kind} {shown}" if len(some) == 1 else f"{len(some)} {kind}s ({shown})")
    text = " and ".join(parts)
    return f"{text[0].upper()}{text[1:]}"


def _was(names: list[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _same(cell: NotebookNode, original: NotebookNode) -> bool:
    """Whether a mended notebook's cell is this one of the release."""
    name = grade_id(original)
    return grade_id(cell) == name if name else cell.id == original.id


def _kind(cell: NotebookNode) -> str:
    return "check" if is_check(cell) else "answer cell" if is_answer(cell) else "given cell"


# --- for the examiner ----------------------------------------------------------------------------------------------
def whole(course: Course, ps: str) -> NotebookNode:
    """Return a set as nbgrader keeps it for grading: no solutions, but hidden tests, points and checksums.

    These are the steps of a release up to the one that would write to the gradebook.

    Args:
        course: the course.
        ps: the set's name.

    Raises:
        GradingError: unknown set, or nbgrader refuses the notebook.
    """
    from .quiet import quietly

    config = course.config()
    steps: list[str] = list(config.GenerateAssignment.preprocessors)
    nb, resources = read(course.source(ps)), {"nbgrader": {"assignment": ps, "notebook": ps}}
    resources["metadata"] = {"name": ps, "path": str(course.solutions / ps)}
    with quietly() as log:
        for step in steps[: steps.index("nbgrader.preprocessors.SaveCells")]:
            module, _, name = step.rpartition(".")
            make: Callable = getattr(import_module(module), name)
            try:
                nb, resources = make(config=config)(nb, resources)
            except Exception as e:
                raise GradingError(f"{ps} cannot be graded: {log.reason(e)}") from e
    return nb


def examined(submission: NotebookNode, instructors: NotebookNode) -> NotebookNode:
    """Return a mended submission in which what is locked is the instructor's: checks with their hidden tests.

    Args:
        submission: the mended submission.
        instructors: from :func:`whole`.
    """
    theirs = {grade_id(cell): cell for cell in marked(instructors)}
    nb = copy.deepcopy(submission)
    for cell in nb.cells:
        original = theirs.get(grade_id(cell))
        if original is not None:
            cell.metadata = copy.deepcopy(original.metadata)
            if not is_answer(original):
                cell.source = original.source
    return nb


def _in_the_way(path: str, given: dict[str, bytes]) -> bool:
    """Whether a student's file and one of the set's cannot both be there: one's name is the other's folder."""
    return any(path.startswith(f"{name}/") or name.startswith(f"{path}/") for name in given)


def task(
    submission: Submission,
    ps: str,
    instructors: NotebookNode,
    contract: "Contract",
    given: dict[str, bytes],
    **limits: Any,
) -> "Task":
    """Return what a kernel is to run.

    Args:
        submission: what was handed in, mended.
        ps: the set's name.
        instructors: from :func:`whole`.
        contract: which names the checks take from the student.
        given: the files that belong to the set.
        limits: the limits of :class:`~grading.kernels.task.Task`, and whether it runs in the sandbox.
    """
    from .kernels.task import Task

    return Task(
        student=submission.student,
        set=ps,
        notebook=writes_json(examined(submission.notebook, instructors)),
        remote=contract.remote,
        handles=contract.handles,
        forbidden=contract.forbidden,
        files={path: content for path, content in submission.files.items() if not _in_the_way(path, given)},
        given=given,
        **limits,
    )
