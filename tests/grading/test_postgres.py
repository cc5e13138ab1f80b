"""The gradebook on a PostgreSQL server: the same scores as in SQLite, and the server may die in mid-run."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from grading.course import CONFIG, Course
from grading.gradebook import gradebook
from grading.manifest import read_manifest
from grading.sandbox import unavailable

STUDENTS = 8
RUN = (
    "import sys; from pathlib import Path; from grading.course import Course, GradingError\n"
    "from grading.run import grade\n"
    "try: grade('ps90', course=Course(Path(sys.argv[1])), workers=2, sandbox=bool(int(sys.argv[2])))\n"
    "except GradingError as e: sys.exit(str(e))"
)
WHAT_THE_GRADEBOOK_HOLDS = """
    SELECT s.student_id, c.name, g.auto_score, g.manual_score, g.needs_manual_grade FROM grade g
    JOIN submitted_notebook n ON n.id = g.notebook_id JOIN submitted_assignment s ON s.id = n.assignment_id
    JOIN base_cell c ON c.id = g.cell_id ORDER BY s.student_id, c.name
"""
pytestmark = pytest.mark.timeout(600)


class Server:
    """A PostgreSQL server of one's own, on a free port of the loopback, which keeps its data while it is down."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        # The server refuses to run as root.
        self.user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        if self.user:
            shutil.chown(folder, "nobody", "nogroup")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self._call("initdb", "-D", str(folder / "data"), "-U", "course", "--auth=trust", "--no-sync")
        self.start()

    def _call(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / program, *arguments],
            capture_output=True, text=True, cwd=self.folder, timeout=120, **self.user,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def start(self) -> None:
        settings = ["-p", str(self.port), "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1"]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", str(self.folder / "data"), *settings],
                stdout=log, stderr=log, cwd=self.folder, **self.user,
            )  # fmt: skip
        until = time.monotonic() + 60
        while True:
            try:
                self._call("pg_isready", "-h", "127.0.0.1", "-p", str(self.port))
                return
            except AssertionError:
                # One whose children outlive it for a moment cannot be followed by another: try again.
                if time.monotonic() > until:
                    raise AssertionError((self.folder / "log").read_text()[-2000:]) from None
                if self.process.poll() is not None:
                    time.sleep(0.2)
                    return self.start()
                time.sleep(0.1)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def database(self, name: str) -> str:
        self._call("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "course", name)
        return f"postgresql+psycopg://course@127.0.0.1:{self.port}/{name}"


def _programs() -> Path | None:
    """Return where PostgreSQL's programs are, from Debian's package if it can be had."""

    def here() -> Path | None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        on_path = shutil.which("initdb")
        return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None

    if here() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "postgresql"]):
            subprocess.run(["apt-get", *command], env=env, capture_output=True, timeout=300)
    return here()


@pytest.fixture(scope="module")
def server():
    """A running server, gone with its data at the end."""
    pytest.importorskip("psycopg", reason="NOT TESTED: PostgreSQL needs pip install 'psycopg[binary]'")
    programs = _programs()
    if programs is None:
        pytest.skip("NOT TESTED: no PostgreSQL here: apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:  # pytest's own is closed to other users
        server = Server(programs, Path(folder))
        yield server
        server.kill()
        time.sleep(0.5)  # its children see that it is gone, and stop writing


@pytest.fixture(scope="module")
def handed_in(make_tiny, tmp_path_factory):
    """A course in which eight students handed in something different each, none of it graded."""
    tiny = make_tiny(tmp_path_factory.mktemp("postgres") / "course")
    tiny.submit_different(STUDENTS)
    return tiny.course


def _copy(course: Course, root: Path, url: str | None = None) -> Course:
    shutil.copytree(course.root, root)
    if url:
        with (root / CONFIG).open("a") as config:
            config.write(f"\nc.CourseDirectory.db_url = {url!r}\n")
    return Course(root.resolve())


def _command(course: Course) -> list[str]:
    return [sys.executable, "-c", RUN, str(course.root), str(int(unavailable() is None))]


def _held(course: Course) -> list[tuple]:
    with gradebook(course) as book:
        return [(*row[:4], bool(row[4])) for row in book.db.execute(text(WHAT_THE_GRADEBOOK_HOLDS))]


@pytest.fixture(scope="module")
def in_sqlite(handed_in, tmp_path_factory):
    """What SQLite holds after a run that nothing happens to."""
    course = _copy(handed_in, tmp_path_factory.mktemp("sqlite") / "course")
    subprocess.run(_command(course), check=True, timeout=200)
    held = _held(course)
    assert len(held) == STUDENTS * 4
    assert len({row[2] for row in held}) > 3, "too much alike"
    return held


def test_the_same_scores_as_in_sqlite(server, handed_in, in_sqlite, tmp_path):
    course = _copy(handed_in, tmp_path / "course", server.database("same"))
    done = subprocess.run(_command(course), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert not (course.root / "gradebook.db").exists()
    assert _held(course) == in_sqlite
    again = subprocess.run(_command(course), capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stderr
    assert not any(outcome.ran for outcome in read_manifest(course, "ps90").values())
    assert _held(course) == in_sqlite


@pytest.mark.parametrize("after", [1, 4])
def test_the_server_is_killed_in_mid_run(server, handed_in, in_sqlite, tmp_path, after):
    course = _copy(handed_in, tmp_path / "course", server.database(f"killed{after}"))
    with subprocess.Popen(_command(course), stderr=subprocess.PIPE, text=True) as run:
        until = time.monotonic() + 200
        while len(read_manifest(course, "ps90")) < after and run.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        server.kill()
        _, said = run.communicate(timeout=100)
    server.start()
    assert run.returncode == 1
    assert "gradebook cannot be reached" in said
    assert said.count("\n") == 1, f"one line, no traceback: {said}"
    before = {student for student, outcome in read_manifest(course, "ps90").items() if outcome.ok}
    assert after <= len(before) < STUDENTS

    done = subprocess.run(_command(course), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    outcomes = read_manifest(course, "ps90")
    assert {outcome.state for outcome in outcomes.values()} == {"graded"}
    assert {student for student, outcome in outcomes.items() if not outcome.ran} == before
    assert _held(course) == in_sqlite
