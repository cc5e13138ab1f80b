"""Scores in the gradebook: those that nbgrader's own Autograde would write, all of them or none."""

import copy
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from nbformat.v4 import new_output, writes_json
from nbgrader import api
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory
from nbgrader.plugins import LateSubmissionPlugin
from nbgrader.preprocessors import NbGraderPreprocessor
from sqlalchemy import select, text

from grading.course import GradingError
from grading.gradebook import GradebookGone, db_url, enter_set, gradebook, score, tables_version
from grading.intake import examined
from grading.notebook import grade_id, is_check
from grading.quiet import quietly
from grading.record import NO_POINTS, Record


# --- two ways to the gradebook -------------------------------------------------------------------------------------
class Inject(NbGraderPreprocessor):
    """Stands in for nbgrader's execution: gives each check the outputs that the test has for it."""

    outputs: dict = {}  # noqa: RUF012

    def preprocess(self, nb, resources):
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs = copy.deepcopy(self.outputs[resources["nbgrader"]["student"]].get(grade_id(cell), []))
        return nb, resources


class Half(LateSubmissionPlugin):
    """Takes off half, or more than there is, or less than nothing."""

    def late_submission_penalty(self, student_id, score, total_seconds_late):
        return {"s0": score / 2, "s1": score + 5, "s2": -1.0}.get(student_id)


def _by_nbgrader(course, notebooks, outputs, stamps):
    """Let nbgrader's converter write the scores."""
    config = course.config()
    config.CourseDirectory.db_url = db_url(course)
    Inject.outputs = outputs
    config.Autograde.autograde_preprocessors = [
        Inject,
        "nbgrader.preprocessors.IgnorePattern",
        "nbconvert.preprocessors.ClearMetadataPreprocessor",
        "nbgrader.preprocessors.LimitOutput",
        "nbgrader.preprocessors.SaveAutoGrades",
        "nbgrader.preprocessors.AssignLatePenalties",
        "nbgrader.preprocessors.CheckCellMetadata",
    ]
    config.AssignLatePenalties.plugin_class = Half
    shutil.rmtree(course.submitted, ignore_errors=True)
    for student, nb in notebooks.items():
        folder = course.submitted / student / "ps90"
        folder.mkdir(parents=True)
        (folder / "ps90.ipynb").write_text(writes_json(nb))
        if student in stamps:
            (folder / "timestamp.txt").write_text(stamps[student].isoformat())
    coursedir = CourseDirectory(config=config)
    coursedir.assignment_id = "ps90"
    with quietly() as log:
        Autograde(coursedir=coursedir, config=config, force=True).start()
    assert not [line for line in log.lines if "Traceback" in line]


def _by_record(course, release, whole, notebooks, outputs, stamps):
    with Record(course, "ps90", release) as record:
        record._late.plugin_inst = Half()
        for student, nb in notebooks.items():
            ran = examined(nb, whole)
            for cell in ran.cells:
                if cell.cell_type == "code":
                    cell.outputs = copy.deepcopy(outputs[student].get(grade_id(cell), []))
            assert record.settle(ran) == []
            record.record(student, ran, stamps.get(student))


def _rows(course):
    """Everything in the gradebook about submissions, without the ids that are drawn at random."""
    with gradebook(course) as book:
        found = {}
        for s in book.db.scalars(select(api.SubmittedAssignment)):
            found[s.student_id] = (s.timestamp, s.extension, s.student.first_name)
            for nb in s.notebooks:
                found[s.student_id, nb.name] = (nb.late_submission_penalty, nb.flagged, nb.score, nb.needs_manual_grade)
                for g in nb.grades:
                    key = (s.student_id, nb.name, "grade", g.name)
                    found[key] = (g.auto_score, g.manual_score, g.extra_credit, g.needs_manual_grade, g.failed_tests)
                for c in nb.comments:
                    found[s.student_id, nb.name, "comment", c.name] = (c.auto_comment, c.manual_comment, c.comment)
        return found


def _result(value):
    return [new_output("execute_result", data={"text/plain": value}, execution_count=1)]


ERROR = new_output("error", ename="AssertionError", evalue="no", traceback=["no"])
OUTPUTS = [
    [], [new_output("stream", name="stdout", text="x")], [new_output("stream", name="stderr", text="warned\n" * 3)],
    [ERROR], [new_output("stream", name="stderr", text="hm"), ERROR], _result("0"), _result("1.5"), _result("0.25"),
    _result("True"), _result("'text'"), _result("1e-3"), [new_output("display_data", data={"text/plain": "7"})],
    [new_output("stream", name="stdout", text="x\n" * 5000)], [*_result("1"), ERROR],
]  # fmt: skip


@pytest.fixture(scope="module")
def blank(make_tiny, tmp_path_factory):
    """A course with an empty gradebook that knows the set: nbgrader takes seconds to make one."""
    tiny = make_tiny(tmp_path_factory.mktemp("blank") / "course")
    tiny.issue = enter_set(tiny.course, "ps90")
    return tiny


@pytest.fixture
def courses(make_tiny, tmp_path, blank):
    """Two courses that are the same, each with its gradebook."""
    made = [make_tiny(tmp_path / name) for name in ("one", "two")]
    for tiny in made:
        shutil.copy(blank.course.root / "gradebook.db", tiny.course.root)
    return made


@pytest.fixture
def record(courses, blank):
    """One open record."""
    with Record(courses[0].course, "ps90", blank.issue.release) as opened:
        yield opened


def _drawn(rng, tiny):
    nb = tiny.answered(**({"q3": "mine"} if rng.random() < 0.6 else {}), **({"q1": "x"} if rng.random() < 0.5 else {}))
    return nb, {grade_id(c): rng.choice(OUTPUTS) for c in nb.cells if is_check(c)}


@pytest.mark.parametrize("seed", range(2))
def test_the_rows_are_those_that_nbgrader_writes(courses, blank, seed):
    """First submissions; then marks, comments, a due date and extensions; then everything graded again."""
    rng = random.Random(seed)
    one, two = (tiny.course for tiny in courses)
    students = [f"s{i}" for i in range(6)]
    due = datetime(2030, 1, 1)
    for round_ in range(3):
        drawn = {s: _drawn(rng, blank) for s in students}
        notebooks, outputs = ({s: d[i] for s, d in drawn.items()} for i in (0, 1))
        stamps = {s: due + timedelta(hours=rng.choice([-5, 5, 50])) for s in students if rng.random() < 0.7}
        _by_nbgrader(one, notebooks, outputs, stamps)
        _by_record(two, blank.issue.release, blank.issue.whole, notebooks, outputs, stamps)
        assert _rows(one) == _rows(two), f"round {round_}"
        state = rng.getstate()
        for course in (one, two):
            rng.setstate(state)
            with gradebook(course) as book:
                book.find_assignment("ps90").duedate = due
                for s in students:
                    submission = book.find_submission("ps90", s)
                    submission.extension = timedelta(hours=rng.choice([0, 24])) if rng.random() < 0.5 else None
                    (nb,) = submission.notebooks
                    nb.flagged = rng.random() < 0.3
                    for g in sorted(nb.grades, key=lambda g: g.name):
                        if rng.random() < 0.3:
                            g.manual_score, g.needs_manual_grade = rng.choice([0, 1.0, 2.0, None]), False
                            g.extra_credit = rng.choice([None, 0.5])
                    for c in sorted(nb.comments, key=lambda c: c.name):
                        c.manual_comment = rng.choice([None, "Well put."])
                book.db.commit()
    assert any(row[0] for key, row in _rows(two).items() if len(key) == 2), "somebody was late"


# --- what a number may be ------------------------------------------------------------------------------------------
def _ran(blank, outputs=None, **answers):
    nb = examined(blank.answered(**answers), blank.issue.whole)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs = copy.deepcopy((outputs or {}).get(grade_id(cell), []))
    return nb


@pytest.mark.parametrize("value", ["nan", "-1", "-0.001", "1.5000001", "inf", "-inf", "1e9", ""])
def test_what_cannot_be_points_scores_nothing_and_is_reported(record, blank, value):
    """nbgrader gives full marks for NaN and negative numbers, and stops at a number above the maximum."""
    nb = _ran(blank, {"q2_part": _result(value)}, **blank.right)
    (note,) = record.settle(nb)
    assert note.startswith("q2_part: The check gave ")
    assert "0 to 1.5 are expected" in note
    held = record.record("anna", nb)
    assert held.marks["q2_part"] == (0, 1.5, False)
    cell = next(c for c in nb.cells if grade_id(c) == "q2_part")
    assert [o.get("ename") for o in cell.outputs] == [NO_POINTS], "nbgrader scores what is stored the same way"


@pytest.mark.parametrize(("value", "points"), [("0", 0), ("1.5", 1.5), (" 1 ", 1), ("True", 1.5), ("tensor(1.)", 1.5)])
def test_what_may_be_points_stays(record, blank, value, points):
    nb = _ran(blank, {"q2_part": _result(value)}, **blank.right)
    assert record.settle(nb) == []
    assert record.record("anna", nb).marks["q2_part"].got == points


def test_a_score_says_everything(record, blank):
    held = record.record("anna", _ran(blank, {"q2_nine": [ERROR]}, **blank.right))
    assert (held.score, held.max_score, held.pending, held.by_hand, held.penalty) == (3.5, 7, True, False, 0)
    assert held.questions == {"q1": (2, 2), "q2": (1.5, 3), "q3": (0, 2)}
    assert held.marks["q3"] == (0, 2, True)
    assert held.comments == {}
    untouched = record.record("bo", _ran(blank))
    assert untouched.marks["q3"] == (0, 2, False), "nobody answered: nothing waits for a person"
    assert untouched.comments == {"q1": "No response.", "q2": "No response.", "q3": "No response."}
    assert record.scores() == {"anna": held, "bo": untouched}
    assert score(record._course, "ps90", "anna") == held
    assert score(record._course, "ps90", "carl") is None


def test_marks_given_by_hand_stay_and_are_looked_at_again(record, blank):
    record.record("anna", _ran(blank, **blank.right))
    with gradebook(record._course) as book:
        mark = book.find_grade("q3", "ps90", "ps90", "anna")
        mark.manual_score, mark.needs_manual_grade = 1.5, False
        book.find_comment("q3", "ps90", "ps90", "anna").manual_comment = "Well put."
        book.db.commit()
    assert record.refresh("anna").marks["q3"] == (1.5, 2, False)
    again = record.record("anna", _ran(blank, {"q1_check": [ERROR]}, **blank.right))
    assert again.marks["q3"] == (1.5, 2, True)
    assert (again.score, again.by_hand, again.comments) == (4.5, True, {"q3": "Well put."})
    record.clear("anna")
    cleared = record.scores()["anna"]
    assert (cleared.score, cleared.comments) == (1.5, {"q3": "Well put."})
    assert all(mark.pending for mark in cleared.marks.values())


def test_lateness_is_counted_anew_when_the_due_date_changes(record, blank):
    record._late.plugin_inst.penalty_method = "zero"
    when = datetime(2030, 1, 2)
    assert record.record("anna", _ran(blank, **blank.right), when).score == 5
    for due, points, penalty in ((datetime(2030, 1, 1), 0, 5), (datetime(2030, 1, 3), 5, 0)):
        with gradebook(record._course) as book:
            book.find_assignment("ps90").duedate = due
            book.db.commit()
        held = record.refresh("anna")
        assert (held.score, held.penalty) == (points, penalty)
        assert record.scores()["anna"] == held
    assert record.refresh("nobody") is None


# --- all or nothing ------------------------------------------------------------------------------------------------
def test_an_exception_leaves_the_old_state(record, blank, monkeypatch):
    record.record("anna", _ran(blank, **blank.right), datetime(2030, 1, 1))
    before = _rows(record._course)
    worse = _ran(blank, {"q1_check": [ERROR], "q2_nine": [ERROR]}, q3="other")

    def broken(*args):
        raise RuntimeError("in the middle")

    with monkeypatch.context() as m:
        m.setattr(record, "_settled", broken)
        for student in ("anna", "bo"):
            with pytest.raises(RuntimeError):
                record.record(student, worse, datetime(2031, 1, 1))
    assert _rows(record._course) == before
    worse.cells = [c for c in worse.cells if grade_id(c) != "q2_nine"]
    with pytest.raises(GradingError, match="the executed notebook of anna lacks the graded cell q2_nine"):
        record.record("anna", worse)
    assert _rows(record._course) == before


def test_a_process_killed_in_the_middle_leaves_the_old_state(record, blank, tmp_path):
    record.record("anna", _ran(blank, **blank.right))
    before = _rows(record._course)
    (tmp_path / "nb.json").write_text(writes_json(_ran(blank, {"q1_check": [ERROR]})))
    (tmp_path / "release.json").write_text(writes_json(blank.issue.release))
    program = f"""
import os, signal
from pathlib import Path
from nbformat.v4 import reads_json
from grading.course import Course
from grading.record import Record
Record._settled = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
read = lambda name: reads_json(Path({str(tmp_path)!r}, name).read_text())
with Record(Course(Path({str(record._course.root)!r})), "ps90", read("release.json")) as record:
    record.record("anna", read("nb.json"))
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == -9, done.stderr
    assert _rows(record._course) == before
    assert record.record("anna", _ran(blank, {"q1_check": [ERROR]})).score == 3


@contextmanager
def _someone_writes(course):
    """Hold SQLite's lock, as formgrader does while it saves a mark."""
    other = sqlite3.connect(course.root / "gradebook.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.execute("COMMIT")
    other.close()


def test_a_mark_given_at_the_same_moment_is_seen(record, blank):
    record.record("anna", _ran(blank, **blank.right))
    done = []
    again = threading.Thread(target=lambda: done.append(record.record("anna", _ran(blank, **blank.right))))
    with _someone_writes(record._course) as other:
        again.start()
        again.join(0.5)
        assert again.is_alive(), "it waits for its turn"
        other.execute("UPDATE grade SET manual_score = 1 WHERE auto_score IS NULL")
    again.join(60)
    assert done[0].marks["q3"] == (1, 2, True), "it did not decide on what it had read before"


def test_a_thousand_submissions_keep_memory_flat(record, blank):
    nb = _ran(blank, **blank.right)
    for i in range(20):
        record.record(f"s{i}", nb)
    assert len(record._book.db().identity_map) == 0


# --- PostgreSQL ----------------------------------------------------------------------------------------------------
@pytest.fixture
def postgres():
    """The address of a fresh PostgreSQL server that belongs to this test, and the file with its process's id."""
    pytest.importorskip("psycopg", reason="PostgreSQL needs psycopg: pip install 'psycopg[binary]'")
    found = [p for p in (shutil.which("initdb"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))) if p]
    if not found:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    home, data = Path(found[0]).resolve().parent, Path(tempfile.mkdtemp(prefix="pg-"))  # a socket's path is short
    as_nobody = {}
    if os.geteuid() == 0:  # PostgreSQL does not run as root
        as_nobody = {"user": 65534, "group": 65534, "extra_groups": []}
        os.chown(data, 65534, 65534)
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "timeout": 60, "cwd": data, **as_nobody}
    subprocess.run([home / "initdb", "-D", data / "db", "-U", "grader", "-A", "trust", "-N"], **quiet)
    options = f"-c listen_addresses= -c unix_socket_directories={data} -c fsync=off"
    subprocess.run([home / "pg_ctl", "-D", data / "db", "-o", options, "-w", "-l", data / "log", "start"], **quiet)
    try:
        yield f"postgresql+psycopg://grader@/postgres?host={data}", data / "db" / "postmaster.pid"
    finally:
        subprocess.run([home / "pg_ctl", "-D", data / "db", "-m", "immediate", "stop"], **quiet | {"check": False})
        shutil.rmtree(data)


def test_postgresql(postgres, make_tiny, tmp_path):
    tiny = make_tiny(tmp_path / "course")
    config = tiny.course.root / "nbgrader_config.py"
    config.write_text(f"{config.read_text()}\nc.CourseDirectory.db_url = {postgres[0]!r}\n")
    tiny.issue = enter_set(tiny.course, "ps90")
    with Record(tiny.course, "ps90", tiny.issue.release) as record:
        assert record.record("anna", _ran(tiny, **tiny.right), datetime(2030, 1, 1)).score == 5
        before = _rows(tiny.course)
        with gradebook(tiny.course) as other:
            # A mark being saved elsewhere: ours waits for it, and sees it.
            other.db.execute(text("UPDATE grade SET manual_score = 1 WHERE auto_score IS NULL"))
            done = []
            again = threading.Thread(target=lambda: done.append(record.record("anna", _ran(tiny, **tiny.right))))
            again.start()
            again.join(0.5)
            assert again.is_alive()
            other.db.commit()
            again.join(60)
        assert done[0].marks["q3"] == (1, 2, True)
        assert {k for k, row in _rows(tiny.course).items() if row != before[k]} == {
            ("anna", "ps90"), ("anna", "ps90", "grade", "q3")
        }  # fmt: skip
        assert record.scores() == {"anna": done[0]}
        os.kill(int(postgres[1].read_text().split()[0]), signal.SIGQUIT)  # an immediate shutdown
        deadline = time.monotonic() + 60
        while postgres[1].exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        for _ in range(2):
            with pytest.raises(GradebookGone, match="the gradebook cannot be reached .*: run again to go on"):
                record.record("anna", _ran(tiny, **tiny.right))


def test_the_version_of_the_tables_is_nbgrader_s_own():
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    asks = "from nbgrader.api import get_alembic_version\nprint(get_alembic_version())"
    said = subprocess.run([sys.executable, "-c", asks], env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert said.stdout.strip() == tables_version()
