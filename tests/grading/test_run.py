"""A run over everything that can go wrong: nothing stops the others, and everybody hears why."""

import copy
import csv
import json
import re
import shutil

import nbformat
import pytest

from grading.__main__ import main
from grading.course import GradingError
from grading.engine import Run
from grading.gradebook import gradebook, recorded, score
from grading.notebook import is_check, read
from grading.run import grade, harmless, table


def _by_student(outcomes):
    return {o.student: o for o in outcomes}


def _rows(course):
    with (course.grades / "ps90.csv").open(newline="") as f:
        return {row["student"]: row for row in csv.DictReader(f)}


def _page(course, student):
    return (course.feedback / student / "ps90" / "ps90.html").read_text()


@pytest.fixture(scope="module")
def blank(make_tiny, tmp_path_factory):
    """An empty gradebook: nbgrader takes seconds to make one."""
    course = make_tiny(tmp_path_factory.mktemp("blank") / "course").course
    with gradebook(course):
        pass
    return course.root / "gradebook.db"


@pytest.fixture
def tiny(tiny, blank):
    """A fresh tiny course with a gradebook."""
    shutil.copy(blank, tiny.course.root)
    return tiny


@pytest.fixture(scope="module")
def run(make_tiny, tmp_path_factory):
    """One run over one submission of each kind."""
    tiny = make_tiny(tmp_path_factory.mktemp("run") / "course")
    right = tiny.right
    tiny.submit("right", tiny.answered(**right))
    tiny.submit("untouched", tiny.answered())
    tiny.submit("partial", tiny.answered(**right | {"q2": "def root(x):\n    return x / 4"}))
    tiny.submit("warns", tiny.answered(**right | {"q1": "def double(x):\n    warnings.warn('hm')\n    return 2 * x"}))
    tiny.submit("syntax", tiny.answered(**right | {"q1": "def double(x)\n    return 2 * x"}))
    tiny.submit("exits", tiny.answered(**right | {"q2": "import sys\nsys.exit(0)"}))
    tiny.submit(
        "dies", tiny.answered(**right | {"q2": "import os\nimport signal\nos.kill(os.getpid(), signal.SIGKILL)"})
    )
    tiny.submit("slow", tiny.answered(**right | {"q2": "def root(x):\n    while True:\n        pass"}))
    stubborn = "import time\nwhile True:\n    try:\n        time.sleep(1)\n    except KeyboardInterrupt:\n        pass"
    tiny.submit("stubborn", tiny.answered(**right | {"q2": stubborn}))
    copied = tiny.answered(**right)
    copied.cells.insert(3, copy.deepcopy(copied.cells[3]))
    copied.cells[4].id = "another"
    tiny.submit("copied", copied)
    no_checks = tiny.answered(**right)
    no_checks.cells = [c for c in no_checks.cells if not is_check(c)]
    tiny.submit("no-checks", no_checks)
    cheat = tiny.answered(q1="def double(x):\n    return 0")
    for cell in cheat.cells:
        if cell.metadata.get("nbgrader", {}).get("points"):
            cell.metadata.nbgrader.points = 1000
            cell.metadata["tags"] = ["skip-execution"]
    tiny.submit("cheat", cheat)
    markup = "<script>alert(1)</script> <img src=x onerror=alert(2)> $<script>alert(6)</script>$"
    markup += " [x](javascript:alert(3)) ![t](https://example.org/t.png)"
    html = "from IPython.display import HTML\ndisplay(HTML('<script>alert(4)</script>'))\nprint('<b>bold</b>')\n"
    tiny.submit("markup", tiny.answered(**right | {"q1": html + right["q1"], "q3": markup}))
    tiny.submit("=cmd()", tiny.answered(**right))
    tiny.submit("unreadable", "{nope")
    tiny.submit("other", nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]))
    tiny.submit("<i>", tiny.answered(**right))
    (tiny.course.submitted / "nothing" / "ps90").mkdir(parents=True)
    told = []
    outcomes = grade("ps90", course=tiny.course, cell_seconds=2, notebook_seconds=5, tell=told.append)
    return tiny, _by_student(outcomes), told


SCORES = {
    "right": 5, "untouched": 0, "partial": 2.5, "warns": 5, "syntax": 3, "exits": 2, "dies": 2, "slow": 2,
    "stubborn": 2, "copied": 5, "no-checks": 5, "cheat": 0, "markup": 5, "=cmd()": 5,
}  # fmt: skip
REFUSED = {
    "unreadable": "not valid JSON",
    "other": "another notebook",
    "nothing": "no notebook",
    "<i>": "student's name",
}


def test_everyone_gets_what_they_earned(run):
    tiny, outcomes, told = run
    assert {s: o.score for s, o in outcomes.items() if o.ok} == SCORES
    assert {o.max_score for o in outcomes.values() if o.ok} == {7}
    assert len(told) == len(outcomes) == len(SCORES) + len(REFUSED)
    assert recorded(tiny.course, "ps90") == sorted(SCORES)


def test_what_cannot_be_graded_is_said_to_instructor_and_student(run):
    tiny, outcomes, _ = run
    for student, reason in REFUSED.items():
        assert outcomes[student].state == "refused"
        assert reason in outcomes[student].message
        assert "\n" not in outcomes[student].message
        if student != "<i>":
            assert "could not be graded" in _page(tiny.course, student)
            assert reason in _page(tiny.course, student)
    assert not list(tiny.course.feedback.glob("<i>*"))


def test_states_say_what_happened(run):
    tiny, outcomes, _ = run
    assert outcomes["dies"].state == "kernel died"
    assert "q2: The kernel died while this cell ran" in outcomes["dies"].message
    assert outcomes["slow"].state == outcomes["stubborn"].state == "timed out"
    assert outcomes["slow"].message.startswith("q2_part: Stopped after 2 seconds.")
    assert "would not stop" in outcomes["stubborn"].message
    others = {s for s, o in outcomes.items() if o.ok} - {"dies", "slow", "stubborn"}
    assert {outcomes[s].state for s in others} == {"graded"}
    assert outcomes["slow"].seconds < 30
    assert "The kernel died while your notebook ran" in _page(tiny.course, "dies")
    assert "Not run: the kernel had died." in _page(tiny.course, "dies")
    assert "Your notebook took too long" in _page(tiny.course, "slow")


def test_what_was_mended_is_reported(run):
    tiny, outcomes, _ = run
    assert outcomes["copied"].notes == ["There were two cells q1: the last one counts."]
    assert "two cells q1" in _page(tiny.course, "copied")
    assert len(outcomes["no-checks"].notes) == 3
    assert "The check q2_nine was missing and was put back." in outcomes["no-checks"].message
    assert outcomes["right"].message == ""


def test_the_open_question_waits_for_a_person_unless_nobody_answered_it(run):
    _, outcomes, _ = run
    assert outcomes["right"].pending
    assert not outcomes["untouched"].pending
    assert outcomes["right"].questions == {"q1": (2, 2), "q2": (3, 3), "q3": (0, 2)}
    assert outcomes["partial"].questions["q2"] == (0.5, 3)


def test_csv(run):
    tiny, outcomes, _ = run
    rows = _rows(tiny.course)
    assert set(rows) == {harmless(s) for s in outcomes}
    assert rows["right"] == {
        "student": "right", "score": "5.0", "max_score": "7.0", "needs_manual_grading": "yes", "state": "graded",
        "q1": "2.0", "q2": "3.0", "q3": "0.0", "message": "",
    }  # fmt: skip
    assert "'=cmd()" in rows
    assert rows["unreadable"]["score"] == rows["nothing"]["score"] == ""
    assert rows["nothing"]["state"] == "refused"
    assert not [v for row in rows.values() for v in row.values() if v.startswith(("=", "+", "-", "@", "\t", "\r"))]


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "|x", "%x"])
def test_no_cell_of_a_csv_is_a_formula(text):
    assert harmless(text) == f"'{text}"


def test_plain_values_stay_plain():
    assert [harmless(v) for v in ("anna", "", "a=b", 1.5, -1.5)] == ["anna", "", "a=b", 1.5, -1.5]


def test_pages_show_no_hidden_test_and_run_nothing(run):
    tiny, outcomes, _ = run
    for student in outcomes:
        if student == "<i>":
            continue
        page = _page(tiny.course, student)
        assert "HIDDEN" not in page
        assert "double(21)" not in re.sub(r"<[^>]+>", "", page)
        assert "<script" not in page
        assert not re.search(r"<[^>]+\son\w+=", page)
        assert not re.search(r'(src|href)="(?!#|data:image/)', page)
        assert "default-src 'none'" in page
    page = _page(tiny.course, "markup")
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page


def test_a_page_explains(run):
    tiny, _, _ = run
    page = _page(tiny.course, "partial")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "2.5 of 7 points so far" in text
    assert "root(9) is 3" in text
    assert "Some of what this checks is right." in text
    assert "0.5 / 1.5" in text
    assert "a figure would be here" not in text, "a cell before the answer says nothing about it"
    assert "<math" in page
    assert "SyntaxError" in _page(tiny.course, "syntax")
    assert "NotImplementedError" in _page(tiny.course, "untouched")


def test_a_second_run_runs_nothing_and_keeps_marks_given_by_hand(run):
    tiny, first, _ = run
    course = tiny.course
    with gradebook(course) as book:
        mark = book.find_grade("q3", "ps90", "ps90", "right")
        mark.manual_score, mark.needs_manual_grade = 1.5, False
        book.find_comment("q3", "ps90", "ps90", "right").manual_comment = "Well put: $a<b$ <script>alert(5)</script>"
        book.db.commit()
    again = _by_student(grade("ps90", course=course, cell_seconds=2, notebook_seconds=5))
    assert {o.seconds for o in again.values()} == {0}
    assert {s: (o.state, o.message) for s, o in again.items()} == {s: (o.state, o.message) for s, o in first.items()}
    assert again["right"].score == 6.5
    assert not again["right"].pending
    assert _rows(course)["right"]["score"] == "6.5"
    page = _page(course, "right")
    assert "6.5 of 7 points" in page
    assert "Well put" in page
    assert "<script" not in page
    assert "so far" not in page.split("</p>")[0]


def test_what_changed_is_run_again_and_no_old_score_survives(run):
    tiny, _, _ = run
    course = tiny.course
    tiny.submit("right", tiny.answered(q3=tiny.right["q3"]))
    tiny.submit("partial", "{nope")
    again = _by_student(grade("ps90", course=course, students=["right", "partial"], cell_seconds=2, notebook_seconds=5))
    assert set(again) == {"right", "partial"}
    assert again["right"].questions == {"q1": (0, 2), "q2": (0, 3), "q3": (1.5, 2)}
    assert again["right"].pending, "a mark given by hand is to be looked at again"
    assert again["partial"].state == "refused"
    assert "still holds 2.5 points of an earlier submission" in again["partial"].message
    rows = _rows(course)
    assert set(rows) == {harmless(s) for s in {*SCORES, *REFUSED}}, "the others keep their lines"
    assert rows["partial"]["score"] == ""
    manifest = json.loads((course.grades / "ps90.json").read_text())
    assert [row["student"] for row in manifest] == sorted({*SCORES, *REFUSED})


# --- smaller runs --------------------------------------------------------------------------------------------------
def test_new_cells_in_a_set_that_was_graded(tiny):
    course = tiny.course
    tiny.submit("anna", tiny.answered(**tiny.right))
    (first,) = grade("ps90", course=course)
    assert first.score == 5

    def one_more(nb):
        extra = copy.deepcopy(nb.cells[4])
        extra.id, extra.metadata.nbgrader.grade_id, extra.metadata.nbgrader.points = "more", "q1_more", 3
        nb.cells.insert(5, extra)

    tiny.edit_source(one_more)
    (second,) = grade("ps90", course=course)
    assert (second.score, second.max_score) == (8, 10)
    with gradebook(course) as book:
        book.find_grade("q3", "ps90", "ps90", "anna").manual_score = 2
        book.db.commit()
    tiny.edit_source(lambda nb: nb.cells.pop(5))
    with pytest.raises(GradingError, match=r"gone: q1_more.*cannot be made again for anna"):
        grade("ps90", course=course)
    with gradebook(course) as book:
        assert book.find_submission("ps90", "anna").score == 10, "a refused run changes nothing"


def test_new_tests_in_an_old_cell_change_the_scores(tiny):
    tiny.submit("anna", tiny.answered(**tiny.right))
    assert grade("ps90", course=tiny.course)[0].score == 5

    def stricter(nb):
        nb.cells[4].source = nb.cells[4].source.replace("== 42", "== 43")

    tiny.edit_source(stricter)
    assert grade("ps90", course=tiny.course)[0].score == 3


def test_trouble_of_the_graders_own(tiny, monkeypatch):
    tiny.submit("anna", tiny.answered(**tiny.right))
    tiny.submit("bo", tiny.answered(**tiny.right))
    good = grade("ps90", course=tiny.course, students=["bo"])[0]
    assert good.ok

    def broken(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr("grading.intake.Submission.stage", broken)
    anna, bo = grade("ps90", course=tiny.course)
    assert (anna.state, anna.message) == ("failed", "OSError: no space left")
    assert bo.ok


def test_no_old_score_outlives_a_run_that_failed(tiny, monkeypatch):
    tiny.submit("anna", tiny.answered(**tiny.right))
    assert grade("ps90", course=tiny.course)[0].score == 5
    monkeypatch.setattr("grading.engine.autograde", lambda *args: Run("failed", "nbgrader could not grade it: X", 1.0))
    (outcome,) = grade("ps90", course=tiny.course, force=True)
    assert (outcome.state, outcome.score) == ("failed", None)
    held = score(tiny.course, "ps90", "anna")
    assert (held.score, held.pending) == (0, True)
    assert _rows(tiny.course)["anna"]["score"] == ""
    assert "not graded yet" in _page(tiny.course, "anna")
    assert not (tiny.course.autograded / "anna" / "ps90").exists()
    monkeypatch.undo()
    assert grade("ps90", course=tiny.course)[0].score == 5, "the next run tries again"


def test_two_runs_at_once(tiny):
    import fcntl

    tiny.submit("anna", tiny.release)
    tiny.course.grades.mkdir()
    with (tiny.course.grades / ".ps90.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(GradingError, match="another run is grading ps90"):
            grade("ps90", course=tiny.course)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["run", "ps77"], 2, "unknown problem set 'ps77': solutions/ holds ps90."),
        (["run", "ps90"], 2, "submitted/ has nothing for ps90: put notebooks at submitted/<student>/ps90/ps90.ipynb."),
        (["run", "ps90", "--cell-seconds", "0"], 2, "must be at least 1 second"),
        (["samples", "ps77"], 2, "unknown problem set"),
        (["release", "ps77"], 2, "unknown problem set"),
        (["corpus", "ps90", "q9"], 2, "ps90 has no coded question q9: it has q1, q2."),
        (["start", "ps77"], 2, "not released"),
        (["submit", "ps90", "--as", "anna"], 2, "start ps90"),
        (["submit", "ps90", "--as", "<b>"], 2, "cannot be a student's name"),
    ],
)
def test_wrong_use_is_one_line(tiny, capsys, arguments, status, said):
    assert main(["--course", str(tiny.course.root), *arguments]) == status
    out, err = capsys.readouterr()
    assert said in err
    assert err.startswith("grading: ")
    assert len(err.splitlines()) == 1
    assert out == ""


def test_a_folder_without_notebook_fails_the_command_and_nobody_else(tiny, capsys):
    tiny.submit("anna", tiny.answered(**tiny.right))
    (tiny.course.submitted / "bo" / "ps90").mkdir(parents=True)
    assert main(["--course", str(tiny.course.root), "run", "ps90"]) == 1
    out, err = capsys.readouterr()
    assert "no notebook: it belongs at submitted/bo/ps90/ps90.ipynb" in out
    assert re.search(r"anna +5 / 7 +to be marked +graded", out)
    assert err == "grading: not graded: bo (see above); everyone else is.\n"
    with pytest.raises(GradingError, match="nothing for ps90 from carl"):
        grade("ps90", course=tiny.course, students=["carl"])


def test_help_of_every_command(capsys):
    for command in ([], ["release"], ["run"], ["samples"], ["corpus"], ["start"], ["submit"], ["lab"]):
        with pytest.raises(SystemExit) as done:
            main([*command, "--help"])
        assert done.value.code == 0
        assert len(capsys.readouterr().out) > 200
    with pytest.raises(SystemExit):
        main(["run", "ps90", "--no-such-option"])


def test_the_autograded_notebook_is_kept_for_the_instructor(run):
    tiny, _, _ = run
    nb = read(tiny.course.autograded / "markup" / "ps90" / "ps90.ipynb")
    assert any("double(21)" in cell.source for cell in nb.cells)
    assert table([]).startswith("student")
