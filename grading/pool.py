"""Many submissions at once: processes of this machine, or a Dask cluster. Nothing here writes a file or a record."""

import itertools
import multiprocessing
import os
import re
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, TypeVar

from .course import GradingError
from .kernels.server import share, use
from .kernels.session import sweep

if TYPE_CHECKING:
    from .kernels.session import Executed, Task

_ATTEMPTS = 3  # the first, and two more where a worker process died under it
_SPARE_SECONDS = 600.0  # beyond a task's own limits: given cells, starting and ending kernels on a busy machine
_CONNECT_SECONDS = 20  # until a scheduler that does not answer counts as absent

T = TypeVar("T")


class WorkerDied(Exception):
    """A worker process died, or was killed because it did not return, each time it had this task."""


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def execute(task: "Task") -> "Executed":
    """Run one submission in this process's kernels.

    Args:
        task: the submission.
    """
    from .kernels.session import execute as run  # only workers load it

    return run(task)


def run_all(
    tasks: Iterable["Task"],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    function: Callable[[Any], T] = execute,
) -> Iterator[tuple["Task", "T | Exception"]]:
    """Run tasks as processors come free; only a few are taken from ``tasks`` ahead of their turn.

    Args:
        tasks: what to run, made one by one as they are asked for.
        workers: worker processes of this machine; by default one for each processor.
        scheduler: the address of a Dask scheduler, such as ``tcp://10.0.0.1:8786``, whose workers run them instead.
        function: what runs a task; a worker imports it by its name.

    Yields:
        A task and its result, or the exception that it ended with, in the order in which they end.

    Raises:
        GradingError: fewer than one worker, or no scheduler at this address, or it went away.
    """
    if workers is not None and workers < 1:
        raise GradingError(f"there must be at least 1 worker, got {workers}.")
    return _on_cluster(tasks, scheduler, function) if scheduler else _here(tasks, workers or cores(), function)


# --- this machine --------------------------------------------------------------------------------------------------
@dataclass
class _Slot:
    """One worker process, and what it was given: the first is being run, the next waits behind it.

    A pool for each worker, not one for all: when a process dies, it is plain which task it died of.
    """

    function: Callable
    given: deque["_Given"] = field(default_factory=deque)
    pool: ProcessPoolExecutor | None = None
    process: BaseProcess | None = None
    begun: float = 0.0  # when the first of them came first

    def give(self, task: Any, attempt: int) -> None:
        if not self.given:
            self.begun = time.monotonic()
        others = set(multiprocessing.active_children())
        if self.pool is None:
            spawn = multiprocessing.get_context("spawn")
            # One warm process forks the kernels of all workers: it takes seconds to start.
            lent = share() if self.function is execute else None
            self.pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=_begin_worker, initargs=(lent,))
        try:
            future = self.pool.submit(self.function, task)
        except BrokenProcessPool as e:  # it died since we looked: as if it had died a moment later
            future = Future()
            future.set_exception(e)
        if self.process is None:  # the first task started it
            self.process = next(iter(set(multiprocessing.active_children()) - others), None)
        self.given.append(_Given(task, attempt, future))

    def take(self) -> "_Given":
        self.begun = time.monotonic()
        return self.given.popleft()

    def late(self) -> bool:
        """Whether the task at hand should have returned long ago."""
        if not self.given:
            return False
        task = self.given[0].task
        allowed = _SPARE_SECONDS + getattr(task, "notebook_seconds", 0) + getattr(task, "cell_seconds", 0)
        return time.monotonic() - self.begun > allowed

    def kill(self) -> None:
        """End the process at once; its tasks then fail as if it had died by itself."""
        if self.process is not None:
            self.process.kill()

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)
        self.pool = self.process = None
        self.given.clear()


@dataclass
class _Given:
    task: Any
    attempt: int
    future: Future


def _begin_worker(lent: socket.socket | None) -> None:
    """Set up a worker: an interrupt from the keyboard is the coordinator's, and so is the end."""
    if lent is not None:
        use(lent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    coordinator = multiprocessing.parent_process()

    def end_with_it() -> None:
        coordinator.join()
        os._exit(1)  # a coordinator that was killed cannot tell its workers

    threading.Thread(target=end_with_it, daemon=True).start()


def _here(tasks: Iterable[Any], workers: int, function: Callable) -> Iterator[tuple[Any, Any]]:
    waiting = iter(tasks)
    again: deque[tuple[Any, int]] = deque()
    slots = [_Slot(function) for _ in range(workers)]
    try:
        while True:
            # First one for each worker, then one more, so that none idles while a result is being recorded.
            for slot in sorted(slots, key=lambda s: len(s.given)) * 2:
                if len(slot.given) < 2:
                    task, attempt = again.popleft() if again else (next(waiting, None), 1)
                    if task is None:
                        break
                    slot.give(task, attempt)
            busy = {slot.given[0].future: slot for slot in slots if slot.given}
            if not busy:
                return
            done, _ = wait(busy, timeout=5.0, return_when=FIRST_COMPLETED)
            for slot in filter(_Slot.late, slots):
                slot.kill()
            for future in done:
                slot = busy[future]
                if not isinstance(future.exception(), BrokenProcessPool):
                    yield slot.take().task, _result(future)
                    continue
                culprit, *behind = slot.given
                slot.close()
                again.extend((given.task, given.attempt) for given in behind)  # these had not begun
                if culprit.attempt < _ATTEMPTS:
                    again.append((culprit.task, culprit.attempt + 1))
                else:
                    yield culprit.task, WorkerDied(f"a worker process died under it {_ATTEMPTS} times")
    finally:
        for slot in slots:
            if slot.given:
                slot.kill()  # an interrupted run does not wait for what is under way
            slot.close()
        sweep()


def _result(future: Future) -> Any:
    error = future.exception()
    return future.result() if error is None else error


# --- a cluster -----------------------------------------------------------------------------------------------------
def _on_cluster(tasks: Iterable[Any], scheduler: str, function: Callable) -> Iterator[tuple[Any, Any]]:
    try:
        from distributed import Client
    except ImportError:
        raise GradingError("a scheduler needs Dask: pip install distributed (here and on its workers).") from None
    if not re.fullmatch(r"[a-z]+://\S+:\d+/?", scheduler):
        raise GradingError(f"a scheduler's address is like tcp://10.0.0.1:8786, got {scheduler!r}.")
    try:
        client = Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as e:
        raise GradingError(f"no Dask scheduler at {scheduler}: {' '.join(str(e).split())[:200]}") from None
    with client, client.get_executor(pure=False) as executor:
        try:
            client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
        except TimeoutError:
            raise GradingError(
                f"the scheduler at {scheduler} has no workers: `dask worker {scheduler}` starts one."
            ) from None
        yield from _bounded(tasks, executor, lambda: 2 * sum(client.ncores().values()), function, scheduler)


def _bounded(
    tasks: Iterable[Any], executor: Executor, most: Callable[[], int], function: Callable, where: str
) -> Iterator[tuple[Any, Any]]:
    """Keep at most ``most()`` tasks in flight; workers may come and go."""
    waiting, flying = iter(tasks), {}
    try:
        while True:
            for task in itertools.islice(waiting, max(0, max(2, most()) - len(flying))):
                flying[executor.submit(function, task)] = task
            if not flying:
                return
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in done:
                task = flying.pop(future)
                try:
                    yield task, _result(future)
                except CancelledError:
                    raise GradingError(f"the Dask scheduler at {where} went away: run again to go on.") from None
    finally:
        for future in flying:
            future.cancel()
