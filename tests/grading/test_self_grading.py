"""One's own notebook, graded for oneself: the points of a real run, and no trace of it in the record."""

import copy
import html
import shutil
from pathlib import Path

import nbformat
import pytest

from grading.__main__ import main
from grading.course import GradingError
from grading.kernels.session import execute
from grading.notebook import grade_id, read
from grading.self_grading import Line, grade_own, told, visible_names
from grading.settings import Settings
from grading.student import start
from grading.student_version import release


@pytest.fixture
def mine(tiny):
    """The copy to answer, answered in part: only the visible half of q1 holds."""
    (path,) = start(course=tiny.course)
    answers = {**tiny.right, "q1": "def double(x):\n    return 2 * x if x < 10 else x\n"}
    nbformat.write(tiny.answered(**answers), path)
    return path


def _files(course):
    return {p.relative_to(course.root).as_posix() for p in course.root.rglob("*") if p.is_file()}


def test_hidden_tests_run_where_they_are_at_hand(tiny, mine):
    before = _files(tiny.course)
    own = grade_own("ps90", course=tiny.course)
    assert own.hidden
    assert own.lines == [Line("q1", 0, 2, 0, "the hidden one"), Line("q2", 3, 3, 0, ""), Line("q3", 0, 0, 2, "")]
    assert (
        told(own).splitlines()[3] == "3 of 5 points by checks, hidden ones included; 2 more are for a person to give."
    )
    assert _files(tiny.course) - before == {"work/ps90/feedback.html"}
    page = own.page.read_text()
    assert "the hidden one" in page
    assert "not yet marked" in page
    assert "double(21)" not in page  # what a hidden test runs is not shown, whoever reads


def test_visible_checks_run_where_there_is_nothing_else(tiny, mine):
    shutil.rmtree(tiny.course.solutions)
    shutil.rmtree(tiny.course.root / "tests")
    before = _files(tiny.course)
    own = grade_own("ps90", course=tiny.course)
    assert not own.hidden
    assert [(line.question, line.got, line.of) for line in own.lines] == [("q1", 2, 2), ("q2", 3, 3), ("q3", 0, 0)]
    assert "those that you can see" in told(own)
    assert "Only the checks that you can see were run." in own.page.read_text()
    assert _files(tiny.course) - before == {"work/ps90/feedback.html"}


def test_same_points_as_a_run(tiny, mine, monkeypatch):
    """What one grades oneself is what one is graded: for partly right, untouched and broken notebooks."""
    from grading.run import grade

    monkeypatch.setattr("grading.run.run_all", lambda tasks, **where: ((one, execute(one)) for one in tasks))
    broken = tiny.answered(q1="def double(x):\n    return 1 / 0\n", q2=tiny.right["q2"])
    copied = tiny.answered(**tiny.right)
    copied.cells.insert(5, copy.deepcopy(copied.cells[3]))
    copied.cells[5].id = "a-copy"
    notebooks = {"part": nbformat.read(mine, 4), "untouched": tiny.release, "broken": broken, "copied": copied}
    for name, nb in notebooks.items():
        tiny.submit(name, nb)
    graded = {o.student: o for o in grade("ps90", course=tiny.course)}
    for name, nb in notebooks.items():
        nbformat.write(nb, mine)
        own = grade_own("ps90", course=tiny.course)
        assert {line.question: line.got for line in own.lines} == {
            q: got for q, (got, _) in graded[name].questions.items()
        }, name


def test_another_notebook(tiny, mine, tmp_path):
    other = tmp_path / "elsewhere.ipynb"
    nbformat.write(tiny.answered(**tiny.right), other)
    own = grade_own("ps90", course=tiny.course, notebook=other)
    assert [line.got for line in own.lines] == [2, 3, 0]
    assert own.page == tmp_path / "elsewhere-feedback.html"
    assert "2 / 2" in own.page.read_text()
    assert not mine.with_name("feedback.html").exists(), "that page is another notebook's"
    assert grade_own("ps90", course=tiny.course, notebook=mine).page == mine.with_name("feedback.html")


def test_another_notebook_by_a_relative_path(tiny, tmp_path, monkeypatch):
    nbformat.write(tiny.answered(**tiny.right), tmp_path / "w1.ipynb")
    monkeypatch.chdir(tmp_path)
    own = grade_own("ps90", course=tiny.course, notebook=Path("w1.ipynb"))
    assert own.page == tmp_path / "w1-feedback.html"
    assert own.page.as_uri(), "for the browser"


def test_what_was_mended_is_said(tiny, mine):
    nb = nbformat.read(mine, 4)
    nb.cells = [c for c in nb.cells if c.metadata.get("nbgrader", {}).get("grade_id") != "q2_nine"]
    nbformat.write(nb, mine)
    own = grade_own("ps90", course=tiny.course)
    assert any("q2_nine was missing" in remark for remark in own.remarks)
    assert own.lines[1].got == 3


def test_a_deleted_answer_cell(tiny, mine):
    nb = nbformat.read(mine, 4)
    nb.cells = [c for c in nb.cells if grade_id(c) != "q2"]
    nbformat.write(nb, mine)
    own = grade_own("ps90", course=tiny.course)
    assert own.lines[1].message == "Your notebook has no answer cell for this question."


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("def double(x)\n    return 2 * x\n", "Your answer cell did not run: SyntaxError: expected ':', line 1"),
        ("def wrongname(x):\n    return 2 * x\n", "Your answer defines `wrongname`; asked is `double`."),
        ("def double(x):\n    return input()\n",
         "Nobody answers input() while a notebook is graded: write the value into the code, or take it as an "
         "argument."),
        ("def double(x):\n    while True:\n        pass\n",
         "Your function had not returned after 2 seconds. Is there a loop that never ends?"),
        ("while True:\n    pass\n",
         "Your answer cell did not run to its end: this cell had not ended after 2 seconds. Is there a loop that never "
         "ends?"),
    ],
)  # fmt: skip
def test_the_terminal_says_what_slipped(tiny, mine, answer, message):
    nbformat.write(tiny.answered(q1=answer), mine)
    own = grade_own("ps90", course=tiny.course, settings=Settings(cell_seconds=2))
    assert own.lines[0].message == message
    page = html.unescape(own.page.read_text())
    assert message.replace("`wrongname`", "<code>wrongname</code>").replace("`double`", "<code>double</code>") in page
    assert "KeyboardInterrupt" not in page
    assert "<ipython-input" not in page


def test_none_from_a_students_function(tiny, mine):
    def add(nb):
        cell = next(c for c in nb.cells if grade_id(c) == "q1_check")
        cell.source = "three = double(1) + 1\n" + cell.source

    tiny.edit_source(add)
    release("ps90", course=tiny.course)
    nbformat.write(tiny.answered(q1="def double(x):\n    2 * x\n"), mine)
    (line, *_) = grade_own("ps90", course=tiny.course).lines
    assert line.message.endswith("int'. Your function gave nothing (None): is a return missing?")


def test_what_a_visible_line_expects_is_shown_and_what_a_hidden_one_does_is_not(tiny, mine):
    """With the engine's own tracebacks."""

    def expect(nb):
        cell = next(c for c in nb.cells if grade_id(c) == "q1_check")
        cell.source = (
            "assert double(1) == 2, f'F is wrong: got {double(1)}, expected 2.'\n"
            "### BEGIN HIDDEN TESTS\nassert double(21) == 42, f'F is wrong: got {double(21)}, expected 42.'\n"
            "### END HIDDEN TESTS"
        )

    tiny.edit_source(expect)
    release("ps90", course=tiny.course)
    start(course=tiny.course)
    new = read(tiny.course.released("ps90"))
    for answer, said in (("3 * x", "got 3, expected 2."), ("x + 1", "got 22 (the expected value is hidden).")):
        next(c for c in new.cells if grade_id(c) == "q1").source = f"def double(x):\n    return {answer}\n"
        nbformat.write(new, mine)
        assert grade_own("ps90", course=tiny.course).lines[0].message == f"F is wrong: {said}"


def test_what_cannot_be_graded_says_why(tiny, mine, tmp_path):
    for path, reason in (
        (tmp_path / "none.ipynb", r"there is no notebook .*none\.ipynb\.$"),
        (tmp_path, "there is no notebook "),
        (_written(tmp_path / "damaged.ipynb", "{"), "damaged.ipynb is not a notebook: it is not valid JSON"),
        (_written(tmp_path / "README.md", "# Read me"), "README.md is not a notebook"),
        (_written(tmp_path / "other.ipynb", nbformat.writes(nbformat.v4.new_notebook())), "another notebook"),
    ):
        with pytest.raises(GradingError, match=reason):
            grade_own("ps90", course=tiny.course, notebook=path)
    with pytest.raises(GradingError, match=r"^there is no ps91; exercises/ holds ps90\.$"):
        grade_own("ps91", course=tiny.course)
    shutil.rmtree(tiny.course.solutions)
    with pytest.raises(GradingError, match=r"^there is no ps91; exercises/ holds ps90\.$"):
        grade_own("ps91", course=tiny.course)
    mine.unlink()
    with pytest.raises(GradingError, match="start ps90` makes a copy to answer"):
        grade_own("ps90", course=tiny.course)
    assert not mine.with_name("feedback.html").exists()


def _written(path, text):
    path.write_text(text)
    return path


def test_names_of_a_released_notebook(tiny):
    """What neither a given cell, nor an earlier check, nor Python defines; a student's own cell does not count."""
    nb = tiny.answered(q1="def double(x):\n    return x\n\n\ndef own():\n    return 1\n")
    for cell in nb.cells:
        if grade_id(cell) == "q1_check":
            cell.source += "\nhalf, n = math.pi / 2, own()\nassert math.isclose(sum([half, half]), math.pi), 'pi'"
        if grade_id(cell) == "q2_nine":
            cell.source += "\nassert root(half) == n, 'half'"
    assert visible_names(nb) == {"q1_check": ["double", "own"], "q2_part": ["root"], "q2_nine": ["root"]}


def test_command(tiny, mine, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    assert main(["--course", str(tiny.course.root), "self", "ps90", "--open"]) == 0
    said = capsys.readouterr().out
    assert "q1  0 / 2: the hidden one" in said
    assert f"Page: {mine.with_name('feedback.html')}" in said
    assert shown == [mine.with_name("feedback.html").as_uri()]
    assert main(["--course", str(tiny.course.root), "self", "ps90", "--notebook", "nothing.ipynb"]) == 2
    assert "there is no notebook nothing.ipynb." in capsys.readouterr().err


def test_without_a_sandbox_it_says_so(tiny, mine, monkeypatch):
    monkeypatch.setattr("grading.sandbox.unavailable", lambda: "This machine has none.")
    own = grade_own("ps90", course=tiny.course)
    assert own.lines[1].got == 3
    assert own.remarks == ["Run without a sandbox, since it is your own code (This machine has none)."]
