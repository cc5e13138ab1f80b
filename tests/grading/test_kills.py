"""``kill -9`` of the engine, a worker or a fork server at any moment: run again, and each submission is graded once.

``KILLS=20`` in the environment asks for more than the three of an ordinary run.
"""

import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from grading.course import Course
from grading.gradebook import gradebook
from grading.manifest import read_manifest
from grading.sandbox import unavailable

KILLS = int(os.environ.get("KILLS", "3"))
VICTIMS = ("coordinator", "worker", "fork server")
STUDENTS = 8
RUN = (
    "import sys; from pathlib import Path; from grading.course import Course; from grading.run import grade\n"
    "grade('ps90', course=Course(Path(sys.argv[1])), workers=2, sandbox=bool(int(sys.argv[2])))"
)
WHAT_THE_GRADEBOOK_HOLDS = """
    SELECT s.student_id, c.name, g.auto_score, g.manual_score, g.needs_manual_grade FROM grade g
    JOIN submitted_notebook n ON n.id = g.notebook_id JOIN submitted_assignment s ON s.id = n.assignment_id
    JOIN base_cell c ON c.id = g.cell_id ORDER BY 1, 2
"""
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
    pytest.mark.timeout(max(300, 120 * KILLS)),
]


# --- looking at processes ------------------------------------------------------------------------------------------
@pytest.fixture
def orphans():
    """Make whatever outlives its parent a child of this process, so that it can be found; the set of all seen."""
    libc = ctypes.CDLL(None)
    before = set(psutil.Process().children(recursive=True))
    seen: set[int] = set()

    def alive(p: psutil.Process) -> bool:
        try:
            if p.status() != psutil.STATUS_ZOMBIE:
                return True
            if p.ppid() == os.getpid() and p.pid not in now.ours:
                os.waitpid(p.pid, os.WNOHANG)
        except (psutil.NoSuchProcess, ChildProcessError):
            pass  # it went while we looked
        return False

    def now() -> list[psutil.Process]:
        found = [p for p in psutil.Process().children(recursive=True) if p not in before]
        seen.update(p.pid for p in found)
        return [p for p in found if alive(p)]

    now.seen, now.ours = seen, set()
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    yield now
    libc.prctl(36, 0, 0, 0, 0)
    for p in now():
        p.kill()


def _begin(course: Course, scratch: Path, orphans) -> subprocess.Popen:
    env = os.environ | {"TMPDIR": str(scratch)}
    command = [sys.executable, "-c", RUN, str(course.root), str(int(unavailable() is None))]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    orphans.ours.add(process.pid)
    return process


def _end(process: subprocess.Popen, orphans) -> int:
    """Wait for a run and for everything that it started; return its status."""
    until = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < until:
        orphans()
        time.sleep(0.2)
    if process.poll() is None:
        process.kill()
        raise AssertionError("the run does not end")
    while (left := orphans()) and time.monotonic() < until + 20:
        time.sleep(0.2)
    assert not left, f"still there: {left}"
    assert process.returncode in (0, -signal.SIGKILL), process.stderr.read()
    return process.returncode


def _victims(process: subprocess.Popen, kind: str) -> list[psutil.Process]:
    if kind == "coordinator":
        return [psutil.Process(process.pid)]
    if kind == "worker":
        return [p for p in psutil.Process(process.pid).children() if "spawn_main" in " ".join(p.cmdline())]
    servers = [p for p in psutil.Process(process.pid).children(recursive=True) if _serves(p)]
    return [p for p in servers if not _serves(p.parent())]  # the others are its forks: kernels


def _serves(process: psutil.Process) -> bool:
    return "grading.kernels.forkserver" in process.cmdline()


def _kill(process: subprocess.Popen, kind: str, course: Course, dice: random.Random) -> int | None:
    """Kill one of a kind after a random number of submissions and a little; return how many were done by then."""
    wanted, moment = dice.randrange(STUDENTS - 1), dice.random()
    until = time.monotonic() + 200
    while time.monotonic() < until and process.poll() is None:
        done = sum(outcome.ok for outcome in read_manifest(course, "ps90").values())
        try:
            found = _victims(process, kind)
        except psutil.NoSuchProcess:
            found = []
        if found and done >= wanted:
            # Before the first submission is the start, which takes seconds; between two, it is a fraction of one.
            time.sleep(moment * (2.0 if wanted == 0 else 0.2))
            try:
                dice.choice(found).kill()
            except psutil.NoSuchProcess:
                return None
            return done
        time.sleep(0.01)
    return None


# --- looking at what is left ---------------------------------------------------------------------------------------
def _held(course: Course) -> list[tuple]:
    with gradebook(course) as book:
        return [tuple(row) for row in book.db.execute(text(WHAT_THE_GRADEBOOK_HOLDS))]


def _groups(pids: set[int]) -> list[Path]:
    return [p for pid in pids for p in Path("/sys/fs/cgroup").glob(f"**/grading-sandbox-{pid}*")]


@pytest.fixture(scope="module")
def handed_in(make_tiny, tmp_path_factory):
    """A course in which eight students handed in something different each, none of it graded."""
    tiny = make_tiny(tmp_path_factory.mktemp("kills") / "course")
    tiny.submit_different(STUDENTS, first="import time\ntime.sleep(0.2)\n")
    return tiny.course


@pytest.fixture(scope="module")
def undisturbed(handed_in, tmp_path_factory):
    """What the gradebook holds after a run that nothing happens to."""
    root = tmp_path_factory.mktemp("undisturbed") / "course"
    shutil.copytree(handed_in.root, root)
    course = Course(root)
    subprocess.run([sys.executable, "-c", RUN, str(root), str(int(unavailable() is None))], check=True, timeout=200)
    held = _held(course)
    assert len(held) == STUDENTS * 4
    assert len({tuple(row[2] for row in held if row[0] == f"s{i}") for i in range(STUDENTS)}) > 2, "too much alike"
    return held


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_run_is_made_whole(number, handed_in, undisturbed, orphans, tmp_path):
    kind, dice = VICTIMS[number % len(VICTIMS)], random.Random(number)
    course, scratch = Course(tmp_path / "course"), tmp_path / "scratch"
    shutil.copytree(handed_in.root, course.root)
    scratch.mkdir()

    process = _begin(course, scratch, orphans)
    done = _kill(process, kind, course, dice)
    assert done is not None, f"there was no {kind} to kill"
    status = _end(process, orphans)
    assert (status == 0) == (kind != "coordinator"), "the engine goes on without a worker"
    before = {student for student, outcome in read_manifest(course, "ps90").items() if outcome.ok}
    assert len(before) >= done - (kind == "fork server")

    assert _end(_begin(course, scratch, orphans), orphans) == 0
    rows = json.loads((course.grades / "ps90.json").read_text())
    assert [row["student"] for row in rows] == [f"s{i}" for i in range(STUDENTS)]
    assert {row["state"] for row in rows} == {"graded"}
    assert {row["student"] for row in rows if not row["ran"]} == before, "what was done is not done again"
    assert _held(course) == undisturbed
    assert not list(course.grades.glob(".*journal"))
    assert list(scratch.iterdir()) == []
    assert _groups(orphans.seen) == []
