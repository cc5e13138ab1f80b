"""One submission through two kernels: which cell runs where, within which limits, and what came of it.

This is the driver's side: it holds the notebook, asks a fork server for kernels, and decides when their time is up.
"""

import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..cells import is_check, is_given
from .channel import Closed, Late, ProtocolError
from .outputs import checked, error, left_out
from .redaction import redacted_files
from .server import START_SECONDS, Kernel, fonts
from .task import DEAD, GIVEN_SECONDS, NOT_RUN, TIMEOUT, EngineError, Executed, KernelLost, Task

KERNELS = 10  # how many student kernels one submission may use up
_SCRATCH = "grading-kernel-"
_CELLS_OF_OUTPUT = 20  # how many cells may put out as much as one may
_ATTEMPTS = 3  # where the engine lost a kernel
_GRACE = 2.0  # seconds to react to an interrupt before the kernel is killed
_AGAIN_SECONDS = 5.0  # for a cell that never ended, when a new kernel has to catch up: what it defines, comes first


def execute(task: Task) -> Executed:
    """Run a submission.

    Args:
        task: the submission.

    Returns:
        The notebook with outputs, and what there is to say of it. Whatever a student's code does ends up in here.

    Raises:
        EngineError: the engine itself could not do its work; a kernel that it lost was tried again before.
    """
    begun = time.monotonic()
    for attempt in range(_ATTEMPTS):
        try:
            with _Run(task) as run:
                run.all_cells()
            break
        except KernelLost:
            if attempt == _ATTEMPTS - 1:
                raise
    done = run.result()
    done.seconds = time.monotonic() - begun
    return done


@contextmanager
def _scratch(needed: bool) -> Iterator[str | None]:
    """Give a kernel outside the sandbox a folder of its own, locked so that what a killed worker left can be told."""
    import fcntl

    if not needed:
        yield None
        return
    _sweep_once()
    new = tempfile.mkdtemp(prefix=f".{_SCRATCH}")
    folder = str(Path(new).with_name(Path(new).name[1:]))
    lock = os.open(new, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(new, folder)  # under its name it is locked from the first moment
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep() -> None:
    """Remove the folders that killed workers left."""
    import fcntl

    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        try:
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # gone by now, or another user's
        try:
            if os.fstat(lock).st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:
            pass  # in use
        finally:
            os.close(lock)


_sweep_once = cache(sweep)  # a process that was killed is followed by a new one


@dataclass
class _Ran:
    """A cell that a new student kernel has to run before it goes on where the old one died."""

    name: str
    source: str
    count: int
    seconds: float  # what it may take


class _Run:
    """The state of one submission while it runs."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.nb = json.loads(task.notebook)
        self.left = float(task.notebook_seconds)
        self.room = _CELLS_OF_OUTPUT * task.output_bytes
        self.ended = ""  # why nothing more can be run
        self.trouble: list[tuple[str, str]] = []  # states and messages, in order
        self.handles: dict[str, list[str]] = {}
        self.replay: list[_Ran] = []
        self.students: list[Kernel] = []
        self.kernels: list[Kernel] = []
        self._stack = ExitStack()

    def __enter__(self) -> "_Run":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for kernel in self.kernels:
            kernel.end()
        for s in getattr(self, "_links", []):
            s.close()
        self._stack.close()

    # --- kernels ---------------------------------------------------------------------------------------------------
    def _start(self) -> None:
        pairs = [socket.socketpair() for _ in range(KERNELS)]
        self._links = [theirs for _, theirs in pairs]
        ours, examiners = socket.socketpair()
        # What a student's code returns can be small to send and huge to compare: `range(10**12)`.
        policy = {"memory_bytes": self.task.memory_bytes}
        folder = self._stack.enter_context(_scratch(True))
        for name, content in self.task.given.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        order = {"kind": "examiner", "policy": policy, "cwd": folder}
        self.examiner = Kernel(order, [examiners, *(mine for mine, _ in pairs)], ours)
        self.kernels.append(self.examiner)
        self._new_student()

    def _new_student(self) -> None:
        ours, theirs = socket.socketpair()
        cwd = self._stack.enter_context(_scratch(not self.task.sandbox))
        policy = self._policy() if self.task.sandbox else None
        order = {"kind": "student", "policy": policy, "cwd": cwd}
        self.student = Kernel(order, [theirs, self._links.pop(0)], ours)
        self.students.append(self.student)
        self.kernels.append(self.student)
        if files := self.task.files | self.task.given:
            self.student.ask({"files": list(files)}, START_SECONDS, list(files.values()))

    def _policy(self) -> dict:
        replaced = _replaced(tuple(self.task.forbidden), self.task.set)
        compiled = {str(Path(path).parent / "__pycache__") for path in replaced if path.endswith(".py")}
        return {
            # Whatever another program compiles while we run, it is not to show.
            "readable": _readable(), "hidden": [*self.task.hidden, *compiled], "replaced": replaced,
            "memory_bytes": self.task.memory_bytes, "processes": 64, "file_bytes": 64 << 20, "tmp_bytes": 256 << 20,
            "open_files": 256, "cpu_seconds": self.task.notebook_seconds + GIVEN_SECONDS,
        }  # fmt: skip

    def _restart(self) -> None:
        """Go on with a new student kernel that has run what did not kill the old one."""
        self.student.end()
        _not_lost(self.student)
        if not self._links:
            self.ended = "the kernel had died too often"
            return
        self._new_student()
        self._ask_examiner({"do": "relink", "number": len(self.students) - 1}, START_SECONDS)
        for ran in self.replay:
            if self.left < 1:
                self.ended = self._used_up()
                return
            begun = time.monotonic()
            try:
                self._run_in_student(ran.source, ran.count, self.task.output_bytes, min(ran.seconds, self.left))
            except (Late, Closed, ProtocolError):
                self.ended = f"the kernel had died, and {ran.name} ended otherwise when it was run again"
                return
            finally:
                self.left -= time.monotonic() - begun

    def _run_in_student(self, source: str, count: int, limit: int, seconds: float) -> tuple[list[dict], bool]:
        """Run a cell; return its outputs, and whether it had to be interrupted.

        Raises:
            Late: it could not be interrupted.
            Closed: the kernel died.
            ProtocolError: its answer is none.
        """
        late = False
        try:
            said = self.student.ask({"source": source, "count": count, "limit": limit}, seconds)
        except Late:
            late = True
            self.student.interrupt()
            said = self.student.channel.receive(time.monotonic() + _GRACE)[0]
        return checked(said.get("outputs")), late

    def _ask_examiner(self, header: dict, seconds: float) -> dict:
        try:
            return self.examiner.ask(header, seconds)
        except (Closed, ProtocolError) as e:
            self.examiner.end()
            _not_lost(self.examiner)
            raise EngineError(f"the examiner's kernel died ({e})") from e

    # --- cells -----------------------------------------------------------------------------------------------------
    def all_cells(self) -> None:
        """Run the notebook's cells in order."""
        touched = False  # by code of the student's, which can make an import last for ever
        for count, cell in enumerate((c for c in self.nb["cells"] if c["cell_type"] == "code"), 1):
            touched |= not is_given(cell)
            cell["outputs"], cell["execution_count"] = [], None
            if not "".join(cell["source"]).strip():
                continue
            given = is_given(cell) and not touched
            if not given and self.left < 1 and not self.ended:
                self.ended = self._used_up()
                self._note(cell, NOT_RUN, f"Not run: {self.ended}.")
            if self.ended:
                cell["outputs"] = [error(NOT_RUN, f"Not run: {self.ended}.")]
                continue
            seconds = max(GIVEN_SECONDS, self.task.cell_seconds) if given else min(self.task.cell_seconds, self.left)
            begun = time.monotonic()
            cell["execution_count"] = count
            if is_check(cell):
                self._check(cell, count, seconds)
            else:
                self._student_cell(cell, count, seconds)
                if is_given(cell):
                    self._given(cell, count)
            if not given:
                self.left -= time.monotonic() - begun

    def _used_up(self) -> str:
        return f"the notebook had used up its {self.task.notebook_seconds} seconds"

    def _given(self, cell: dict, count: int) -> None:
        try:
            said = self._ask_examiner(self._cell(cell, count, do="run"), GIVEN_SECONDS)
        except Late:
            raise EngineError(f"the given cell {_name(cell)} does not end") from None
        failed = [o for o in said["outputs"] if o["output_type"] == "error"]
        if failed:
            raise EngineError(f"the given cell {_name(cell)} fails: {failed[0]['ename']}: {failed[0]['evalue']}")

    def _student_cell(self, cell: dict, count: int, seconds: float) -> None:
        source, begun = "".join(cell["source"]), time.monotonic()
        try:
            outputs, late = self._run_in_student(source, count, self.task.output_bytes, seconds)
        except (Late, Closed, ProtocolError) as e:
            if time.monotonic() - begun < seconds:
                self._note(cell, DEAD, _death(e))
            else:
                stopped = f"Stopped after {_say(seconds)}. It would not stop, so its kernel was ended."
                self._note(cell, TIMEOUT, stopped)
            self._restart()
            return
        cell["outputs"] = self._kept(outputs)
        if late:
            self._note(cell, TIMEOUT, f"Stopped after {_say(seconds)}.")
        took = time.monotonic() - begun
        name = _name(cell) or "a cell of the student's own"
        self.replay.append(_Ran(name, source, count, _AGAIN_SECONDS if late else _AGAIN_SECONDS + 2 * took))

    def _kept(self, outputs: list[dict]) -> list[dict]:
        """Return a cell's outputs, or a word in their place where the notebook has too many already."""
        self.room -= len(json.dumps(outputs))
        return outputs if self.room >= 0 else [left_out()]

    def _check(self, cell: dict, count: int, seconds: float) -> None:
        name = _name(cell)
        handles = None if self.task.handles is None else self.task.handles.get(name, [])
        request = self._cell(
            cell, count, do="check", names=self.task.remote.get(name, []), handles=handles, seconds=seconds + 2 * _GRACE
        )
        late = False
        try:
            try:
                said = self._ask_examiner(request, seconds)
            except Late:
                late = True
                self.student.interrupt()
                try:
                    said = self.examiner.channel.receive(time.monotonic() + _GRACE)[0]
                except Late:
                    self.student.end()
                    said = self.examiner.channel.receive(time.monotonic() + 2 * _GRACE)[0]
        except KernelLost:
            raise
        except (Late, EngineError, Closed):
            self.examiner.end()
            _not_lost(self.examiner)
            self.ended = "the check before could not be ended"
            self._note(cell, TIMEOUT, f"Stopped after {_say(seconds)}, and could not be ended otherwise.")
            return
        cell["outputs"] = said["outputs"]
        self.handles[name] = said["handles"]
        if late:
            cell["outputs"] = [o for o in cell["outputs"] if o["output_type"] == "stream"]  # and no verdict
            self._note(cell, TIMEOUT, f"Stopped after {_say(seconds)}.")
        if said["gone"] or not self.student.alive:
            why = said["gone"]  # in our own words; an error of this name could be the student's
            if not late:
                cell["outputs"] = [o for o in cell["outputs"] if o["output_type"] == "stream"]
                self._note(cell, DEAD, f"{why[:1].upper()}{why[1:]} while this check ran your code{_crash()}.")
            self._restart()

    def _cell(self, cell: dict, count: int, **more: Any) -> dict:
        return {"source": "".join(cell["source"]), "count": count, "limit": self.task.output_bytes, **more}

    def _note(self, cell: dict, name: str, text: str) -> None:
        cell["outputs"].append(error(name, text))
        self.trouble.append(
            ("kernel died" if name == DEAD else "timed out", f"{_name(cell) or 'a cell of the student'}: {text}")
        )

    def result(self) -> Executed:
        """Return what came of the run, when its kernels have ended."""
        worst = [trouble for trouble in self.trouble if trouble[0] == "kernel died"] or self.trouble
        state, message = worst[0] if worst else ("graded", "")
        return Executed(
            notebook=json.dumps(self.nb),
            state=state,
            message=message,
            cpu_seconds=sum(k.used.get("cpu_seconds") or 0.0 for k in self.kernels),
            memory=max((k.used.get("max_rss") or 0 for k in self.students), default=0),
            handles=self.handles,
        )


# --- small things --------------------------------------------------------------------------------------------------
def _not_lost(kernel: Kernel) -> None:
    """Raise KernelLost where a kernel's keeper, which no student can reach, did not live to say how it ended."""
    if "error" in kernel.used or "exit" not in kernel.used:
        raise KernelLost(f"a kernel was lost: {kernel.used.get('error', 'its keeper was killed')}")


def _name(cell: dict) -> str:
    return cell["metadata"].get("nbgrader", {}).get("grade_id", "")


def _say(seconds: float) -> str:
    return f"{seconds:.0f} seconds"


def _crash() -> str:
    return ": a crash, or no memory left"


def _death(e: Exception) -> str:
    if isinstance(e, ProtocolError):
        return f"The kernel's answer could not be read: {e}."
    return f"The kernel died while this cell ran{_crash()}."


@cache
def _readable() -> list[str]:
    import ebm_lib

    from ..sandbox import default_readable

    return [*map(str, default_readable()), str(Path(ebm_lib.__file__).parent), fonts()]


@cache
def _replaced(forbidden: tuple[str, ...], ps: str) -> dict[str, str]:
    return {str(path): content.hex() for path, content in redacted_files(forbidden, ps).items()}
