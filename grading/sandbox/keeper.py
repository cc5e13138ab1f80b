"""The keeper: it starts a sandbox, hears its owner, and says in the end how it went."""

import gc
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from grading.sandbox import process
from grading.sandbox import syscalls as sys_
from grading.sandbox.box import Box, prepare
from grading.sandbox.paths import Step, plan
from grading.sandbox.plain import Plain
from grading.sandbox.policy import Limits, Policy

INTERRUPT, KILL = b"I", b"K"
_LOOK_MILLISECONDS = 50  # how often to look for the child's end where the system does not tell


@dataclass(frozen=True)
class Sandboxed:
    """A running sandbox.

    Args:
        pid: the keeper, a child of the caller, who waits for it.
        control: to write to: ``I`` interrupts the body, ``K`` or closing it kills the tree.
        status: to read from: one line of JSON when all is over. Its end without a line means that the keeper was
            killed. Keys: ``signal``, ``exit`` (one of them None), ``cpu_seconds``, ``max_rss`` (bytes), ``oom``;
            or ``error``: the sandbox could not be made, or its caller died.
    """

    pid: int
    control: int
    status: int

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the body."""
        os.write(self.control, INTERRUPT)

    def wait(self, *, kill: bool = False) -> dict[str, Any]:
        """Wait until all is over, and close both descriptors.

        Args:
            kill: end the tree first.

        Returns:
            What the keeper says; an ``error`` when it was killed.
        """
        if kill:
            os.close(self.control)
        said = b""
        while part := os.read(self.status, 1 << 16):
            said += part
        os.close(self.status)
        if not kill:
            os.close(self.control)
        os.waitpid(self.pid, 0)
        return json.loads(said) if said else {"error": "the keeper of the sandbox was killed"}


def spawn(limits: Policy | Limits | None, body: Callable[[], None], keep: Sequence[int] = ()) -> Sandboxed:
    """Run a function in a fork of this process: in a sandbox with a Policy, else without.

    The body's process has no file descriptor but `keep`, reads nothing from 0 and writes 1 and 2 to nowhere. It ends
    with status 0 when the body returns, and 70 when it raises.

    Args:
        limits: a Policy; or Limits or None for a process that sees all of the machine (its descendants then are
            killed as far as they can be found).
        body: what to run. It inherits the memory of this process: whatever was loaded here, it can read.
        keep: file descriptors that stay open.

    Returns:
        The handles of the running sandbox.

    Raises:
        ValueError: the policy shows the whole file system or goes round in links.
    """
    steps = plan(limits) if isinstance(limits, Policy) else []
    if isinstance(limits, Policy):
        prepare()
    heard, control = os.pipe()
    status, said = os.pipe()
    caller = os.getpid()
    try:
        pid = os.fork()
    except BaseException:
        os.close(control)
        os.close(status)
        raise
    else:
        if pid == 0:
            _keeper(limits, steps, body, keep, caller, heard, said)
    finally:
        os.close(heard)
        os.close(said)
    return Sandboxed(pid, control, status)


def _keeper(
    limits: Policy | Limits | None,
    steps: list[Step],
    body: Callable[[], None],
    keep: Sequence[int],
    caller: int,
    heard: int,
    said: int,
) -> NoReturn:
    if gc.isenabled():
        gc.disable()  # a collection would copy most of the caller's memory
        body = _collecting(body)
    try:
        os.setsid()  # a terminal's signals are for the caller
        process.reset_signals()
        process.close_all_but([*keep, heard, said])
        tree = Box(limits, steps, body, keep) if isinstance(limits, Policy) else Plain(limits, body, keep)
        for fd in set(keep) - {0, 1, 2}:
            os.close(fd)
        outcome = _watch(tree, caller, heard)
    except BaseException as error:
        outcome = {"error": process.describe(error)}
    finally:
        try:
            os.write(said, json.dumps(outcome).encode() + b"\n")
        finally:
            os._exit(0)


def _collecting(body: Callable[[], None]) -> Callable[[], None]:
    """The body with the garbage collector on, as the caller had it."""

    def collecting() -> None:
        gc.enable()
        body()

    return collecting


class _CallerDied(BaseException):
    """Raised by the signal that the kernel sends when the caller dies."""


def _watch(tree: Box | Plain, caller: int, heard: int) -> dict[str, Any]:
    """Pass on what the caller says until the child ends; then end the rest."""
    signal.signal(signal.SIGTERM, _on_death)
    lost: dict[str, str] = {}
    try:
        if sys.platform == "linux":
            sys_.prctl(sys_.PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != caller:
            raise _CallerDied
        status, usage = _listen(tree, heard)
    except _CallerDied:
        tree.kill()
        status, usage = os.wait4(tree.child, 0)[1:]
        lost = {"error": "the process that forked it died"}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    facts = tree.end()
    code = os.waitstatus_to_exitcode(status)
    used = max(usage.ru_utime + usage.ru_stime, facts["cpu_seconds"])
    outcome = {"signal": -code, "exit": None} if code < 0 else {"signal": None, "exit": code}
    return outcome | {"cpu_seconds": used, "max_rss": usage.ru_maxrss * 1024, "oom": facts["oom"]} | lost


def _on_death(number: int, frame: FrameType | None) -> NoReturn:
    raise _CallerDied


def _listen(tree: Box | Plain, heard: int) -> tuple[int, resource.struct_rusage]:
    """Wait for the child, as wait4 does, and do meanwhile what the caller asks for."""
    poll = select.poll()
    poll.register(heard, select.POLLIN)
    has_pidfd = hasattr(os, "pidfd_open")
    if has_pidfd:
        poll.register(os.pidfd_open(tree.child), select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll(None if has_pidfd else _LOOK_MILLISECONDS)]
        pid, status, usage = os.wait4(tree.child, os.WNOHANG)
        if pid:
            return status, usage
        if heard not in ready:
            continue
        asked = os.read(heard, 4096)
        if not asked or KILL in asked:
            tree.kill()
            poll.unregister(heard)
        elif INTERRUPT in asked:
            os.kill(tree.child, signal.SIGINT)
