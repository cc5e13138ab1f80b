"""One's own notebook, graded for oneself: the points of a real run, and no trace of it in the record."""

import copy
import shutil

import nbformat
import pytest

from grading.__main__ import main
from grading.course import GradingError
from grading.kernels.session import execute
from grading.notebook import grade_id
from grading.self_grading import Line, grade_own, told, visible_names
from grading.student import start


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
    assert own.page == mine.with_name("feedback.html")
    assert list(tmp_path.glob("*.html")) == []


def test_what_was_mended_is_said(tiny, mine):
    nb = nbformat.read(mine, 4)
    nb.cells = [c for c in nb.cells if c.metadata.get("nbgrader", {}).get("grade_id") != "q2_nine"]
    nbformat.write(nb, mine)
    own = grade_own("ps90", course=tiny.course)
    assert any("q2_nine was missing" in remark for remark in own.remarks)
    assert own.lines[1].got == 3


def test_what_cannot_be_graded_says_why(tiny, mine, tmp_path):
    for path, reason in (
        (tmp_path / "none.ipynb", "there is no .*none.ipynb"),
        (_written(tmp_path / "damaged.ipynb", "{"), "not valid JSON"),
        (_written(tmp_path / "other.ipynb", nbformat.writes(nbformat.v4.new_notebook())), "another notebook"),
    ):
        with pytest.raises(GradingError, match=reason):
            grade_own("ps90", course=tiny.course, notebook=path)
    with pytest.raises(GradingError, match="ps91 is not released"):
        grade_own("ps91", course=tiny.course)
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
    assert "there is no nothing.ipynb" in capsys.readouterr().err


def test_without_a_sandbox_it_says_so(tiny, mine, monkeypatch):
    monkeypatch.setattr("grading.sandbox.unavailable", lambda: "This machine has none.")
    own = grade_own("ps90", course=tiny.course)
    assert own.lines[1].got == 3
    assert own.remarks == ["Run without a sandbox, since it is your own code (This machine has none)."]
