"""Control groups: one limit on the memory and processes of a whole tree, where this machine lets us set it.

Version 2 needs a subtree that is ours to write (a systemd user session, or root); version 1 needs root. Without either,
the limits of each process are all there is, and a tree may use their sum.
"""

import errno
import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path

from grading.sandbox.policy import Policy

_PREFIX = "grading-sandbox-"
_REMOVE_SECONDS = 10.0  # a busy machine needs seconds to end a tree
_LEFT_SECONDS = 1.0  # what a killed keeper left may also belong to one whom we cannot see


@dataclass(frozen=True)
class _Parent:
    """A group in which we may make groups, and what those can limit."""

    path: Path
    version: int
    controllers: tuple[str, ...]


def cgroups() -> str:
    """What limits whole trees on this machine, for people.

    Returns:
        For instance "cgroups v2 (memory, pids)", or "no cgroups".
    """
    parents = _parents()
    names = ", ".join(sorted(name for parent in parents for name in parent.controllers))
    return f"cgroups v{parents[0].version} ({names})" if parents else "no cgroups"


class Group:
    """The control groups of one sandbox; nothing where there are none.

    Their folders are held open, since the keeper has another root when it looks at them again.
    """

    def __init__(self, policy: Policy, name: str = "", parents: "tuple[_Parent, ...] | None" = None) -> None:
        """Make the groups and set their limits.

        Args:
            policy: its memory_bytes and processes hold for the tree.
            name: of the groups; by default from this process's id.
            parents: where to make them; by default where this machine lets us.

        Raises:
            OSError: a group could be made when this was tried first, and now cannot.
        """
        self._name = name or f"{_PREFIX}{os.getpid()}"
        self._parents: list[int] = []
        self._folders: dict[tuple[int, str], int] = {}
        try:
            for parent in _parents() if parents is None else parents:
                above = os.open(parent.path, os.O_PATH | os.O_DIRECTORY)
                os.mkdir(self._name, dir_fd=above)
                self._parents.append(above)
                folder = os.open(self._name, os.O_PATH | os.O_DIRECTORY, dir_fd=above)
                for controller in parent.controllers:
                    self._folders[parent.version, controller] = folder
            self._limit(policy)
        except BaseException:
            self.remove()
            raise

    def _limit(self, policy: Policy) -> None:
        for (version, name), folder in self._folders.items():
            if name == "pids":
                _write(folder, "pids.max", policy.processes)
            elif name == "memory" and policy.memory_bytes is not None:
                _write(folder, "memory.max" if version == 2 else "memory.limit_in_bytes", policy.memory_bytes)
                # Swap is memory too: without this, a tree could fill the machine's.
                if version == 2:
                    _write(folder, "memory.swap.max", 0, optional=True)
                else:
                    _write(folder, "memory.memsw.limit_in_bytes", policy.memory_bytes, optional=True)

    def add(self, pid: int) -> None:
        """Put a process into the groups."""
        for folder in set(self._folders.values()):
            _write(folder, "cgroup.procs", pid)

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed a process of the tree for its memory."""
        for (version, name), folder in self._folders.items():
            if name == "memory":
                return _field(folder, "memory.events" if version == 2 else "memory.oom_control", "oom_kill") > 0
        return False

    def cpu_seconds(self) -> float:
        """Processor time of the whole tree, 0.0 where it is not counted."""
        for (version, _), folder in self._folders.items():
            if version == 2:
                return _field(folder, "cpu.stat", "usage_usec") / 1e6
        return 0.0

    def remove(self) -> None:
        """Remove the groups, whose processes have all ended.

        Raises:
            OSError: a group still has processes after ten seconds.
        """
        for parent in self._parents:
            _remove(self._name, parent, _REMOVE_SECONDS)


@functools.cache
def _parents() -> tuple[_Parent, ...]:
    """The groups in which we may make groups; found by trying."""
    try:
        return _version_2() or _version_1()
    except OSError:  # no /proc, or one of these files is not for us: then neither are groups
        return ()


def _version_2() -> tuple[_Parent, ...]:
    for mount, here in _own("cgroup2", None):
        # A group with processes of its own cannot have groups with limits: look above it for one that has them.
        folder = mount / here.lstrip("/")
        while folder == mount or mount in folder.parents:
            control = folder / "cgroup.subtree_control"
            if {"memory", "pids"} <= set(control.read_text().split()):
                parent = _Parent(folder, 2, ("memory", "pids"))
                # To move a process, one must be allowed to write the group above both.
                return (parent,) if _can_make(parent) else ()
            folder = folder.parent
    return ()


def _version_1() -> tuple[_Parent, ...]:
    found = []
    for name in ("memory", "pids"):
        for mount, here in _own("cgroup", name):
            parent = _Parent(mount / here.lstrip("/"), 1, (name,))
            if _can_make(parent):
                found.append(parent)
    return tuple(found)


def _own(kind: str, controller: str | None) -> list[tuple[Path, str]]:
    """Where a hierarchy is mounted, and this process's group in it."""
    groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    mine = [path for _, names, path in groups if (controller in names.split(",") if controller else not names)]
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        root, point = before.split()[3:5]
        if mine and after.split()[0] == kind and (controller is None or controller in after.split()[2].split(",")):
            here = mine[0].removeprefix(root) if root != "/" else mine[0]
            return [(Path(point), here)] if (Path(point) / here.lstrip("/")).is_dir() else []
    return []


def _can_make(parent: _Parent) -> bool:
    """Whether groups can be made here, tried with a child; removes what a killed keeper left."""
    for left in parent.path.glob(f"{_PREFIX}*"):
        if not Path("/proc", left.name.removeprefix(_PREFIX).split("-")[0]).exists():
            try:
                _remove(left, None, _LEFT_SECONDS)
            except OSError:  # another process of ours removes it at this moment, or it is not ours to remove
                continue
    policy = Policy(readable=(), memory_bytes=1 << 30, processes=100)
    try:
        group = Group(policy, f"{_PREFIX}{os.getpid()}-trial", (parent,))
    except OSError:
        return False
    wait, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(wait, 1)
        os._exit(0)
    try:
        group.add(child)
        group.ran_out_of_memory()
        group.cpu_seconds()
    except OSError:
        return False
    finally:
        os.close(go)
        os.close(wait)
        os.waitpid(child, 0)
        group.remove()
    return True


def _remove(name: str | Path, parent: int | None, seconds: float) -> None:
    limit = time.monotonic() + seconds
    while True:
        try:
            return os.rmdir(name, dir_fd=parent)
        except OSError as error:
            # A process that ended a moment ago still counts for a moment.
            if error.errno != errno.EBUSY or time.monotonic() > limit:
                raise
        time.sleep(0.001)


def _write(folder: int, name: str, value: int, *, optional: bool = False) -> None:
    try:
        fd = os.open(name, os.O_WRONLY, dir_fd=folder)
    except FileNotFoundError:
        if optional:
            return
        raise
    try:
        os.write(fd, str(value).encode())
    except OSError as error:
        raise OSError(error.errno, f"cannot write {value} to {name}: {os.strerror(error.errno)}") from None
    finally:
        os.close(fd)


def _field(folder: int, name: str, key: str) -> int:
    """The number after a word in one of the files of a group; 0 where the kernel does not give it."""
    fd = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        words = os.read(fd, 4096).decode().split()
    finally:
        os.close(fd)
    return int(words[words.index(key) + 1]) if key in words else 0
