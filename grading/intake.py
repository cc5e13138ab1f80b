"""What was handed in, checked and mended before anything runs.

A release says which cells a submission must have, where, and worth what. What a student lost or changed by accident
is put back from the release and reported; what cannot be mended is refused with a sentence for the student.
"""

import copy
import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from .course import Course, GradingError, check_student
from .notebook import grade_id, is_answer, is_check, marked, read

_LARGEST_FILES = 100_000_000  # bytes of everything beside the notebook


@dataclass
class Submission:
    """One student's notebook, ready to be graded.

    Args:
        student: the student's name.
        path: the notebook as handed in.
        notebook: the same, mended.
        files: what was handed in beside it, by path relative to the submission.
        notes: what was mended, one sentence each.
    """

    student: str
    path: Path
    notebook: NotebookNode
    files: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def stage(self, folder: Path, ps: str) -> None:
        """Write the submission where nbgrader is to find it.

        Args:
            folder: an empty or missing folder.
            ps: the set's name.
        """
        for name, path in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(self.notebook, folder / f"{ps}.ipynb")

    def digest(self) -> str:
        """Return a fingerprint of everything that was handed in."""
        h = hashlib.sha256()
        for name, path in [("", self.path), *sorted(self.files.items())]:
            content = path.read_bytes()
            h.update(f"{name}\0{len(content)}\0".encode())
            h.update(content)
        return h.hexdigest()


def students(course: Course, ps: str) -> list[str]:
    """Return who handed something in for a set, or tried to.

    A folder that holds other sets only is a student who has not handed in this one; any other folder is listed.

    Args:
        course: the course.
        ps: the set's name.
    """
    others = set(course.sets()) - {ps}
    found = []
    for folder in sorted(course.submitted.glob("*")):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        inside = {p.name for p in folder.iterdir()} if not folder.is_symlink() else set()
        if ps in inside or not inside & others:
            found.append(folder.name)
    return found


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
    check_student(student)
    folder = course.submitted / student / ps
    if (course.submitted / student).is_symlink() or folder.is_symlink():
        raise GradingError("the folder is a link; hand in the files themselves.")
    path = _find_notebook(folder, ps, release)
    notebook, notes = mend(read(path), release)
    if path.name != f"{ps}.ipynb":
        notes.insert(0, f"{path.name} was taken for {ps}.ipynb.")
    submission = Submission(student, path, notebook, notes=notes)
    total = 0
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or file.suffix == ".ipynb" or "__pycache__" in name.parts:
            continue
        if file.is_symlink():
            notes.append(f"{name} is a link and was left out.")
        elif file.is_file() and not any(parent.is_symlink() for parent in (folder / p for p in name.parents)):
            total += file.stat().st_size
            if total > _LARGEST_FILES:
                raise GradingError(f"the files beside the notebook have more than {_LARGEST_FILES // 10**6} MB.")
            submission.files[str(name)] = file
    return submission


def _find_notebook(folder: Path, ps: str, release: NotebookNode) -> Path:
    expected = folder / f"{ps}.ipynb"
    if expected.is_file() and not expected.is_symlink():
        return expected
    where = f"submitted/{folder.parent.name}/{ps}/{ps}.ipynb"
    others = [p for p in sorted(folder.glob("*.ipynb")) if p.is_file() and not p.is_symlink()]
    known = {grade_id(cell) for cell in marked(release)}
    fitting = []
    for path in others:
        try:
            cells = read(path).cells
        except GradingError:
            continue
        if known & {grade_id(cell) for cell in cells}:
            fitting.append(path)
    if len(fitting) == 1:
        return fitting[0]
    if len(fitting) > 1:
        names = ", ".join(p.name for p in fitting)
        raise GradingError(f"several notebooks could be {ps}.ipynb ({names}): hand in one.")
    if others:
        raise GradingError(f"no {ps}.ipynb: {others[0].name} is something else. It belongs at {where}.")
    raise GradingError(f"no notebook: it belongs at {where}.")


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
    place: dict[str, int] = {}
    for i, cell in enumerate(nb.cells):
        name = grade_id(cell)
        if name not in wanted and name is None and cell.get("id") in by_cell_id:
            name = by_cell_id[cell.id]
        cell.metadata.pop("nbgrader", None)
        if name not in wanted:
            continue
        if name in place:
            notes.append(f"There were two cells {name}: the last one counts.")
        place[name] = i
    if not place:
        raise GradingError("this is another notebook: none of the problem set's cells is in it.")
    for name, i in place.items():
        cell, original = nb.cells[i], wanted[name]
        if not is_answer(original) and cell.source != original.source:
            notes.append(f"The {_kind(original)} {name} had been changed and was put back.")
        fresh = copy.deepcopy(original)
        if is_answer(original):
            fresh.source = cell.source
            if "attachments" in cell and fresh.cell_type == "markdown":
                fresh.attachments = cell.attachments
        fresh.id = cell.id
        nb.cells[i] = fresh
    at = 0
    for original in release.cells:
        name = grade_id(original)
        here = next((i for i, cell in enumerate(nb.cells) if _same(cell, original)), None)
        if here is not None:
            at = here + 1
        elif name in wanted:
            nb.cells.insert(at, copy.deepcopy(original))
            at += 1
            notes.append(f"The {_kind(original)} {name} was missing and was put back.")
    seen: set[str] = set()
    for i, cell in enumerate(nb.cells):
        if cell.id in seen:
            cell.id = f"cell-{i}"
        seen.add(cell.id)
    nb.metadata = copy.deepcopy(release.metadata)
    nb.nbformat, nb.nbformat_minor = release.nbformat, release.nbformat_minor
    return nb, notes


def _same(cell: NotebookNode, original: NotebookNode) -> bool:
    """Whether a mended notebook's cell is this one of the release."""
    name = grade_id(original)
    return grade_id(cell) == name if name else cell.id == original.id


def _kind(cell: NotebookNode) -> str:
    return "check" if is_check(cell) else "answer cell" if is_answer(cell) else "given cell"
