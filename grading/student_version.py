"""From the instructor's notebook to the student's: nbgrader's own converter, and the same bytes every time."""

import shutil
import tempfile
from pathlib import Path

from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor

from . import contract
from .course import Course, GradingError

_PRIVATE = shutil.ignore_patterns(".*", contract.FILE)
_KEPT = ("nbgrader", "deletable", "editable", "tags")


class Normalize(NbGraderPreprocessor):
    """Drop from a release what depends on the machine, the day or the editor.

    The last of nbgrader's release steps (see ``nbgrader_config.py``), so that ``nbgrader generate_assignment`` and
    formgrader's button write what ``python -m grading release`` writes.
    """

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        """Return the notebook with settled metadata.

        Raises:
            GradingError: two cells share an id, by which a submission's cells are recognised.
        """
        nb.nbformat, nb.nbformat_minor = 4, 5
        nb.metadata = NotebookNode(
            kernelspec={"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            language_info={"name": "python"},
        )
        ids = [cell.get("id") for cell in nb.cells]
        if None in ids or len(set(ids)) < len(ids):
            raise GradingError("every cell of a problem set needs an id of its own: save it in JupyterLab once.")
        for cell in nb.cells:
            cell.metadata = NotebookNode({k: v for k, v in cell.metadata.items() if k in _KEPT})
            if cell.cell_type == "code":
                cell.execution_count, cell.outputs = None, []
        return nb, resources


def own_files(course: Course, ps: str) -> dict[str, bytes]:
    """Return what is handed out with a set beside its notebook, by path.

    Args:
        course: the course.
        ps: the set's name.
    """
    folder = course.source(ps).parent
    found = (p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.is_file())
    return {
        str(path): (folder / path).read_bytes()
        for path in found
        if not any(part.startswith(".") for part in path.parts) and path.name not in (f"{ps}.ipynb", contract.FILE)
    }


def fresh(course: Course, ps: str, *, db_url: str | None = None) -> dict[str, bytes]:
    """Make a set's release in a temporary folder.

    Args:
        course: the course.
        ps: the set's name.
        db_url: a gradebook in which the set's cells are recorded, hidden tests included; by default in none.

    Returns:
        The files of the release by their paths in ``exercises/<set>/``.

    Raises:
        GradingError: unknown set, or nbgrader refuses the notebook.
    """
    from nbgrader.converters import GenerateAssignment
    from nbgrader.coursedir import CourseDirectory

    from .quiet import quietly

    course.source(ps)
    config = course.config()
    if db_url is None:
        config.SaveCells.enabled = False
        config.GenerateAssignment.no_database = True
    with tempfile.TemporaryDirectory(prefix="release-") as tmp:
        config.CourseDirectory.root = tmp
        config.CourseDirectory.db_url = db_url or ""
        shutil.copytree(course.solutions / ps, Path(tmp, "solutions", ps), ignore=_PRIVATE)
        config.CourseDirectory.source_directory = "solutions"
        config.CourseDirectory.release_directory = "exercises"
        coursedir = CourseDirectory(config=config)
        coursedir.assignment_id = ps
        with quietly() as log:
            try:
                GenerateAssignment(coursedir=coursedir, config=config).start()
            except Exception as e:
                raise GradingError(f"{ps} cannot be released: {log.reason(e)}") from e
        made = Path(tmp, "exercises", ps)
        return {str(p.relative_to(made)): p.read_bytes() for p in sorted(made.rglob("*")) if p.is_file()}


def release(ps: str, *, course: Course | None = None) -> Path:
    """Write a set's student version into ``exercises/``; the gradebook is not touched.

    Where the set's code has changed, its contract is settled first (see :mod:`grading.rehearsal`): the reference
    solution must pass its own checks.

    Args:
        ps: the set's name.
        course: the course; by default the one around the working directory.

    Returns:
        The released notebook.

    Raises:
        GradingError: unknown set, nbgrader refuses the notebook, or the reference solution loses a check.
    """
    from .rehearsal import settle

    course = course or Course.find()
    files = fresh(course, ps)  # first: what nbgrader refuses, it names best
    settle(course, ps)
    folder = course.exercises / ps
    for old in sorted(folder.rglob("*"), reverse=True):
        name = old.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            continue  # an editor's own, such as .ipynb_checkpoints
        if old.is_file() and str(name) not in files:
            old.unlink()
        elif old.is_dir() and not any(old.iterdir()):
            old.rmdir()
    for name, content in files.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder / f"{ps}.ipynb"
