"""Submissions on a Dask cluster: the same scores, and a worker that dies in mid-run costs nothing."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grading.course import Course, GradingError
from grading.manifest import read_manifest
from grading.pool import run_all
from grading.sandbox import unavailable

pytest.importorskip("distributed", reason="NOT TESTED: a cluster needs pip install distributed")
pytestmark = pytest.mark.timeout(600)

STUDENTS = 8
RUN = (
    "import sys; from pathlib import Path; from grading.course import Course; from grading.run import grade\n"
    "grade('ps90', course=Course(Path(sys.argv[1])), sandbox=bool(int(sys.argv[2])), scheduler=sys.argv[3] or None)"
)


def _dask(program: str, *arguments: str, folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "distributed.cli.dask_" + program, *arguments]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with (folder / "log").open("a") as log:
        return subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)


class Cluster:
    """A scheduler and workers, each a process of its own on the loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._file = folder, folder / "scheduler.json"
        say = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-jupyter"]
        self.processes = [_dask("scheduler", *say, "--scheduler-file", str(self._file), folder=folder)]
        until = time.monotonic() + 100
        while not self._file.exists() or not self._file.read_text().strip().endswith("}"):
            assert self.processes[0].poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.1)
        self.address = json.loads(self._file.read_text())["address"]

    def worker(self) -> subprocess.Popen:
        say = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(self.folder)]
        self.processes.append(_dask("worker", self.address, *say, folder=self.folder))
        return self.processes[-1]

    def wait_for(self, workers: int) -> None:
        from distributed import Client

        with Client(self.address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=100)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path):
    """A cluster of two workers."""
    (tmp_path / "dask").mkdir()
    cluster = Cluster(tmp_path / "dask")
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def handed_in(make_tiny, tmp_path_factory):
    """A course in which eight students handed in something different each, none of it graded."""
    tiny = make_tiny(tmp_path_factory.mktemp("dask") / "course")
    tiny.submit_different(STUDENTS, first="import time\ntime.sleep(0.2)\n")
    return tiny.course


def _begin(course: Course, scheduler: str = "") -> subprocess.Popen:
    command = [sys.executable, "-c", RUN, str(course.root), str(int(unavailable() is None)), scheduler]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def _scores(course: Course) -> dict[str, tuple]:
    return {s: (o.state, o.score, o.max_score, o.questions) for s, o in read_manifest(course, "ps90").items()}


@pytest.fixture(scope="module")
def here(handed_in, tmp_path_factory):
    """The scores that this machine's own workers come to."""
    course = Course(shutil.copytree(handed_in.root, tmp_path_factory.mktemp("here") / "course"))
    with _begin(course) as run:
        assert run.wait(200) == 0, run.stderr.read()
    found = _scores(course)
    assert len(found) == STUDENTS
    assert len({score for _, score, _, _ in found.values()}) > 2, "too much alike"
    return found


def test_two_workers(cluster, handed_in, here, tmp_path):
    first, second = cluster.worker(), cluster.worker()
    cluster.wait_for(2)
    course = Course(shutil.copytree(handed_in.root, tmp_path / "course"))
    with _begin(course, cluster.address) as run:
        _, said = run.communicate(timeout=200)
    assert run.returncode == 0, said
    assert _scores(course) == here
    assert first.poll() is second.poll() is None, "the workers are there for the next run"


@pytest.mark.parametrize("after", [0, 3])
def test_a_worker_is_killed_in_mid_run(cluster, handed_in, here, tmp_path, after):
    victim, other = cluster.worker(), cluster.worker()
    cluster.wait_for(2)
    course = Course(shutil.copytree(handed_in.root, tmp_path / "course"))
    with _begin(course, cluster.address) as run:
        until = time.monotonic() + 200
        while len(read_manifest(course, "ps90")) < after and time.monotonic() < until:
            time.sleep(0.01)
        if after == 0:  # neither has a fork server yet
            while not course.grades.joinpath(".ps90.journal").exists() and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(1.0)
        assert run.poll() is None, "over before anything was killed"
        victim.kill()
        _, said = run.communicate(timeout=300)
    assert run.returncode == 0, said
    assert _scores(course) == here
    assert other.poll() is None


def test_a_scheduler_without_workers(monkeypatch):
    monkeypatch.setattr("grading.pool._CONNECT_SECONDS", 5)
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=0, dashboard_address=None, processes=False, host="127.0.0.1", protocol="tcp") as cluster,
        pytest.raises(GradingError, match=r"has no workers: `dask worker tcp://127\.0\.0\.1:\d+` starts one"),
    ):
        list(run_all(iter(()), scheduler=cluster.scheduler_address))


@pytest.mark.parametrize("address", ["foo", "10.0.0.1:8786", "tcp://10.0.0.1"])
def test_an_address_that_is_none(address):
    with pytest.raises(GradingError, match="a scheduler's address is like"):
        list(run_all(iter(()), scheduler=address))


def test_no_scheduler():
    with pytest.raises(GradingError, match=r"no Dask scheduler at tcp://127\.0\.0\.1:9"):
        list(run_all(iter(()), scheduler="tcp://127.0.0.1:9"))
