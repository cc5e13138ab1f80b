"""A small course without torch, so that a kernel starts in a second: two coded questions and an open one."""

import copy
import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from grading.course import Course
from grading.notebook import grade_id, read

ROOT = Path(__file__).resolve().parents[2]

collect_ignore = ["corpus"]  # answers to problem sets: they have no imports of their own, and no tests


def _mark(cell, name, *, solution=False, points=None):
    mark = {"grade": points is not None, "grade_id": name, "locked": not solution, "schema_version": 3}
    cell.metadata["nbgrader"] = {**mark, "solution": solution, "task": False} | ({"points": points} if points else {})
    cell.id = name.replace("_", "-")
    return cell


def _stub(signature, body):
    return f"{signature}\n    ### BEGIN SOLUTION\n    {body}\n    ### END SOLUTION"


def _tiny_notebook():
    """The source of problem set ps90: 5 points by checks, 2 by hand."""
    cells = [
        _mark(new_markdown_cell("# Tiny"), "intro"),
        _mark(new_code_cell("import math\nimport warnings"), "imports"),
        _mark(new_markdown_cell("## Question 1: Double it ($2x$)\n\nNothing more."), "q1_text"),
        _mark(new_code_cell(_stub("def double(x):", "return 2 * x")), "q1", solution=True),
        _mark(
            new_code_cell(
                "# 2 points. Small numbers\nassert double(1) == 2, 'double(1) is 2: did you square it?'\n"
                "### BEGIN HIDDEN TESTS\nassert double(21) == 42, 'the hidden one'\n### END HIDDEN TESTS"
            ),
            "q1_check",
            points=2,
        ),
        new_code_cell("print('a figure would be here')", id="figure"),
        new_markdown_cell("## Question 2: The root", id="q2-text"),
        _mark(new_code_cell(_stub("def root(x):", "return math.sqrt(double(x) / 2)")), "q2", solution=True),
        _mark(new_code_cell("# Partial credit\n1.5 if root(4) == 2 else 0.5 if root(4) else 0"), "q2_part", points=1.5),
        _mark(new_code_cell("# Nine\nassert root(9) == 3, 'root(9) is 3'"), "q2_nine", points=1.5),
        new_markdown_cell("## Question 3: Say why", id="q3-text"),
        _mark(new_markdown_cell("Because $a<b$.\n\n**Marks.** One for each."), "q3", solution=True, points=2),
    ]
    return new_notebook(cells=cells)


CORPUS = {
    "q1/right_sum": "# Right: adds it to itself.\ndef double(x):\n    return x + x\n",
    "q1/right_times": "# Right: twice.\ndef double(x):\n    return x * 2\n",
    "q1/wrong_square": "# Wrong: squares.\ndef double(x):\n    return x**2\n",
    "q2/right_power": "# Right: to the half.\ndef root(x):\n    return x**0.5\n",
    "q2/wrong_half": "# Wrong: halves. Right for 4.\ndef root(x):\n    return x / 2\n",
}
RIGHT = {"q1": CORPUS["q1/right_sum"], "q2": CORPUS["q2/right_power"], "q3": "Because $a<b$."}


def _make_course(root: Path) -> Course:
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "nbgrader_config.py", root)
    (root / "solutions" / "ps90").mkdir(parents=True)
    nbformat.write(_tiny_notebook(), root / "solutions" / "ps90" / "ps90.ipynb")
    for name, source in CORPUS.items():
        path = root / "tests" / "grading" / "corpus" / "ps90" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return Course(root.resolve())


class Tiny:
    """The tiny course, and ways to hand something in to it."""

    right = RIGHT

    def __init__(self, root: Path) -> None:
        from grading.student_version import release

        self.course = _make_course(root)
        release("ps90", course=self.course)
        self.release = read(self.course.released("ps90"))

    def answered(self, **answers: str) -> nbformat.NotebookNode:
        """The released notebook with these answers."""
        nb = copy.deepcopy(self.release)
        for cell in nb.cells:
            if grade_id(cell) in answers:
                cell.source = answers[grade_id(cell)]
        return nb

    def submit(self, student: str, nb: nbformat.NotebookNode | str, name: str = "ps90.ipynb") -> Path:
        """Put a notebook, or whatever text, into submitted/."""
        path = self.course.submitted / student / "ps90" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = nb if isinstance(nb, str) else nbformat.writes(nb)
        path.write_text(text, encoding="utf-8")
        return path

    def submit_different(self, students: int, first: str = "") -> None:
        """Hand in as s0, s1, …: every second one wrong in q1, every third in q2; ``first`` goes before q1."""
        for i in range(students):
            double = self.right["q1"] if i % 2 else f"def double(x):\n    return x * {2 + i}"
            half = {"q2": "def root(x):\n    return x / 2"} if i % 3 == 0 else {}
            self.submit(f"s{i}", self.answered(**self.right | {"q1": f"# {i}\n{first}{double}"} | half))

    def edit_source(self, edit) -> None:
        """Change the instructor's notebook."""
        path = self.course.source("ps90")
        nb = read(path)
        edit(nb)
        nbformat.write(nb, path)


@pytest.fixture
def tiny(tmp_path):
    """A fresh tiny course."""
    return Tiny(tmp_path / "course")


@pytest.fixture(scope="session")
def make_tiny():
    """The way to make a tiny course in a folder of one's own."""
    return Tiny


@pytest.fixture(scope="session")
def course():
    """The course itself."""
    return Course(ROOT)


def pytest_generate_tests(metafunc):
    """Run a test with an argument `ps` once for each problem set of the course."""
    if "ps" in metafunc.fixturenames:
        metafunc.parametrize("ps", Course(ROOT).sets())
