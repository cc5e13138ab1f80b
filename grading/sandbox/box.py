"""A process tree in namespaces, seen from its keeper."""

import contextlib
import functools
import os
import shutil
import signal
from collections.abc import Callable, Sequence

from grading.sandbox import namespaces, privileges, process, seccomp
from grading.sandbox import syscalls as sys_
from grading.sandbox.groups import Group, cgroups
from grading.sandbox.paths import Step
from grading.sandbox.policy import Policy

_NOBODY = 65534


def prepare() -> None:
    """Look up once, in the caller, what every sandbox needs: a child's finds are lost with it."""
    seccomp.program(sys_.machine())
    privileges.last_capability()
    sys_.libc()
    cgroups()
    _cat()


class Box:
    """Namespaces with an init, and in them a child that runs the student's code."""

    def __init__(self, policy: Policy, steps: list[Step], body: Callable[[], None], keep: Sequence[int]) -> None:
        """Make the namespaces and start the child.

        Args:
            policy: what the child may use.
            steps: what it sees, in the order in which it is laid out.
            body: what it runs.
            keep: its file descriptors.

        Raises:
            OSError: the kernel refuses a step.
            RuntimeError: the child could not begin; the message says why.
        """
        self.child = self._init = 0
        self._proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        self._privileged = privileges.is_privileged()
        # Root that may not make namespaces, in a container: the student is not to be root, and nobody has no groups.
        bare_root = not self._privileged and os.geteuid() == 0
        self._group = Group(policy, parents=() if bare_root else None)
        if bare_root:
            _become(_NOBODY)
        self._user = privileges.outside_user() if self._privileged else namespaces.STUDENT
        try:
            namespaces.enter(self._proc, privileged=self._privileged)
            self._start_init()
            self._start_child(policy, steps, body, keep)
        except BaseException:
            self.kill()
            self.end()
            raise

    def kill(self) -> None:
        """End every process of the tree."""
        if self._init:
            os.kill(self._init, signal.SIGKILL)

    def end(self) -> dict[str, float | bool]:
        """End what is left of the tree (the child has been waited for), and remove what was made.

        Returns:
            What the control groups say of the tree.
        """
        self.kill()
        if self._init:
            os.waitpid(self._init, 0)  # returns when the kernel has ended all of the namespace
        facts = {"oom": self._group.ran_out_of_memory(), "cpu_seconds": self._group.cpu_seconds()}
        self._group.remove()
        return facts

    def _start_init(self) -> None:
        """Start pid 1: it reads a pipe of which this process alone holds the other end, and ends with it."""
        read, self._life = os.pipe()
        if self._privileged:
            # Start it as nobody. The saved id brings this process back.
            os.setresgid(_NOBODY, _NOBODY, 0)
            os.setresuid(_NOBODY, _NOBODY, 0)
        else:
            privileges.keep_one_capability()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # inherited: orphans vanish without being waited for
        actions = [(os.POSIX_SPAWN_DUP2, read, 0), (os.POSIX_SPAWN_DUP2, 2, 1)]
        self._init = os.posix_spawn(_cat(), ["cat"], {}, file_actions=actions, setsigmask=[])
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if self._privileged:
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)
        os.close(read)

    def _start_child(self, policy: Policy, steps: list[Step], body: Callable[[], None], keep: Sequence[int]) -> None:
        go, ready = os.pipe()
        heard, said = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            os.close(ready)
            process.run(lambda: self._confine(policy, steps, keep, said, go), body, said)
        os.close(go)
        os.close(said)
        try:
            # This takes the kernel some milliseconds, in which the child builds. If it has ended: it says why, below.
            with contextlib.suppress(ProcessLookupError):
                self._group.add(self.child)
            process.expect(heard, b"1")
            if self._privileged:
                namespaces.write_maps(self._proc, str(self.child), self._user, self._user)
            os.write(ready, b"1")
            process.expect(heard, b"")
        except BaseException:
            self.kill()
            os.waitpid(self.child, 0)
            raise
        finally:
            os.close(heard)
            os.close(ready)

    def _confine(self, policy: Policy, steps: list[Step], keep: Sequence[int], said: int, go: int) -> None:
        """In the child: build what it will see, and go from the keeper's rights to none."""
        os.setsid()
        process.reset_signals()
        # When the machine itself runs out of memory, the kernel looks here first.
        namespaces.write_at(self._proc, "self/oom_score_adj", "1000")
        namespaces.build(steps, policy, self._user)
        if self._privileged:
            os.setgroups([])
            sys_.unshare(sys_.CLONE_NEWUSER)
        os.write(said, b"1")
        if os.read(go, 1) != b"1":
            raise RuntimeError("the keeper ended while its child waited")
        if self._privileged:
            os.setresgid(*[namespaces.STUDENT] * 3)
            os.setresuid(*[namespaces.STUDENT] * 3)
        privileges.forbid_user_namespaces(self._proc)
        process.close_all_but([*keep, said])
        os.chdir(namespaces.HOME)
        os.environ |= {"HOME": namespaces.HOME, "TMPDIR": "/tmp", "USER": "student"}
        privileges.limit(policy, own=0 if self._privileged else 2)  # without privileges the keeper and init are in it
        sys_.prctl(sys_.PR_SET_DUMPABLE, 1)  # changing the user cleared it, and with it /proc/self
        privileges.drop()


@functools.cache
def _cat() -> str:
    path = shutil.which("cat", path=os.defpath)
    if path is None:
        raise FileNotFoundError(f"no program cat in {os.defpath}: a sandbox needs it as its first process")
    return path


def _become(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
