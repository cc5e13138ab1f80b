"""What a process may do to the machine, taken away step by step before the student's code runs."""

import functools
import os
import resource
import sys
from pathlib import Path

from grading.sandbox import seccomp
from grading.sandbox import syscalls as sys_
from grading.sandbox.namespaces import write_at
from grading.sandbox.policy import Limits, Policy

_CAP_SYS_ADMIN, _CAP_LEASE = 21, 28
_NOBODY = 65534


def is_privileged() -> bool:
    """Whether this process may make namespaces without a user namespace around them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    raise OSError("/proc/self/status has no line CapEff")


def outside_user() -> int:
    """A user id for one sandbox of a privileged process: what the kernel counts by user is then counted by sandbox.

    Returns:
        An id that no account has, or nobody's where this container maps only the usual ones.
    """
    mine = 1_900_000_000 + os.getpid()
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = map(int, line.split())
        if first <= mine < first + count:
            return mine
    return _NOBODY


def forbid_user_namespaces(proc: int) -> None:
    """Let nobody make a user namespace inside this one.

    Args:
        proc: the machine's /proc, open.
    """
    try:
        write_at(proc, "sys/user/max_user_namespaces", "0")
    except OSError:
        # Some containers mount this read-only. It is a second lock: the filter of system calls is the first.
        return


def keep_one_capability() -> None:
    """Let the program that this process starts keep one capability, a harmless one.

    A process cannot trace or read another that has more capabilities than itself, even of the same user.
    """
    one = 1 << _CAP_LEASE
    everything = (1 << last_capability() + 1) - 1
    sys_.set_capabilities(everything, everything, one)
    sys_.prctl(sys_.PR_CAP_AMBIENT, sys_.PR_CAP_AMBIENT_RAISE, _CAP_LEASE)


def limit(limits: Limits, *, own: int = 0) -> None:
    """Set the kernel's limits of this process; what it starts has the same.

    Args:
        limits: what it may use.
        own: how many of our processes the kernel counts with the sandbox's.
    """
    wanted = {
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        # Not 0: a program that the machine has for core dumps is run all the same, but not for a limit of 1.
        resource.RLIMIT_CORE: 1,
    }
    if limits.memory_bytes is not None and sys.platform == "linux":  # macOS has the limit but does not keep it
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        wanted[resource.RLIMIT_AS] = mapped + limits.memory_bytes
    if isinstance(limits, Policy):
        wanted[resource.RLIMIT_NPROC] = limits.processes + own
        wanted[resource.RLIMIT_MSGQUEUE] = 0
    for what, value in wanted.items():
        if value is not None:
            hard = resource.getrlimit(what)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(what, (value, value))


def drop() -> None:
    """Give up every capability for ever, and a good part of the system calls."""
    sys_.prctl(sys_.PR_CAP_AMBIENT, sys_.PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(last_capability() + 1):
        sys_.prctl(sys_.PR_CAPBSET_DROP, capability)
    sys_.set_capabilities(0, 0, 0)
    sys_.prctl(sys_.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.refuse()


@functools.cache
def last_capability() -> int:
    """The highest number of a capability that this kernel knows."""
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text())
