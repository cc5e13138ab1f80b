"""A process tree without namespaces: for code that is trusted, or where the machine has none."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from grading.sandbox import privileges, process
from grading.sandbox import syscalls as sys_
from grading.sandbox.policy import Limits

_LINUX = sys.platform == "linux"


class Plain:
    """A child with limits, whose descendants are killed one by one."""

    def __init__(self, limits: Limits | None, body: Callable[[], None], keep: Sequence[int]) -> None:
        """Start the child.

        Args:
            limits: of the child and of each of its descendants.
            body: what it runs.
            keep: its file descriptors.

        Raises:
            RuntimeError: the child could not begin; the message says why.
        """
        if _LINUX:
            sys_.prctl(sys_.PR_SET_CHILD_SUBREAPER, 1)  # orphans come to us, whatever they do
        heard, said = os.pipe()
        keeper = os.getpid()

        def confine() -> None:
            os.setsid()
            process.reset_signals()
            if _LINUX:
                sys_.prctl(sys_.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != keeper:
                raise RuntimeError("the keeper ended while its child began")
            process.close_all_but([*keep, said])
            if limits is not None:
                privileges.limit(limits)

        self.child = os.fork()
        if self.child == 0:
            process.run(confine, body, said)
        os.close(said)
        process.expect(heard, b"")
        os.close(heard)

    def kill(self) -> None:
        """End the child and its descendants, as far as they can be found."""
        try:
            os.killpg(self.child, signal.SIGKILL)
        except ProcessLookupError:  # it ended, and so did its group
            return

    def end(self) -> dict[str, float | bool]:
        """Kill the descendants that the child left behind.

        Returns:
            Nothing that a rusage does not know.
        """
        self.kill()
        # Each round takes those whose parent has died: they are our own children now.
        while _has_children():
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        return {"oom": False, "cpu_seconds": 0.0}


def _has_children() -> bool:
    if not _LINUX:
        return False  # orphans do not come to us
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _children() -> list[int]:
    """This process's children."""
    me = os.getpid()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                continue
            if int(after_name[1]) == me:
                found.append(int(entry.name))
    return found
