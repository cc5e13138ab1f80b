"""Submissions through both kernels: what each cell gets when students' code is right, wrong, slow, or dies."""

import json
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.utils import determine_grade

from grading import sandbox
from grading.contract import remote_names
from grading.kernels.session import execute
from grading.kernels.task import DEAD, NOT_RUN, TIMEOUT, EngineError, Task
from grading.notebook import grade_id, is_check

BOXED = sandbox.unavailable() is None
RIGHT = {"q1": "def double(x):\n    return 2 * x", "q2": "def root(x):\n    return math.sqrt(double(x) / 2)"}


def cell(source, name="", *, solution=False, points=None):
    made = new_code_cell(source, id=name.replace("_", "-") or f"cell{abs(hash(source)) % 10**6}")
    if name:
        made.metadata["nbgrader"] = {
            "grade": points is not None, "grade_id": name, "locked": not solution, "solution": solution,
            "schema_version": 3, "task": False, **({"points": points} if points else {}),
        }  # fmt: skip
    return made


def notebook(answers, extra=""):
    return new_notebook(
        cells=[
            cell("import math\nimport warnings", "setup"),
            cell(answers.get("q1", "raise NotImplementedError()"), "q1", solution=True),
            cell("assert double(21) == 42, 'double(21) is 42'", "q1_a", points=2),
            cell("assert double(1.5) == 3.0", "q1_b", points=1),
            cell(extra or "print('a picture')"),
            cell(answers.get("q2", "raise NotImplementedError()"), "q2", solution=True),
            cell("1.5 if root(4) == 2 else 0.5", "q2_a", points=1.5),
            cell("assert root(9) == 3", "q2_b", points=2),
        ]
    )


NAMES = remote_names(notebook(RIGHT))
HANDLES = {"q1_a": ["double"], "q1_b": ["double"], "q2_a": ["root"], "q2_b": ["root"]}


def run(extra="", *, boxed=BOXED, **answers):
    """Return the points by check, the outputs by cell, and everything else."""
    limits = {"cell_seconds": 2, "notebook_seconds": 20} | {k: answers.pop(k) for k in list(answers) if "_" in k}
    nb = notebook(RIGHT | answers, extra)
    done = execute(Task("anna", "ps90", nbformat.writes(nb), NAMES, HANDLES, sandbox=boxed, **limits))
    ran = nbformat.reads(done.notebook, as_version=4)
    marks = {grade_id(c): determine_grade(c)[0] for c in ran.cells if is_check(c)}
    return marks, {grade_id(c) or "extra": c.outputs for c in ran.cells}, done


ALL = {"q1_a": 2, "q1_b": 1, "q2_a": 1.5, "q2_b": 2}


@pytest.mark.parametrize("boxed", [False, pytest.param(True, marks=pytest.mark.skipif(not BOXED, reason="no sandbox"))])
def test_a_right_answer_gets_everything(boxed):
    marks, outputs, done = run(boxed=boxed)
    assert marks == ALL
    assert (done.state, done.message, done.notes) == ("graded", "", [])
    assert outputs["extra"][0]["text"] == "a picture\n"
    assert 0 < done.cpu_seconds < 20
    assert 10e6 < done.memory < 2e9
    counts = [c["execution_count"] for c in json.loads(done.notebook)["cells"]]
    assert counts == list(range(1, 9))


def test_a_wrong_answer_loses_what_is_wrong_and_says_why():
    marks, outputs, _ = run(q2="def root(x):\n    return x / 2")
    assert marks == ALL | {"q2_b": 0}
    marks, outputs, _ = run(q1="def double(x):\n    return x * x")
    assert marks == {"q1_a": 0, "q1_b": 0, "q2_a": 0.5, "q2_b": 0}
    assert outputs["q1_a"][-1]["evalue"] == "double(21) is 42"


def test_an_unanswered_question():
    marks, outputs, _ = run(q1="def double(x):\n    raise NotImplementedError()")
    assert marks == {"q1_a": 0, "q1_b": 0, "q2_a": 0, "q2_b": 0}
    assert outputs["q1_a"][-1]["ename"] == "NotImplementedError"
    marks, outputs, _ = run(q2="x = 1")
    assert marks == ALL | {"q2_a": 0, "q2_b": 0}
    assert (outputs["q2_a"][-1]["ename"], outputs["q2_a"][-1]["evalue"]) == (
        "NameError", "name 'root' is not defined",
    )  # fmt: skip


def test_warnings_and_prints_cost_nothing():
    noisy = "import sys\ndef double(x):\n    warnings.warn('hm')\n    print('x', file=sys.stderr)\n    return 2 * x"
    marks, outputs, _ = run(q1=noisy)
    assert marks == ALL
    assert outputs["q1_a"] == []


def test_an_error_shows_the_student_s_own_lines():
    _, outputs, _ = run(q1="def double(x):\n    return x.oops")
    (error,) = outputs["q1_a"]
    assert error["ename"] == "AttributeError"
    assert any(frame.startswith("Cell In[2], line 2") for frame in error["traceback"])


@pytest.mark.parametrize(
    "q2",
    [
        "def root(x):\n    while True:\n        pass",
        "def root(x):\n    try:\n        while True:\n            1\n    except KeyboardInterrupt:\n        return 2",
    ],
)
def test_a_check_whose_code_never_ends_loses_itself_alone(q2):
    marks, outputs, done = run(q2=q2 + "\n\ndef fine(x):\n    return x")
    assert (marks["q1_a"], marks["q1_b"]) == (2, 1)
    assert marks["q2_a"] == marks["q2_b"] == 0
    assert outputs["q2_a"][-1]["ename"] == TIMEOUT
    assert outputs["q2_a"][-1]["evalue"] == "Stopped after 2 seconds."
    assert done.state == "timed out"
    assert done.seconds < 15


def test_a_cell_that_never_ends_loses_itself_alone():
    marks, outputs, _ = run(extra="while True:\n    pass")
    assert marks == ALL
    assert outputs["extra"][-1]["ename"] == TIMEOUT
    marks, outputs, _ = run(q1="def double(x):\n    return 2 * x\nwhile True:\n    pass")
    assert marks == ALL, "what it defined before it was stopped is there"


def test_a_cell_that_will_not_stop_loses_itself_alone():
    stubborn = "import time\nwhile True:\n    try:\n        time.sleep(1)\n    except KeyboardInterrupt:\n        pass"
    marks, outputs, done = run(extra=stubborn)
    assert marks == ALL, "a new kernel has run the cells before"
    assert "would not stop" in outputs["extra"][-1]["evalue"]
    assert done.state == "timed out"
    deaf = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ndef root(x):\n    time.sleep(99)"
    marks, outputs, done = run(q2=deaf, cell_seconds=1)
    assert marks == {"q1_a": 2, "q1_b": 1, "q2_a": 0, "q2_b": 0}


KILL = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"


def test_death_in_a_cell_costs_that_cell():
    marks, outputs, done = run(extra=KILL)
    assert marks == ALL
    assert outputs["extra"][-1]["ename"] == DEAD
    assert done.state == "kernel died"
    assert "The kernel died while this cell ran" in done.message
    marks, outputs, done = run(q1=f"{RIGHT['q1']}\n{KILL}")
    assert marks == {"q1_a": 0, "q1_b": 0, "q2_a": 0, "q2_b": 0}, "double never came to be, and root needs it"


def test_a_cell_that_never_ends_and_a_later_death_cost_no_more_than_both():
    marks, outputs, done = run(q1=f"{RIGHT['q1']}\nwhile True:\n    pass", extra=KILL, notebook_seconds=30)
    assert marks == ALL, "the new kernel has what the endless cell defined before it was stopped"
    assert (outputs["q1"][-1]["ename"], outputs["extra"][-1]["ename"]) == (TIMEOUT, DEAD)
    assert (done.state, done.message[:6]) == ("kernel died", "a cell")
    assert done.seconds < 20


def test_catching_up_takes_no_more_than_the_time_there_is():
    slow = "import time\ntime.sleep(0.4)"
    nb = notebook(RIGHT)
    at = next(i for i, c in enumerate(nb.cells) if grade_id(c) == "q2")
    nb.cells[at:at] = [nbformat.v4.new_code_cell(slow) for _ in range(8)]
    nb.cells.insert(at + 8, nbformat.v4.new_code_cell(KILL))
    begun = time.monotonic()
    task = Task("anna", "ps90", nbformat.writes(nb), NAMES, HANDLES, sandbox=BOXED, cell_seconds=2, notebook_seconds=5)
    done = execute(task)
    assert time.monotonic() - begun < 9
    assert "used up its 5 seconds" in done.notebook


def test_many_outputs_cost_nothing_but_themselves():
    for noisy in ("from IPython.display import display\nfor i in range(60_000): display(i)", "print('\\0' * 900_000)"):
        marks, outputs, done = run(q1=f"{RIGHT['q1']}\n{noisy}", cell_seconds=20, notebook_seconds=60)
        assert (marks, done.state) == (ALL, "graded")
        said = outputs["q1"][-1]["text"]
        assert len(outputs["q1"]) <= 2001
        assert "left out" in said or "output cut" in said


def test_death_in_a_check_costs_that_check():
    fatal = f"def double(x):\n    if x == 21:\n        {KILL.splitlines()[0]}; {KILL.splitlines()[1]}\n    return 2 * x"
    marks, outputs, _ = run(q1=fatal)
    assert marks == ALL | {"q1_a": 0}
    assert outputs["q1_a"][-1]["ename"] == DEAD
    assert "while this check ran your code" in outputs["q1_a"][-1]["evalue"]


def test_a_kernel_that_dies_again_and_again():
    marks, outputs, done = run(q1=f"def double(x):\n    {KILL.splitlines()[0]}; {KILL.splitlines()[1]}", q2=KILL)
    assert not any(marks.values())
    assert done.state == "kernel died"
    assert outputs["q2_b"][-1]["ename"] in (NOT_RUN, "NameError")


def test_the_notebook_s_time():
    slow = "import time\ntime.sleep(1.5)\n"
    marks, outputs, done = run(q1=slow + RIGHT["q1"], extra=slow, q2=slow + RIGHT["q2"], notebook_seconds=3)
    assert (marks["q1_a"], marks["q1_b"]) == (2, 1)
    assert marks["q2_b"] == 0
    assert "3 seconds" in outputs["q2_b"][-1]["evalue"]
    assert done.state == "timed out"


def test_output_is_cut():
    marks, outputs, _ = run(extra="print('x' * 30_000_000)", output_bytes=1000)
    assert marks == ALL
    assert len(outputs["extra"][0]["text"]) < 1100
    assert "cut after 1,000 characters" in outputs["extra"][0]["text"]


@pytest.mark.skipif(not BOXED, reason="no sandbox")
def test_memory_is_limited():
    hog = "held = []\nwhile True:\n    held.append(bytearray(100_000_000))"
    marks, outputs, done = run(extra=hog, memory_bytes=1 << 30)
    assert marks == ALL
    assert outputs["extra"][-1]["ename"] in ("MemoryError", DEAD)
    assert done.memory < 2 << 30


def test_files_that_came_with_it():
    nb = notebook(RIGHT | {"q1": "from beside import double"})
    files = {"beside.py": b"def double(x):\n    return 2 * x\n", "deep/er/data.txt": b"7"}
    task = Task("anna", "ps90", nbformat.writes(nb), NAMES, HANDLES, files=files, sandbox=BOXED)
    ran = nbformat.reads(execute(task).notebook, as_version=4)
    assert [determine_grade(c)[0] for c in ran.cells if is_check(c)] == list(ALL.values())


def test_the_set_s_own_files_are_there_for_answers_and_checks():
    nb = notebook(RIGHT | {"q1": "def double(x):\n    return int(open('factor.txt').read()) * x"})
    check = next(c for c in nb.cells if is_check(c))
    check.source = f"assert open('factor.txt').read() == '2'\n{check.source}"
    task = Task(
        "anna", "ps90", nbformat.writes(nb), NAMES, HANDLES, sandbox=BOXED,
        files={"factor.txt": b"3"}, given={"factor.txt": b"2"},
    )  # fmt: skip
    ran = nbformat.reads(execute(task).notebook, as_version=4)
    assert [determine_grade(c)[0] for c in ran.cells if is_check(c)] == list(ALL.values())


def test_the_author_s_own_mistakes_are_no_student_s():
    nb = notebook(RIGHT)
    nb.cells[0].source = "import no_such_module"
    task = Task("anna", "ps90", nbformat.writes(nb), NAMES, HANDLES, sandbox=BOXED)
    with pytest.raises(EngineError, match="given cell setup fails: ModuleNotFoundError"):
        execute(task)
