"""Workers that die, hang, are interrupted or lose their coordinator; and a Dask cluster."""

import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from grading import pool
from grading.course import GradingError
from grading.pool import WorkerDied, run_all

ROOT = Path(__file__).resolve().parents[2]

# What workers run: a module that a fresh process can import.
WORK = """
import os, signal, time
from dataclasses import dataclass
from pathlib import Path

@dataclass
class Job:
    name: str
    does: str = ""
    folder: str = ""
    size: int = 0
    cell_seconds: int = 0
    notebook_seconds: int = 0
    payload: bytes = b""

def work(job):
    with open(Path(job.folder, f"{job.name}.{os.getpid()}"), "a") as f:
        f.write("x")
    if job.does == "dies" or job.does == "dies once" and len(list(Path(job.folder).glob(f"{job.name}.*"))) == 1:
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    if job.does == "raises":
        raise ValueError(job.name)
    if job.does == "exits":
        raise SystemExit(3)
    if job.does == "asks":
        return signal.getsignal(signal.SIGINT)
    if job.does == "hangs":
        time.sleep(1000)
    time.sleep(float(job.does) if job.does[:1].isdigit() else 0)
    return f"{job.name}!"
"""


@dataclass
class Place:
    """A folder with the module, and where its jobs leave traces."""

    folder: Path
    module: object

    def jobs(self, **does):
        return [self.module.Job(name, what, str(self.folder)) for name, what in does.items()]

    def attempts(self, name):
        return sum(p.stat().st_size for p in self.folder.glob(f"{name}.*"))

    def run(self, jobs, **options):
        return {job.name: result for job, result in run_all(jobs, function=self.module.work, **options)}


@pytest.fixture
def place(tmp_path, monkeypatch):
    name = f"work_{tmp_path.name.replace('-', '_')}"
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / f"{name}.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    traces = tmp_path / "traces"
    traces.mkdir()
    return Place(traces, importlib.import_module(name))


def test_every_task_comes_back_once_with_its_own_result(place):
    jobs = place.jobs(**{f"j{i}": "" for i in range(20)})
    jobs[3].does = jobs[17].does = "raises"
    done = list(run_all(jobs, workers=3, function=place.module.work))
    assert sorted(job.name for job, _ in done) == sorted(job.name for job in jobs)
    for job, result in done:
        if job.does:
            assert isinstance(result, ValueError)
            assert str(result) == job.name
        else:
            assert result == f"{job.name}!"
        assert place.attempts(job.name) == 1


def test_a_worker_that_is_killed_costs_nobody_else_anything(place):
    """The poison is tried three times; those beside and behind it run once, or again where they were under way."""
    does = {f"j{i}": "0.05" for i in range(8)} | {"poison": "dies", "unlucky": "dies once"}
    names = ["j0", "poison", "j1", "j2", "unlucky", *[f"j{i}" for i in range(3, 8)]]
    results = place.run([place.jobs(**{n: does[n]})[0] for n in names], workers=2)
    poison = results.pop("poison")
    assert isinstance(poison, WorkerDied)
    assert "3 times" in str(poison)
    assert results == {n: f"{n}!" for n in names if n != "poison"}
    assert place.attempts("poison") == 3
    assert place.attempts("unlucky") == 2
    assert all(place.attempts(n) == 1 for n in names if n.startswith("j"))


def test_who_waited_behind_a_dead_task_has_all_its_attempts(place):
    names = {"poison": "dies", "unlucky": "dies once", "j": ""}
    results = place.run(place.jobs(**names), workers=1)
    assert isinstance(results.pop("poison"), WorkerDied)
    assert results == {"unlucky": "unlucky!", "j": "j!"}


def test_an_interrupt_from_the_keyboard_is_the_coordinators(place):
    assert place.run(place.jobs(a="asks"), workers=1) == {"a": signal.SIG_IGN}


def test_a_worker_that_exits_is_no_result(place):
    assert isinstance(place.run(place.jobs(a="exits", b=""), workers=1)["a"], (WorkerDied, SystemExit))


def test_a_worker_killed_from_outside(place):
    jobs = place.jobs(long="2", short="")
    results = run_all(jobs, workers=1, function=place.module.work)
    import threading

    def kill_it():
        for _ in range(600):
            found = list(place.folder.glob("long.*"))
            if found:
                os.kill(int(found[0].name.split(".")[1]), signal.SIGKILL)
                return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_it)
    killer.start()
    assert {job.name: r for job, r in results} == {"long": "long!", "short": "short!"}
    killer.join()
    assert place.attempts("long") == 2


def test_a_worker_that_does_not_return_is_ended(place, monkeypatch):
    monkeypatch.setattr(pool, "_SPARE_SECONDS", 3.0)
    monkeypatch.setattr(pool, "_ATTEMPTS", 1)
    results = place.run(place.jobs(stuck="hangs", other=""), workers=1)
    assert isinstance(results["stuck"], WorkerDied)
    assert results["other"] == "other!"


def test_tasks_are_made_as_they_are_needed(place):
    made = []

    def lazily():
        for job in place.jobs(**{f"j{i}": "" for i in range(50)}):
            made.append(job)
            yield job

    for seen, _ in enumerate(run_all(lazily(), workers=2, function=place.module.work), 1):
        assert len(made) - seen <= 4, "two under way, two waiting"
    assert len(made) == seen == 50


def test_a_run_that_is_given_up_leaves_no_process(place):
    results = run_all(place.jobs(a="", b="hangs", c="hangs"), workers=2, function=place.module.work)
    next(results)
    deadline = time.monotonic() + 60
    while not list(place.folder.glob("[bc].*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = [int(p.name.split(".")[1]) for p in place.folder.glob("*.*")]
    begun = time.monotonic()
    results.close()
    _gone(pids)
    assert time.monotonic() - begun < 30


def _gone(pids, seconds=30.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        left = [pid for pid in pids if _runs(pid)]
        if not left:
            return
        time.sleep(0.05)
    raise AssertionError(f"processes {left} are still there")


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_coordinator(place, how):
    program = textwrap.dedent(f"""
        import signal, sys
        sys.path[:0] = [{str(ROOT)!r}, {str(place.folder.parent / "code")!r}]
        import {place.module.__name__} as m
        from grading.pool import run_all
        if __name__ == "__main__":
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
            jobs = [m.Job(n, "hangs", {str(place.folder)!r}) for n in "ab"]
            for _ in run_all(jobs, workers=2, function=m.work):
                pass
    """)
    script = place.folder.parent / "script.py"
    script.write_text(program)
    with subprocess.Popen([sys.executable, script], start_new_session=True, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while len(list(place.folder.glob("*.*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        pids = [int(p.name.split(".")[1]) for p in place.folder.glob("*.*")]
        assert len(pids) == 2
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as the terminal does: the workers get it, too
        else:
            process.kill()
        _gone(pids)
        said = process.stderr.read().decode()
    assert said.count("Traceback") == (how == signal.SIGINT), "workers say nothing of it"


def test_wrong_use():
    with pytest.raises(GradingError, match="at least 1 worker, got 0"):
        run_all([], workers=0)
    assert list(run_all([], workers=2)) == []


# --- a cluster -----------------------------------------------------------------------------------------------------
def test_a_scheduler_that_is_not_there(monkeypatch):
    pytest.importorskip("distributed", reason="a scheduler needs Dask: pip install distributed")
    monkeypatch.setattr(pool, "_CONNECT_SECONDS", 1)
    with pytest.raises(GradingError, match=r"no Dask scheduler at tcp://127.0.0.1:9: "):
        list(run_all([1], scheduler="tcp://127.0.0.1:9"))


def test_without_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(GradingError, match="pip install distributed"):
        list(run_all([1], scheduler="tcp://127.0.0.1:9"))


def test_a_cluster(place, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="a scheduler needs Dask: pip install distributed")
    path = os.pathsep.join([str(ROOT), str(place.folder.parent / "code"), *sys.path])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "2")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        made = []

        def lazily():
            for job in place.jobs(**{f"j{i}": "0.02" for i in range(20)} | {"bad": "raises", "poison": "dies"}):
                made.append(job)
                yield job

        results, most = {}, 0
        for job, result in run_all(lazily(), scheduler=cluster.scheduler_address, function=place.module.work):
            most = max(most, len(made) - len(results))
            results[job.name] = result
        assert most <= 5
        assert isinstance(results.pop("bad"), ValueError)
        assert "KilledWorker" in type(results.pop("poison")).__name__
        assert results == {f"j{i}": f"j{i}!" for i in range(20)}
