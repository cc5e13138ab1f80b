"""Many short runs from one warm process: torch is imported once, and each run is a fork that nothing else sees.

The program (``python -m grading.forks``) reads jobs as JSON from standard input. A job is a list of cells to run first,
and variants, each a list of cells to run after them. It writes a line of JSON for each variant when it is done. It is
for answers that the course itself made: nothing is limited here but time.
"""

import contextlib
import fcntl
import io
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypedDict

Cells = list[str]


class Job(TypedDict):
    """Cells that several variants have in common, and those in which they differ."""

    name: str
    before: Cells
    variants: dict[str, Cells]


class Ran(TypedDict):
    """What a variant's cells gave: an error's (name, message), a last value's text, or neither."""

    job: str
    variant: str
    outputs: list[dict[str, str]]
    spoiled: bool
    seconds: float


def run(
    jobs: list[Job], *, seconds: float = 60.0, workers: int | None = None, cwd: Path | None = None
) -> Iterator[Ran]:
    """Run every variant of every job in a fork of its own.

    Args:
        jobs: what to run.
        seconds: time limit of one variant; then its remaining cells count as failed.
        workers: how many jobs at a time; by default as many as there are processors.
        cwd: the working directory.

    Yields:
        What each variant gave, in the order in which they end.
    """
    workers = workers or len(os.sched_getaffinity(0))
    order = json.dumps({"jobs": jobs, "seconds": seconds, "workers": workers})
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "NBGRADER_EXECUTION": "autograde"}
    here = str(Path(__file__).resolve().parents[1])  # this package, wherever the working directory is
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [here, env.get("PYTHONPATH")]))
    with subprocess.Popen(
        [sys.executable, "-m", "grading.forks"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=cwd,
    ) as server:  # fmt: skip
        try:
            server.stdin.write(order)
            server.stdin.close()
            for line in server.stdout:
                yield json.loads(line)
        finally:
            server.kill()
        if server.wait() not in (0, -signal.SIGKILL):
            raise RuntimeError(f"the fork server ended with status {server.returncode}")


# --- in the warm process -------------------------------------------------------------------------------------------
def _serve(jobs: list[Job], seconds: float, workers: int, out: "_Out") -> None:
    if "torch" in json.dumps(jobs):
        _warm_up()
    shell = _shell()
    waiting, running = list(jobs), set()
    while waiting or running:
        while waiting and len(running) < workers:
            job = waiting.pop(0)
            pid = os.fork()
            if pid == 0:
                _child(lambda job=job: _do(shell, job, seconds, out))
            running.add(pid)
        pid, status = os.wait()
        running.discard(pid)
        if status:
            sys.exit(f"a job ended with status {status}")


def _do(shell: Any, job: Job, seconds: float, out: "_Out") -> None:
    """Run what a job's variants have in common, then fork for each."""
    common = [_cell(shell, source) for source in job["before"]]
    broken = next((o for o in common if "error" in o), None)
    for name, cells in job["variants"].items():
        begun = time.monotonic()
        outputs, spoiled = _fork(shell, cells, seconds) if broken is None else ([broken] * len(cells), False)
        ran = Ran(job=job["name"], variant=name, outputs=outputs, spoiled=spoiled, seconds=time.monotonic() - begun)
        out.line(ran)


class _Out:
    """The way out for the answers of several processes, a line at a time."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.lock = tempfile.TemporaryFile()  # a pipe cannot be locked

    def line(self, ran: Ran) -> None:
        fcntl.lockf(self.lock, fcntl.LOCK_EX)
        with open(self.descriptor, "wb", closefd=False) as stream:
            stream.write(f"{json.dumps(ran)}\n".encode())
        fcntl.lockf(self.lock, fcntl.LOCK_UN)


def _fork(shell: Any, cells: Cells, seconds: float) -> tuple[list[dict[str, str]], bool]:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)

        def work() -> None:
            for source in cells:
                os.write(write, f"{json.dumps(_cell(shell, source))}\n".encode())
            os.write(write, json.dumps(bool(shell.user_ns.get("__spoiled__"))).encode())

        _child(work)
    os.close(write)
    text, until, why = b"", time.monotonic() + seconds, "the process died"
    while True:
        ready, _, _ = select.select([read], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            why = f"not done after {seconds:g} seconds"
            os.kill(pid, signal.SIGKILL)
            break
        chunk = os.read(read, 1 << 16)
        if not chunk:
            break
        text += chunk
    os.close(read)
    os.waitpid(pid, 0)
    lines = [json.loads(line) for line in text.decode().splitlines()]
    spoiled = lines.pop() if lines and isinstance(lines[-1], bool) else False
    return lines + [{"error": "Ended", "message": why}] * (len(cells) - len(lines)), spoiled


def _child(work: Any) -> NoReturn:
    status = 1
    try:
        work()
        status = 0
    except BaseException as e:
        print(f"grading.forks: {type(e).__name__}: {e}", file=sys.__stderr__, flush=True)
    finally:
        os._exit(status)


def _warm_up() -> None:
    """Import what takes seconds, once."""
    import matplotlib.pyplot  # noqa: F401
    import torch

    torch.set_num_threads(1)  # before any fork: a pool of threads does not survive one
    # Both import hundreds of modules when first used.
    torch.unravel_index(torch.tensor(0), (1, 1))
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def _shell() -> Any:
    """Return the IPython that cells run in, as they do in a kernel: magics, last values, top-level await."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    shell.enable_gui = lambda gui=None: None
    shell.showtraceback = shell.showsyntaxerror = lambda *_, **__: None  # a second each, and nobody reads them
    return shell


def _cell(shell: Any, source: str) -> dict[str, str]:
    """Run one cell; what it prints is dropped."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        result = shell.run_cell(source, store_history=False)
    error = result.error_before_exec or result.error_in_exec
    if error is not None:
        return {"error": type(error).__name__, "message": str(error)[:2000]}
    if result.result is not None and not source.rstrip().endswith(";"):
        return {"value": shell.display_formatter.format(result.result)[0]["text/plain"]}
    return {}


def _main() -> None:
    order = json.load(sys.stdin)
    out = _Out(os.dup(1))  # the answers' way out, which no cell knows
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    _serve(order["jobs"], order["seconds"], order["workers"], out)


if __name__ == "__main__":
    _main()
