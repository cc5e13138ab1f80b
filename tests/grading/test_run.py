"""A run over everything that can go wrong: nothing stops the others, and everybody hears why."""

import ast
import contextlib
import copy
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import nbformat
import pytest
from sqlalchemy import text

from grading.__main__ import main
from grading.coordinator import Coordinator
from grading.course import GradingError
from grading.gradebook import GradebookGone, gradebook, recorded, score
from grading.kernels.task import Executed
from grading.manifest import Manifest, Outcome, read_manifest
from grading.notebook import is_check, read
from grading.pool import WorkerDied, execute
from grading.record import Record
from grading.run import grade, harmless, table
from grading.sandbox import unavailable
from grading.student_version import release

LIMITS = {"cell_seconds": 2, "notebook_seconds": 5, "sandbox": unavailable() is None}


def _here(tasks, **options):
    """Run tasks one by one in this process, whose fork server is warm from the release."""
    return ((task, execute(task)) for task in tasks)


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
    with pytest.MonkeyPatch.context() as m:
        m.setattr("grading.run.run_all", _here)
        outcomes = grade("ps90", course=tiny.course, **LIMITS, tell=told.append)
        yield tiny, _by_student(outcomes), told


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
    assert "The kernel died while this cell ran" in _page(tiny.course, "dies")
    assert "Your notebook took too long" in _page(tiny.course, "slow")


def test_what_was_mended_is_reported(run):
    tiny, outcomes, _ = run
    assert outcomes["copied"].notes == ["There were two cells q1: the last one counts."]
    assert "two cells q1" in _page(tiny.course, "copied")
    (note,) = outcomes["no-checks"].notes
    assert note == "3 checks (q1_check, q2_part, q2_nine) were missing and were put back."
    assert note in outcomes["no-checks"].message
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
        "student": "right", "score": "5.0", "max_score": "7.0", "late_penalty": "0.0", "needs_manual_grading": "yes",
        "state": "graded", "q1": "2.0", "q2": "3.0", "q3": "0.0", "message": "",
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
    again = _by_student(grade("ps90", course=course, **LIMITS))
    assert not any(o.ran for o in again.values())
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
    again = _by_student(grade("ps90", course=course, students=["right", "partial"], **LIMITS))
    assert set(again) == {"right", "partial"}
    assert again["right"].questions == {"q1": (0, 2), "q2": (0, 3), "q3": (1.5, 2)}
    assert not again["right"].pending, "the mark is for an answer that has not changed"
    assert again["partial"].state == "refused"
    assert "still holds 2.5 points of an earlier submission" in again["partial"].message
    rows = _rows(course)
    assert set(rows) == {harmless(s) for s in {*SCORES, *REFUSED}}, "the others keep their lines"
    assert rows["partial"]["score"] == ""
    manifest = json.loads((course.grades / "ps90.json").read_text())
    assert [row["student"] for row in manifest] == sorted({*SCORES, *REFUSED})
    tiny.submit("right", tiny.answered(q3="Something else."))
    (other,) = grade("ps90", course=course, students=["right"], **LIMITS)
    assert other.questions["q3"] == (1.5, 2)
    assert other.pending, "the mark is to be looked at again"


def test_points_given_by_hand_to_a_check_stay_while_the_answers_do(tiny, engine):
    def mark(points):
        with gradebook(tiny.course) as book:
            given = book.find_grade("q2_nine", "ps90", "ps90", "anna")
            given.manual_score, given.needs_manual_grade = points, False
            book.db.commit()

    wrong = {"q2": "def root(x):\n    return 0.0"}
    tiny.submit("anna", tiny.answered(**tiny.right | wrong))
    grade("ps90", course=tiny.course)
    mark(2)
    grade("ps90", course=tiny.course, force=True)
    with gradebook(tiny.course) as book:
        assert not book.find_grade("q2_nine", "ps90", "ps90", "anna").needs_manual_grade
    tiny.submit("anna", tiny.answered(**tiny.right | {"q2": "def root(x):\n    return 1.0"}))
    grade("ps90", course=tiny.course)
    with gradebook(tiny.course) as book:
        assert book.find_grade("q2_nine", "ps90", "ps90", "anna").needs_manual_grade


# --- smaller runs --------------------------------------------------------------------------------------------------
def _execute(task):
    """Stand in for the engine: one process, one namespace, no protection; it reads no clock and starts no kernel."""
    nb, names = json.loads(task.notebook), {}
    for n, cell in enumerate((c for c in nb["cells"] if c["cell_type"] == "code"), 1):
        cell["execution_count"], cell["outputs"] = n, []
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(tree, "cell", "exec"), names)
                value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
        except Exception as e:
            found = {"ename": type(e).__name__, "evalue": str(e), "traceback": []}
            cell["outputs"].append({"output_type": "error", **found})
            continue
        if value is not None:
            data = {"data": {"text/plain": repr(value)}, "metadata": {}, "execution_count": n}
            cell["outputs"].append({"output_type": "execute_result", **data})
    return Executed(json.dumps(nb), "graded", seconds=0.5, cpu_seconds=0.4, memory=100_000_000)


@pytest.fixture
def engine(monkeypatch):
    """Put the stand-in in the place of the engine; return the tasks it was given, and what to do with each."""

    class Engine:
        seen: ClassVar[list] = []
        does = staticmethod(_execute)

    Engine.seen = []

    def run_all(tasks, *, workers=None, scheduler=None):
        for task in tasks:
            Engine.seen.append(task)
            try:
                result = Engine.does(task)
            except Exception as e:
                result = e
            yield task, result

    monkeypatch.setattr("grading.run.run_all", run_all)
    return Engine


def _again(tiny, **options):
    """Release the set as it is now, and grade."""
    release("ps90", course=tiny.course)
    return grade("ps90", course=tiny.course, **options)


def test_the_stand_in_scores_as_nbgrader_does(tiny, engine):
    partial = {"q2": "def root(x):\n    return x / 4"}
    for student, answers in (("right", {}), ("partial", partial), ("broken", {"q1": "double = None"})):
        tiny.submit(student, tiny.answered(**tiny.right | answers))
    tiny.submit("untouched", tiny.answered())
    ours = {o.student: (o.score, o.pending, o.questions) for o in grade("ps90", course=tiny.course)}
    plain = grade("ps90", course=tiny.course, engine="nbgrader")
    assert ours == {o.student: (o.score, o.pending, o.questions) for o in plain}
    assert all(o.ran for o in plain), "another engine counts as another way of grading"
    assert len(engine.seen) == 4
    assert "What this check runs" in _page(tiny.course, "partial")


def test_new_cells_in_a_set_that_was_graded(tiny, engine):
    course = tiny.course
    tiny.submit("anna", tiny.answered(**tiny.right))
    (first,) = grade("ps90", course=course)
    assert first.score == 5

    def one_more(nb):
        extra = copy.deepcopy(nb.cells[4])
        extra.id, extra.metadata.nbgrader.grade_id, extra.metadata.nbgrader.points = "more", "q1_more", 3
        nb.cells.insert(5, extra)

    tiny.edit_source(one_more)
    with pytest.raises(GradingError, match="ps90 has changed since its release"):
        grade("ps90", course=course)
    with gradebook(course) as book:
        assert book.find_submission("ps90", "anna").score == 5, "a refused run changes nothing"
    (second,) = _again(tiny)
    assert (second.score, second.max_score) == (8, 10)
    with gradebook(course) as book:
        book.find_grade("q3", "ps90", "ps90", "anna").manual_score = 2
        book.db.commit()
    tiny.edit_source(lambda nb: nb.cells.pop(5))
    with pytest.raises(GradingError, match=r"gone: q1_more.*cannot be made again for anna"):
        _again(tiny)
    with gradebook(course) as book:
        assert book.find_submission("ps90", "anna").score == 10, "a refused run changes nothing"


def test_new_tests_in_an_old_cell_change_the_scores(tiny, engine):
    tiny.submit("anna", tiny.answered(**tiny.right))
    assert grade("ps90", course=tiny.course)[0].score == 5

    def stricter(nb):
        nb.cells[4].source = nb.cells[4].source.replace("== 42", "in (42, 43) and len(str(x := double(0.5))) == 3")

    tiny.edit_source(stricter)
    tiny.submit("anna", tiny.answered(**tiny.right | {"q1": "def double(x):\n    return int(2 * x)"}))
    assert _again(tiny)[0].score == 3


def test_what_the_engine_is_given(tiny, engine):
    path = tiny.submit("anna", tiny.answered(**tiny.right))
    (path.parent / "mine.csv").write_text("1")
    (path.parent / "given.csv").write_text("changed by the student")
    (tiny.course.solutions / "ps90" / "given.csv").write_text("the set's own")
    tiny.submit("sample-slow", tiny.answered(**tiny.right))
    grade("ps90", course=tiny.course, cell_seconds=40, memory_bytes=1 << 30, sandbox=False)
    task, sample = engine.seen
    assert (task.student, task.set) == ("anna", "ps90")
    assert task.files == {"mine.csv": b"1", "given.csv": b"changed by the student"}
    assert task.given == {"given.csv": b"the set's own"}
    assert (task.cell_seconds, task.notebook_seconds, task.memory_bytes, task.sandbox) == (40, 400, 1 << 30, False)
    assert (sample.cell_seconds, sample.notebook_seconds) == (20, 200)
    assert task.remote["q1_check"] == ["double"]
    assert "double(21)" in task.notebook
    assert task.hidden == [str(tiny.course.root)]
    kept = tiny.course.autograded / "anna" / "ps90"
    assert {p.name: p.read_text() for p in kept.glob("*.csv")} == {"mine.csv": "1", "given.csv": "the set's own"}
    (path.parent / "mine.csv").unlink()
    assert grade("ps90", course=tiny.course, students=["anna"])[0].ran
    assert not (kept / "mine.csv").exists(), "nothing of an earlier submission is left"
    assert not list(kept.parent.glob(".*")), "nor of the way there"


def test_trouble_of_the_graders_own(tiny, engine, monkeypatch):
    tiny.submit("anna", tiny.answered(**tiny.right))
    tiny.submit("bo", tiny.answered(**tiny.right))
    good = grade("ps90", course=tiny.course, students=["bo"])[0]
    assert good.ok

    def broken(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr("grading.coordinator.understand", broken)
    anna, bo = grade("ps90", course=tiny.course)
    assert (anna.state, anna.message) == ("failed", "OSError: no space left")
    assert bo.ok


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (lambda task: Executed("{}", "failed", "the examiner could not begin", seconds=1.0), "the examiner could not"),
        (lambda task: WorkerDied("a worker process died under it 3 times"), "WorkerDied: a worker process died"),
        (lambda task: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_no_old_score_outlives_a_run_that_failed(tiny, engine, does, said):
    tiny.submit("anna", tiny.answered(**tiny.right))
    assert grade("ps90", course=tiny.course)[0].score == 5
    engine.does = staticmethod(does)
    (outcome,) = grade("ps90", course=tiny.course, force=True)
    assert (outcome.state, outcome.score) == ("failed", None)
    assert said in outcome.message
    held = score(tiny.course, "ps90", "anna")
    assert (held.score, held.pending) == (0, True)
    assert _rows(tiny.course)["anna"]["score"] == ""
    assert "not graded yet" in _page(tiny.course, "anna")
    assert not (tiny.course.autograded / "anna" / "ps90").exists()
    engine.does = staticmethod(_execute)
    assert grade("ps90", course=tiny.course)[0].score == 5, "the next run tries again"


@pytest.mark.parametrize("lost", ["q2_nine", "notebook"])
def test_an_engine_that_loses_cells_changes_no_record(tiny, engine, lost):
    tiny.submit("anna", tiny.answered(**tiny.right))
    assert grade("ps90", course=tiny.course)[0].score == 5

    def loses(task):
        done = _execute(task)
        nb = json.loads(done.notebook)
        nb["cells"] = [c for c in nb["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") != lost]
        done.notebook = json.dumps(nb) if lost != "notebook" else "not JSON"
        return done

    engine.does = staticmethod(loses)
    (outcome,) = grade("ps90", course=tiny.course, force=True)
    assert outcome.state == "failed"
    assert score(tiny.course, "ps90", "anna").score == 5


def test_points_that_are_none_are_reported(tiny, engine):
    tiny.submit("anna", tiny.answered(**tiny.right))
    tiny.edit_source(lambda nb: nb.cells[8].update(source="# Partial credit\n1.5 if root(4) == 2 else float('nan')"))
    release("ps90", course=tiny.course)
    tiny.submit("bo", tiny.answered(**tiny.right | {"q2": "def root(x):\n    return 0"}))
    anna, bo = grade("ps90", course=tiny.course)
    assert (anna.score, bo.score) == (5, 2)
    assert "q2_part: The check gave nan, which is no number of points" in bo.message


def test_lateness(tiny, engine):
    config = tiny.course.root / "nbgrader_config.py"
    config.write_text(f"{config.read_text()}\nc.LateSubmissionPlugin.penalty_method = 'zero'\n")
    for student, when in (("early", "2030-01-01 00:00:00"), ("late", "2030-01-03 00:00:00"), ("odd", "tomorrow")):
        tiny.submit(student, tiny.answered(**tiny.right)).with_name("timestamp.txt").write_text(when)
    assert {o.score for o in grade("ps90", course=tiny.course)} == {5}
    with gradebook(tiny.course) as book:
        book.find_assignment("ps90").duedate = datetime(2030, 1, 2)
        book.db.commit()
    early, late, odd = grade("ps90", course=tiny.course)
    assert not late.ran
    assert [(o.score, o.penalty) for o in (early, late, odd)] == [(5, 0), (0, 5), (5, 0)]
    assert "timestamp.txt does not hold a time" in odd.message
    assert "Handed in late" in _page(tiny.course, "late")
    assert _rows(tiny.course)["late"]["late_penalty"] == "5.0"


def test_pages_go_out_through_nbgrader_s_exchange(tiny, engine, tmp_path):
    from nbgrader.coursedir import CourseDirectory
    from nbgrader.exchange.default import ExchangeReleaseFeedback
    from nbgrader.utils import notebook_hash

    for student in ("anna", "bo"):
        notebook = tiny.submit(student, tiny.answered(**tiny.right))
        notebook.with_name("timestamp.txt").write_text("2030-01-01 00:00:00 UTC")
        notebook.with_name("submission_secret.txt").write_text(f"{student}'s secret")
    grade("ps90", course=tiny.course)
    config = tiny.course.config()
    config.CourseDirectory.root, config.CourseDirectory.course_id = str(tiny.course.root), "tiny"
    config.Exchange.root = str(tmp_path / "exchange")
    Path(config.Exchange.root).mkdir(mode=0o777)
    coursedir = CourseDirectory(config=config)
    coursedir.assignment_id = "ps90"
    ExchangeReleaseFeedback(coursedir=coursedir, config=config).start()
    out = {p.name: p.read_text() for p in (tmp_path / "exchange" / "tiny" / "feedback").iterdir()}
    secret = {student: notebook_hash(secret=f"{student}'s secret", notebook_id="ps90") for student in ("anna", "bo")}
    assert out == {f"{name}.html": _page(tiny.course, student) for student, name in secret.items()}


# --- a run that is cut off, and the next ---------------------------------------------------------------------------


class Killed(BaseException):
    """As if the process were gone."""


@pytest.mark.parametrize("step", ["keep", "recorded", "shown", "noted"])
@pytest.mark.parametrize("first", [True, False])
def test_a_run_that_ends_anywhere_is_made_whole_by_the_next(tiny, engine, monkeypatch, step, first):
    """Ended before or after each of the four things that are written, on a first submission or a later one."""
    if not first:
        tiny.submit("anna", tiny.answered())
        tiny.submit("bo", tiny.answered(**tiny.right))
        grade("ps90", course=tiny.course)
        with gradebook(tiny.course) as book:
            book.find_comment("q3", "ps90", "ps90", "anna").manual_comment = "kept"
            mark = book.find_grade("q3", "ps90", "ps90", "bo")
            mark.manual_score, mark.needs_manual_grade = 1.0, False
            book.db.commit()
    tiny.submit("anna", tiny.answered(**tiny.right))
    tiny.submit("bo", tiny.answered(q1=tiny.right["q1"]))
    where = {
        "keep": (Coordinator, "_keep"), "recorded": (Record, "record"),
        "shown": (Coordinator, "_show"), "noted": (Manifest, "add"),
    }[step]  # fmt: skip
    real = getattr(*where)

    def then_killed(*args, **kwargs):
        real(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as m:
        m.setattr(*where, then_killed)
        with pytest.raises(Killed):
            grade("ps90", course=tiny.course)
    engine.seen.clear()
    anna, bo = grade("ps90", course=tiny.course)
    assert (anna.score, bo.score) == (5, 2 if first else 3)
    assert first or bo.pending, "the answer that was marked has changed"
    assert [t.student for t in engine.seen] == (["bo"] if step == "noted" else ["anna", "bo"])
    assert "5 of 7 points" in _page(tiny.course, "anna")
    assert ("kept" in _page(tiny.course, "anna")) != first
    nb = read(tiny.course.autograded / "anna" / "ps90" / "ps90.ipynb")
    assert any(c.source == tiny.right["q1"] for c in nb.cells)
    with gradebook(tiny.course) as book:
        assert len(book.find_assignment("ps90").submissions) == 2, "each is there once"
    assert sorted(p.name for p in tiny.course.grades.iterdir()) == [".ps90.lock", "ps90.csv", "ps90.html", "ps90.json"]


def test_a_killed_process_heals(tiny):
    """The real thing: kill -9 of the whole engine in mid-run, several times; then one run that ends."""
    for i in range(12):
        tiny.submit(f"s{i:02}", tiny.answered(**tiny.right | {"q1": f"def double(x):\n    return 2 * x  # {i}"}))
    program = (
        "import sys, json; sys.path[:0] = sys.argv[1:3]; import pytest; from grading.course import Course;"
        "import grading.run, test_run; from pathlib import Path;"
        "slow = lambda t: (__import__('time').sleep(0.05), test_run._execute(t))[1];"
        "grading.run.run_all = lambda tasks, **k: ((t, slow(t)) for t in tasks);"
        "grading.run.grade('ps90', course=Course(Path(sys.argv[3])), tell=lambda l: print(l, flush=True))"
    )
    here = Path(__file__).resolve()
    command = [sys.executable, "-c", program, str(here.parents[2]), str(here.parent), str(tiny.course.root)]
    seen = 0
    for kills in (1, 3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(kills):
                assert process.stdout.readline()
            process.kill()
        seen = len(read_manifest(tiny.course, "ps90"))
        assert seen >= kills
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("unchanged") >= seen > 0
    assert {o.score for o in read_manifest(tiny.course, "ps90").values()} == {5}
    assert len(_rows(tiny.course)) == 12
    with gradebook(tiny.course) as book:
        assert len(book.find_assignment("ps90").submissions) == 12


def test_what_has_not_changed_costs_next_to_nothing(tiny, engine, monkeypatch):
    tiny.submit("anna", tiny.answered(**tiny.right))
    grade("ps90", course=tiny.course)
    with monkeypatch.context() as m:
        m.setattr("grading.coordinator.understand", None)  # not even parsed
        m.setattr("grading.coordinator.graded_page", None)  # nor shown again
        m.setattr("grading.kernels.server.begin", None)  # nor is torch loaded for it
        (again,) = grade("ps90", course=tiny.course)
        assert (again.ran, again.seconds, again.score) == (False, 0.5, 5)
    (tiny.course.feedback / "anna" / "ps90" / "ps90.html").unlink()
    grade("ps90", course=tiny.course)
    assert "5 of 7 points" in _page(tiny.course, "anna"), "a page that was lost is made again"
    assert len(engine.seen) == 1
    shutil.rmtree(tiny.course.autograded)
    assert grade("ps90", course=tiny.course)[0].ran
    assert grade("ps90", course=tiny.course, force=True)[0].ran
    assert grade("ps90", course=tiny.course, cell_seconds=61)[0].ran, "other limits"


def test_names_that_are_no_text_stop_nobody(tiny, engine, capsys):
    tiny.submit("anna", tiny.answered(**tiny.right))
    os.makedirs(os.fsencode(tiny.course.submitted) + b"/b\xff/ps90")
    told = []
    anna, odd = grade("ps90", course=tiny.course, tell=told.append)
    assert anna.ok
    assert (odd.student, odd.state) == (r"b\udcff", "refused")
    "\n".join(told).encode()
    (tiny.course.grades / "ps90.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "damage", ["", "[", "[7]", "{}", '[{"student": "anna"}]', '[{"student": "anna", "state": "graded", "what": 1}]',
               '[{"student": "anna", "state": "graded", "questions": [1]}]', "\0\xff"],
)  # fmt: skip
def test_a_damaged_manifest_means_that_everything_is_graded_again(tiny, engine, damage):
    tiny.submit("anna", tiny.answered(**tiny.right))
    grade("ps90", course=tiny.course)
    (tiny.course.grades / "ps90.json").write_text(damage)
    (tiny.course.grades / ".ps90.journal").write_text(damage)
    (anna,) = grade("ps90", course=tiny.course)
    assert (anna.ran, anna.score) == (True, 5)


def test_the_journal_of_a_run_that_was_cut_off_counts(tiny, tmp_path):
    with Manifest(tiny.course, "ps90") as manifest:
        manifest.add(Outcome("anna", "graded", questions={"q1": (1.0, 2.0)}))
        manifest.add(Outcome("bo", "graded"))
        assert read_manifest(tiny.course, "ps90").keys() == {"anna", "bo"}
        text = manifest.journal.read_text()
    assert not manifest.journal.exists()
    manifest.path.unlink()
    manifest.journal.write_text(text[:-5])
    with Manifest(tiny.course, "ps90") as manifest:
        assert manifest.outcomes == {"anna": Outcome("anna", "graded", questions={"q1": (1.0, 2.0)})}


def test_the_gradebook_goes_away_in_mid_run(tiny, engine, monkeypatch):
    for student in ("anna", "bo", "carl"):
        tiny.submit(student, tiny.answered(**tiny.right))
    real = Record.record

    def gone(self, student, *args, **kwargs):
        if student == "bo":
            raise GradebookGone("the gradebook cannot be reached: run again to go on.")
        return real(self, student, *args, **kwargs)

    with monkeypatch.context() as m:
        m.setattr(Record, "record", gone)
        with pytest.raises(GradebookGone):
            grade("ps90", course=tiny.course)
    assert [t.student for t in engine.seen] == ["anna", "bo"], "nobody is run in vain"
    assert [o.ran for o in grade("ps90", course=tiny.course)] == [False, True, True]


def test_no_gradebook_to_be_had_is_one_line(tiny, capsys):
    tiny.submit("anna", tiny.answered(**tiny.right))
    book = tiny.course.root / "gradebook.db"
    book.write_bytes(b"no database" * 1000)
    assert main(["--course", str(tiny.course.root), "run", "ps90"]) == 2
    assert capsys.readouterr().err == f"grading: the gradebook {book} cannot be used: file is not a database\n"
    assert book.read_bytes() == b"no database" * 1000
    config = tiny.course.root / "nbgrader_config.py"
    address = "postgresql+psycopg://grader:hush@127.0.0.1:9/course"
    config.write_text(f"{config.read_text()}\nc.CourseDirectory.db_url = {address!r}\n")
    assert main(["--course", str(tiny.course.root), "run", "ps90"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("grading: the gradebook at postgresql+psycopg://grader:***@127.0.0.1:9/course cannot be ")
    assert len(said.splitlines()) == 1
    assert "hush" not in said


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("c.X = = 1", "nbgrader_config.py, line {line}: SyntaxError: invalid syntax"),
        ("import nothing_of_this_name", "nbgrader_config.py, line {line}: ModuleNotFoundError: No module named"),
        ("c.AssignLatePenalties.plugin_class = 'no.Such'", "nbgrader_config.py: the plugin for late penalties cannot"),
        ("c.CourseDirectory.db_url = 'rubbish'", "nbgrader_config.py: db_url is no address of a database"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(tiny, capsys, setting, said):
    tiny.submit("anna", tiny.answered(**tiny.right))
    config = tiny.course.root / "nbgrader_config.py"
    program = f"{config.read_text()}\n{setting}\n"
    config.write_text(program)
    assert main(["--course", str(tiny.course.root), "run", "ps90"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("grading: " + said.format(line=len(program.splitlines())))
    assert len(err.splitlines()) == 1


def test_a_gradebook_of_another_nbgrader(tiny, engine):
    tiny.submit("anna", tiny.answered(**tiny.right))
    with gradebook(tiny.course) as book:
        book.db.execute(text("UPDATE alembic_version SET version_num = 'older'"))
        book.db.commit()
    with pytest.raises(GradingError, match="version older of its tables.*nbgrader db upgrade"):
        grade("ps90", course=tiny.course)
    assert engine.seen == []


def test_a_late_penalty_that_fails_is_named(tiny, engine):
    config = tiny.course.root / "nbgrader_config.py"
    config.write_text(
        f"{config.read_text()}\nfrom nbgrader.plugins import LateSubmissionPlugin\n"
        "class Tenth(LateSubmissionPlugin):\n"
        "    def late_submission_penalty(self, student_id, score, seconds):\n        return scor / 10\n"
        "c.AssignLatePenalties.plugin_class = Tenth\n"
    )
    tiny.submit("anna", tiny.answered(**tiny.right)).with_name("timestamp.txt").write_text("2030-01-03 00:00:00")
    with gradebook(tiny.course) as book:
        book.update_or_create_assignment("ps90", duedate=datetime(2030, 1, 2))
    (anna,) = grade("ps90", course=tiny.course)
    assert (anna.state, anna.message) == (
        "failed", "GradingError: the late penalty Tenth: NameError: name 'scor' is not defined",
    )  # fmt: skip


def test_who_counts(tiny, engine, capsys):
    samples = ("sample-a", "sample-b")
    for student in samples:
        tiny.submit(student, tiny.answered(**tiny.right))
    grade("ps90", course=tiny.course)
    assert set(_rows(tiny.course)) == set(samples)
    for student in ("anna", "bo", "carl"):
        tiny.submit(student, tiny.answered(**tiny.right))
    (tiny.course.submitted / "dora" / "ps90").mkdir(parents=True)
    grade("ps90", course=tiny.course)
    assert set(_rows(tiny.course)) == {"anna", "bo", "carl", "dora"}, "samples count only among themselves"
    shutil.rmtree(tiny.course.submitted / "dora")
    shutil.rmtree(tiny.course.submitted / "anna")
    with gradebook(tiny.course) as book:
        book.remove_submission("ps90", "bo")
    main(["--course", str(tiny.course.root), "report", "ps90"])
    rows = _rows(tiny.course)
    assert {s: (row["state"], row["score"]) for s, row in rows.items()} == {
        "anna": ("graded", "5.0"), "bo": ("failed", ""), "carl": ("graded", "5.0"),
    }  # fmt: skip
    assert rows["bo"]["message"].startswith("no longer in the gradebook")
    assert "3 submissions: 2 graded, 1 failed" in capsys.readouterr().out


def test_names_may_come_after_options(tiny, engine):
    for student in ("anna", "bo"):
        tiny.submit(student, tiny.answered(**tiny.right))
    run = ["--course", str(tiny.course.root), "run"]
    assert main([*run, "ps90", "--cell-seconds", "7", "bo"]) == 0
    assert main([*run, "--force", "ps90", "a*", "--workers", "1"]) == 0
    assert [(t.student, t.cell_seconds) for t in engine.seen] == [("bo", 7), ("anna", 60)]
    with pytest.raises(SystemExit):
        main([*run, "ps90", "--no-such-option", "bo"])


def test_a_file_in_the_way_is_one_line(tiny, capsys):
    tiny.submit("anna", tiny.answered(**tiny.right))
    tiny.course.grades.write_text("")
    assert main(["--course", str(tiny.course.root), "run", "ps90"]) == 2
    assert capsys.readouterr().err == f"grading: {tiny.course.grades}: File exists\n"


def test_no_line_means_anything_to_a_terminal(tiny, engine, capsys):
    evil = "\x1b]52;c;ZXZpbA==\x07\x1bc\x9b31m\u202e"
    nb = tiny.answered(**tiny.right | {"q1": f"def double(x):\n    raise ValueError({evil!r})"})
    tiny.submit("anna", nb)
    tiny.submit("bo", nb, name=f"{evil}.ipynb")
    tiny.submit("carl", "{}", name=f"{evil}.ipynb")
    main(["--course", str(tiny.course.root), "run", "ps90"])
    said = "".join(capsys.readouterr())
    assert "ZXZpbA" in said
    assert all(c.isprintable() or c == "\n" for c in said)


# --- use -----------------------------------------------------------------------------------------------------------
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


def test_a_folder_without_notebook_fails_the_command_and_nobody_else(tiny, engine, capsys):
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


def test_pages_and_report_take_in_marks_without_running_anything(tiny, capsys):
    root = str(tiny.course.root)
    assert main(["--course", root, "feedback", "ps90"]) == 2
    assert "nothing of ps90 was graded yet" in capsys.readouterr().err
    tiny.submit("anna", tiny.answered(**tiny.right))
    tiny.submit("bo", "{nope")
    grade("ps90", course=tiny.course, workers=1, sandbox=unavailable() is None)
    autograded = tiny.course.autograded / "anna" / "ps90" / "ps90.ipynb"
    before = autograded.stat().st_mtime_ns
    with gradebook(tiny.course) as book:
        book.find_grade("q3", "ps90", "ps90", "anna").manual_score = 1.5
        book.db.commit()
    assert main(["--course", root, "feedback", "ps90"]) == 0
    assert "6.5 of 7 points" in _page(tiny.course, "anna")
    assert main(["--course", root, "report", "ps90"]) == 1, "bo's could not be graded"
    assert re.search(r"anna +6.5 / 7", capsys.readouterr().out)
    assert _rows(tiny.course)["anna"]["score"] == "6.5"
    assert autograded.stat().st_mtime_ns == before
