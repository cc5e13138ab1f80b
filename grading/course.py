"""Where a course keeps its problem sets, and what nbgrader is told about them."""

import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traitlets.config import Config

CONFIG = "nbgrader_config.py"
SAMPLE = "sample-"  # the names of the bundled sample students start with this; no other student's may
SAMPLE_SECONDS = 20  # a cell's time limit for them: enough for every right answer, and the slow one is over soon


class GradingError(Exception):
    """Something that the person at the keyboard can put right; its message is one line that says how."""


@dataclass(frozen=True)
class Course:
    """A folder with an ``nbgrader_config.py``: its problem sets, and everything that grading reads and writes.

    Args:
        root: the folder, absolute.
    """

    root: Path

    @classmethod
    def find(cls, start: str | Path = ".") -> "Course":
        """Return the course that holds a folder.

        Args:
            start: the folder, or any folder below it.

        Raises:
            GradingError: no ``nbgrader_config.py`` there or above.
        """
        here = Path(start).resolve()
        for folder in (here, *here.parents):
            if (folder / CONFIG).is_file():
                return cls(folder)
        raise GradingError(f"{here} is in no course: there is no {CONFIG} there or above. Name one with --course.")

    @property
    def solutions(self) -> Path:
        """The instructor's notebooks, with solutions and hidden tests."""
        return self.root / "solutions"

    @property
    def exercises(self) -> Path:
        """The released notebooks, without either."""
        return self.root / "exercises"

    @property
    def work(self) -> Path:
        """A student's own copies."""
        return self.root / "work"

    @property
    def submitted(self) -> Path:
        """What was handed in: ``submitted/<student>/<set>/``."""
        return self.root / "submitted"

    @property
    def autograded(self) -> Path:
        """The executed submissions, for the instructor (hidden tests show)."""
        return self.root / "autograded"

    @property
    def feedback(self) -> Path:
        """The pages that go back to the students."""
        return self.root / "feedback"

    @property
    def grades(self) -> Path:
        """Scores (CSV) and run manifests (JSON), by set."""
        return self.root / "grades"

    def corpus(self, ps: str) -> Path:
        """Right and wrong answers to each question of a set."""
        return self.root / "tests" / "grading" / "corpus" / ps

    def sets(self) -> list[str]:
        """Return the names of the problem sets that have a source."""
        return sorted(p.name for p in self.solutions.glob("*") if (p / f"{p.name}.ipynb").is_file())

    def released_sets(self) -> list[str]:
        """Return the names of the problem sets that are released."""
        return sorted(p.name for p in self.exercises.glob("*") if (p / f"{p.name}.ipynb").is_file())

    def nowhere(self, ps: str) -> GradingError:
        """Return what to raise where a set was never handed out.

        Args:
            ps: the set's name.
        """
        held = ", ".join(self.released_sets()) or "no set"
        return GradingError(f"there is no {ps}; {self.exercises.name}/ holds {held}.")

    def source(self, ps: str) -> Path:
        """Return a set's instructor notebook.

        Args:
            ps: the set's name, such as ``ps01``.

        Raises:
            GradingError: there is no such set.
        """
        if ps not in self.sets():
            known = ", ".join(self.sets()) or "none"
            where = self.solutions.relative_to(self.root)
            raise GradingError(f"unknown problem set {ps!r}: {where}/ holds {known}.")
        return self.solutions / ps / f"{ps}.ipynb"

    def released(self, ps: str) -> Path:
        """Return a set's student notebook.

        Args:
            ps: the set's name.

        Raises:
            GradingError: it was never released.
        """
        path = self.exercises / ps / f"{ps}.ipynb"
        if not path.is_file():
            if self.sets():
                raise GradingError(f"{ps} is not released: run `python -m grading release {ps}` first.")
            raise self.nowhere(ps)
        return path

    def config(self) -> "Config":
        """Return the course's nbgrader settings; what a user keeps in their own Jupyter folders does not count.

        Raises:
            GradingError: the file does not run.
        """
        from traitlets.config.loader import PyFileConfigLoader

        try:
            return PyFileConfigLoader(CONFIG, path=str(self.root)).load_config()
        except Exception as e:  # it is a program
            here = [frame.lineno for frame in traceback.extract_tb(e.__traceback__) if frame.filename.endswith(CONFIG)]
            line = e.lineno if isinstance(e, SyntaxError) else here[-1] if here else None
            where = f"{CONFIG}, line {line}" if line else CONFIG
            raise GradingError(f"{where}: {type(e).__name__}: {e}") from e


# Letters, digits and what student numbers, mail addresses and learning platforms put between them. Nothing that
# means something in a path pattern or in HTML: formgrader shows these names as they are.
_STUDENT = re.compile(r"[\w=+@-][\w .,@+()=-]*")


def check_student(name: str) -> None:
    """Raise where a folder's name cannot be a student's.

    Args:
        name: the name of a folder in ``submitted/``.

    Raises:
        GradingError: it has characters that do not survive paths, spreadsheets and web pages.

    >>> check_student("müller.anna@example.org")
    >>> check_student("<anna>")
    Traceback (most recent call last):
    ...
    grading.course.GradingError: '<anna>' cannot be a student's name: use letters, digits, spaces and .,@+()=_- only.
    """
    if not _STUDENT.fullmatch(name) or name != name.strip():
        raise GradingError(f"{name!r} cannot be a student's name: use letters, digits, spaces and .,@+()=_- only.")
