"""The file system that a sandbox sees, and the namespaces around it."""

import os
import socket

from grading.sandbox import syscalls as sys_
from grading.sandbox.paths import Step, nearest
from grading.sandbox.policy import Policy

# What everything in the sandbox belongs to, as it sees itself.
STUDENT = 1000
HOME = "/tmp/work"

_ISOLATED = (
    sys_.CLONE_NEWNS | sys_.CLONE_NEWPID | sys_.CLONE_NEWNET | sys_.CLONE_NEWIPC
    | sys_.CLONE_NEWUTS | sys_.CLONE_NEWCGROUP
)  # fmt: skip
_STAGE = "/proc"  # where the new root is built: every machine has this folder, and nothing in it is ever bound
_COVERS, _TMPFS = "/.covers", "/.tmpfs"
_READ_ONLY = sys_.MS_RDONLY | sys_.MS_NOSUID | sys_.MS_NODEV
_DEVICES = ("null", "zero", "full", "random", "urandom")
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
_ETC = {
    "passwd": f"student:x:{STUDENT}:{STUDENT}::{HOME}:/bin/sh\n".encode(),
    "group": f"student:x:{STUDENT}:\n".encode(),
    "hosts": b"127.0.0.1 localhost\n",
}


def enter(proc: int, *, privileged: bool) -> None:
    """Leave the machine's namespaces; the next child is pid 1 of a new PID namespace.

    Args:
        proc: the machine's /proc, open.
        privileged: this process may do so by itself. If not, it makes a user namespace in which it may.

    Raises:
        OSError: the kernel refuses.
    """
    if privileged:
        sys_.unshare(_ISOLATED)
    else:
        user, group = os.geteuid(), os.getegid()
        sys_.unshare(_ISOLATED | sys_.CLONE_NEWUSER)
        sys_.prctl(sys_.PR_SET_DUMPABLE, 1)  # a change of user before may have cleared it, and with it /proc/self
        write_maps(proc, "self", user, group)
    sys_.mount("none", "/", "", sys_.MS_REC | sys_.MS_PRIVATE)


def write_maps(proc: int, process: str, user: int, group: int) -> None:
    """Say who the student is outside of a new user namespace.

    Args:
        proc: the machine's /proc, open.
        process: a process in that namespace.
        user: user id outside.
        group: group id outside.
    """
    write_at(proc, f"{process}/setgroups", "deny")
    write_at(proc, f"{process}/uid_map", f"{STUDENT} {user} 1")
    write_at(proc, f"{process}/gid_map", f"{STUDENT} {group} 1")


def build(steps: list[Step], policy: Policy, user: int) -> None:
    """Lay out the new root and go there. /proc shows the PID namespace that this process is in.

    Args:
        steps: what shows in it, by depth.
        policy: for the size of /tmp.
        user: whom /tmp belongs to, as this process sees ids; the group has the same.

    Raises:
        OSError: a step failed; the message says which.
    """
    sys_.mount("tmpfs", _STAGE, "tmpfs", sys_.MS_NOSUID, "mode=755,size=16m,nr_inodes=100k")
    old_mask = os.umask(0o022)
    for folder in ("proc", "dev", "etc", "tmp", _COVERS[1:], _TMPFS[1:]):
        os.mkdir(f"{_STAGE}/{folder}")
    for name, text in _ETC.items():
        _make(f"{_STAGE}/etc/{name}", folder=False, content=text)
    _devices()
    _private(policy, user)
    _lay_out(steps)  # last: what is readable may lie in /tmp
    # Here, while the machine's own /proc is still mounted: the kernel gives an unprivileged process no new one else.
    sys_.mount("proc", f"{_STAGE}/proc", "proc", _READ_ONLY | sys_.MS_NOEXEC, "hidepid=2")
    os.umask(old_mask)
    sys_.pivot_root(_STAGE)
    socket.sethostname("sandbox")
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    sys_.set_attributes(root, _READ_ONLY, recursive=False)
    os.close(root)


def write_at(folder: int, name: str, text: str) -> None:
    """Write a file of the kernel below an open folder."""
    fd = os.open(name, os.O_WRONLY, dir_fd=folder)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _lay_out(steps: list[Step]) -> None:
    """Put every step of a plan into the new root."""
    covers = f"{_STAGE}{_COVERS}"
    sys_.mount("tmpfs", covers, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=755,size=64m,nr_inodes=100k")
    done: dict[str, Step] = {}
    for number, step in enumerate(steps):
        around = nearest(step.path, done)
        cover = f"{covers}/{number}"
        if around is None:
            place = _STAGE + step.path
        elif around.kind == "hide":
            place = f"{covers}/{steps.index(around)}{step.path.removeprefix(around.path)}"
        else:
            place = None  # it exists already, in what is bound around it
        if step.kind == "link":
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.symlink(step.content, place)
        elif step.kind == "bind":
            if place is not None:
                _make(place, folder=os.path.isdir(step.path))
            sys_.bind(step.path, _STAGE + step.path, _READ_ONLY)
        elif place is not None:  # "replace" where nothing else shows
            _make(place, folder=False, content=step.content)
        else:
            _make(cover, folder=step.kind == "hide" and os.path.isdir(step.path), content=step.content)
            sys_.bind(cover, _STAGE + step.path, _READ_ONLY)
        done[step.path] = step
    sys_.umount(covers)  # the binds stay
    os.rmdir(covers)


def _make(place: str, *, folder: bool, content: bytes = b"") -> None:
    """Make a folder or a file, and the folders that it lies in."""
    os.makedirs(place if folder else os.path.dirname(place), exist_ok=True)
    if not folder:
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(fd, content)
        os.close(fd)


def _devices() -> None:
    for name in _DEVICES:
        _make(f"{_STAGE}/dev/{name}", folder=False)
        sys_.bind(f"/dev/{name}", f"{_STAGE}/dev/{name}", sys_.MS_RDONLY | sys_.MS_NOSUID | sys_.MS_NOEXEC)
    for name, target in _LINKS.items():
        os.symlink(target, f"{_STAGE}/dev/{name}")


def _private(policy: Policy, user: int) -> None:
    """/tmp and /dev/shm: two folders of one small file system, so that one limit holds for both."""
    both = f"{_STAGE}{_TMPFS}"
    options = f"mode=755,size={policy.tmp_bytes},nr_inodes={max(policy.tmp_bytes >> 12, 64)}"
    sys_.mount("tmpfs", both, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, options)
    for source, target in (("tmp", "/tmp"), ("shm", "/dev/shm")):
        os.mkdir(f"{both}/{source}")
        os.chmod(f"{both}/{source}", 0o1777)
        os.makedirs(_STAGE + target, exist_ok=True)
        sys_.bind(f"{both}/{source}", _STAGE + target, sys_.MS_NOSUID | sys_.MS_NODEV)
    os.mkdir(_STAGE + HOME)
    os.chown(_STAGE + HOME, user, user)
    sys_.umount(both)
    os.rmdir(both)
