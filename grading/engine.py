"""The engine: plain nbgrader, one submission at a time, so that one cannot stop the others.

:func:`autograde` is the only function that runs a student's code. It protects nobody: the code runs with the rights of
whoever grades. Grade what you would be willing to run yourself.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode, from_dict
from nbgrader.preprocessors import Execute
from traitlets import Integer

from .course import Course
from .gradebook import db_url
from .kernels.outputs import error
from .kernels.task import DEAD, GIVEN_SECONDS, NOT_RUN, TIMEOUT
from .notebook import is_answer, is_given, read
from .quiet import quietly


@dataclass(frozen=True)
class Run:
    """What came of running a submission.

    Args:
        state: ``graded``, ``timed out`` or ``kernel died`` (both also give the points earned), or ``failed``.
        message: one sentence; empty where there is nothing to say.
        seconds: how long it took.
    """

    state: str
    message: str
    seconds: float


class ExecuteWithin(Execute):
    """nbgrader's execution within a time limit for the notebook, surviving a kernel that dies or will not stop.

    Cells that the engine ends, or cannot run any more, get an error as their output, which scores 0; what was earned
    before stays.
    """

    notebook_seconds = Integer(360, help="Seconds for a student's answers and their checks together.").tag(config=True)

    def preprocess(
        self, nb: NotebookNode, resources: ResourcesDict, **kwargs: object
    ) -> tuple[NotebookNode, ResourcesDict]:
        """Run the notebook."""
        self._left = float(self.notebook_seconds)
        self._cell_seconds = self.timeout
        self._ended = ""
        self._answers_begun = False
        return super().preprocess(nb, resources, **kwargs)

    def preprocess_cell(
        self, cell: NotebookNode, resources: ResourcesDict, index: int
    ) -> tuple[NotebookNode, ResourcesDict]:
        """Run one cell, or say why not."""
        self._answers_begun |= is_answer(cell)
        if cell.cell_type != "code" or not cell.source.strip():
            return cell, resources
        given = is_given(cell) and not self._answers_begun
        if not given and self._left < 1:
            self._ended = self._ended or f"the notebook had used up its {self.notebook_seconds} seconds"
        if self._ended:
            cell.outputs = [from_dict(error(NOT_RUN, f"Not run: {self._ended}."))]
            return cell, resources
        self.timeout = max(GIVEN_SECONDS, self._cell_seconds) if given else min(self._cell_seconds, int(self._left))
        stopped = f"Stopped after {self.timeout} seconds."
        self.error_on_timeout = {"ename": TIMEOUT, "evalue": stopped, "traceback": [f"{TIMEOUT}: {stopped}"]}
        begun = time.monotonic()
        try:
            return super().preprocess_cell(cell, resources, index)
        except DeadKernelError:
            self._ended = "the kernel had died"
            died = "The kernel died while this cell ran: a crash, or no memory left."
            cell.outputs.append(from_dict(error(DEAD, died)))
        except CellTimeoutError:
            self._ended = "a cell could not be stopped"
            cell.outputs.append(from_dict(error(TIMEOUT, f"{stopped} It would not stop, so the kernel was ended.")))
            self.shutdown_kernel = "immediate"
        finally:
            if not given:
                self._left -= time.monotonic() - begun
        return cell, resources


def autograde(course: Course, ps: str, folder: Path, cell_seconds: int, notebook_seconds: int) -> Run:
    """Run one staged submission and write its scores into the gradebook.

    Args:
        course: the course; its gradebook knows the set.
        ps: the set's name.
        folder: holds ``submitted/<student>/<set>/``; gets ``autograded/<student>/<set>/``.
        cell_seconds: for one cell.
        notebook_seconds: for a student's answers and their checks together.
    """
    from nbgrader.converters import Autograde
    from nbgrader.coursedir import CourseDirectory

    config = course.config()
    config.CourseDirectory.root = str(folder)
    config.CourseDirectory.db_url = db_url(course)
    config.Execute.timeout = cell_seconds
    config.Execute.shutdown_kernel = "immediate"
    config.ExecuteWithin.notebook_seconds = notebook_seconds
    config.Autograde.autograde_preprocessors = [
        ExecuteWithin,  # in the place of nbgrader's Execute; the rest is nbgrader's own list
        "nbgrader.preprocessors.IgnorePattern",
        "nbconvert.preprocessors.ClearMetadataPreprocessor",
        "nbgrader.preprocessors.LimitOutput",
        "nbgrader.preprocessors.SaveAutoGrades",
        "nbgrader.preprocessors.AssignLatePenalties",
        "nbgrader.preprocessors.CheckCellMetadata",
    ]
    (folder / "solutions").symlink_to(course.solutions, target_is_directory=True)
    coursedir = CourseDirectory(config=config)
    coursedir.assignment_id = ps
    begun = time.monotonic()
    with quietly() as log, _bare_ipython(folder):
        try:
            Autograde(coursedir=coursedir, config=config, force=True).start()
        except Exception as e:
            return Run("failed", f"nbgrader could not grade it: {log.reason(e)}", time.monotonic() - begun)
    state, message = _what_happened(next(folder.glob(f"autograded/*/{ps}/{ps}.ipynb")))
    return Run(state, message, time.monotonic() - begun)


def _what_happened(autograded: Path) -> tuple[str, str]:
    cells = [cell for cell in read(autograded).cells if cell.cell_type == "code"]
    errors = [(cell, out) for cell in cells for out in cell.outputs if out.output_type == "error"]
    for name, state in ((DEAD, "kernel died"), (TIMEOUT, "timed out"), (NOT_RUN, "timed out")):
        for cell, out in errors:
            if out.ename == name:
                where = cell.metadata.get("nbgrader", {}).get("grade_id") or "a cell of the student's own"
                return state, f"{where}: {out.evalue}"
    return "graded", ""


@contextmanager
def _bare_ipython(folder: Path) -> Iterator[None]:
    """Keep the grader's own IPython start-up files out of the students' kernels."""
    before = os.environ.get("IPYTHONDIR")
    os.environ["IPYTHONDIR"] = str(folder / "ipython")
    try:
        yield
    finally:
        if before is None:
            del os.environ["IPYTHONDIR"]
        else:
            os.environ["IPYTHONDIR"] = before
