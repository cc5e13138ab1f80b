"""Whether this machine can hold a sandbox: by making one."""

import functools
import os
import sys
import sysconfig
from pathlib import Path

from grading.sandbox import syscalls
from grading.sandbox.keeper import spawn
from grading.sandbox.paths import default_readable
from grading.sandbox.policy import Policy

_PROCESSORS = ("x86_64", "aarch64")


@functools.cache
def unavailable() -> str | None:
    """Why this machine cannot hold a sandbox.

    Returns:
        None if it can, else one sentence.
    """
    if sys.platform != "linux":
        return f"A sandbox needs Linux, and this is {sys.platform}."
    if syscalls.machine() not in _PROCESSORS:
        return f"A sandbox needs a processor of {' or '.join(_PROCESSORS)}, and this is {syscalls.machine()}."
    policy = Policy(readable=default_readable(), processes=8, tmp_bytes=1 << 20, memory_bytes=1 << 30)
    said = spawn(policy, _look_around).wait()
    if "error" in said:
        return f"This machine refuses a sandbox: {said['error']}{_advice()}"
    if said["exit"] != 0:
        return f"A process in the sandbox cannot read this Python at {sys.prefix} and {Path(os.__file__).parent}."
    return None


def _look_around() -> None:
    Path(os.__file__).read_bytes()
    os.listdir(sysconfig.get_path("purelib"))


def _advice() -> str:
    """What is known to refuse."""
    for name, refusing, meaning in (
        ("kernel/unprivileged_userns_clone", "0", "user namespaces are for root alone"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "AppArmor restricts user namespaces"),
        ("user/max_user_namespaces", "0", "there may be no user namespace"),
    ):
        path = Path("/proc/sys", name)
        if path.exists() and path.read_text().strip() == refusing:
            return f"; {path} is {refusing}: {meaning}."
    return "."
