"""The system calls that Python does not offer, each an exception with its name when it fails."""

import ctypes
import functools
import os
import platform
import sys

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x0002_0000, 0x0200_0000, 0x0400_0000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 0x1, 0x2, 0x4, 0x8, 0x4000, 0x4_0000
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
SECCOMP_MODE_FILTER = 2

# Calls that are newer than the C library, which have one number on every processor.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE, _OPEN_TREE_CLONE = -100, 0x1000, 0x8000, 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_CAPABILITY_VERSION_3 = 0x2008_0522


@functools.cache
def libc() -> ctypes.CDLL:
    """The C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _syscall(what: str, number: int, *args: object) -> int:
    wide = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return _check(libc().syscall(ctypes.c_long(number), *wide), what)


def machine() -> str:
    """The processor's name as the kernel gives it."""
    return platform.machine() if sys.platform != "linux" else os.uname().machine


def unshare(flags: int) -> None:
    """Leave the namespaces named by the flags for new ones."""
    _check(libc().unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount a file system."""
    args = (source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _check(libc().mount(*args), f"mount {kind or 'flags'} on {target}")


def umount(target: str) -> None:
    """Take a mount away, now from the paths and later, when it is no longer used, altogether."""
    _check(libc().umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def bind(source: str, target: str, attributes: int) -> None:
    """Show a file or folder, with all that is mounted in it, at another path.

    Args:
        source: what to show.
        target: where; an existing file or folder.
        attributes: of MS_RDONLY, MS_NOSUID, MS_NODEV and MS_NOEXEC, set on every mount of the copy before it shows.
    """
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    tree = _syscall(f"open_tree {source}", _OPEN_TREE, _AT_FDCWD, os.fsencode(source), flags)
    try:
        set_attributes(tree, attributes, recursive=True)
        call = (tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
        _syscall(f"move_mount {source} to {target}", _MOVE_MOUNT, *call)
    finally:
        os.close(tree)


def set_attributes(mount_fd: int, attributes: int, *, recursive: bool) -> None:
    """Add attributes to a mount (the mount_setattr numbers are those of MS_RDONLY to MS_NOEXEC)."""
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
    wanted = (ctypes.c_uint64 * 4)(attributes, 0, MS_PRIVATE if recursive else 0, 0)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    _syscall("mount_setattr", _MOUNT_SETATTR, mount_fd, b"", flags, ctypes.byref(wanted), ctypes.sizeof(wanted))


def pivot_root(new_root: str) -> None:
    """Make a mount the root of this mount namespace, and let go of the old root."""
    os.chdir(new_root)
    _syscall("pivot_root", _PIVOT_ROOT[machine()], b".", b".")  # the old root now lies over the new one
    umount(".")
    os.chdir("/")


def prctl(option: int, *args: int) -> None:
    """Set something of this process."""
    wide = [ctypes.c_ulong(arg) for arg in (*args, 0, 0, 0, 0)[:4]]
    _check(libc().prctl(ctypes.c_int(option), *wide), f"prctl({option}, {args})")


def prctl_pointer(option: int, mode: int, pointer: object) -> None:
    """Set something of this process that is given by address."""
    _check(libc().prctl(ctypes.c_int(option), ctypes.c_ulong(mode), pointer, ctypes.c_ulong(0), ctypes.c_ulong(0)),
           f"prctl({option}, {mode})")  # fmt: skip


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """Set this process's capabilities, each set a bit mask."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (effective, permitted, inheritable)
    low, high = [mask & 0xFFFF_FFFF for mask in sets], [mask >> 32 for mask in sets]
    data = (ctypes.c_uint32 * 6)(*low, *high)
    _syscall("capset", _CAPSET[machine()], ctypes.byref(header), ctypes.byref(data))
