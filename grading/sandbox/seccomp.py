"""A filter of system calls: what the kernel offers and a student's program has no use for.

The namespaces already keep the program in. The filter makes the kernel smaller for it: most ways out of a namespace
were bugs in one of the calls refused here.
"""

import ctypes
import errno
import functools
import struct

from grading.sandbox import syscalls

# Instructions of classic BPF: load a word of the call's data, compare, return.
_LOAD, _EQUAL, _SET, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF_0000, 0x0005_0000, 0x8000_0000
_AT_NUMBER, _AT_ARCH, _AT_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; both processors are little-endian

_ARCH = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_X32 = 0x4000_0000  # numbers from here on are x86_64's 32-bit pointers: another set of calls
_NEW_NAMESPACE = 0x7E02_0000  # every CLONE_NEW* that clone knows
_NEW_TIME = 0x80  # CLONE_NEWTIME, which only unshare and clone3 know
_AF_UNIX = 1

# (x86_64, aarch64); None where a processor has no such call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # file systems and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "setns": (308, 268),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "open_tree_attr": (467, 467),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "swapon": (167, 224), "swapoff": (168, 225),
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "migrate_pages": (256, 238), "move_pages": (279, 239),
    # large parts of the kernel that had many bugs
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "personality": (135, 92), "modify_ldt": (154, None), "vmsplice": (278, 75),
    # memory that no limit of a process counts
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180),
    # the machine
    "reboot": (169, 142), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "acct": (163, 89), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171), "sethostname": (170, 161),
    "setdomainname": (171, 162), "syslog": (103, 116), "iopl": (172, None), "ioperm": (173, None),
    "vhangup": (153, 58), "nfsservctl": (180, 42), "lookup_dcookie": (212, 18), "ustat": (136, None),
    "sysfs": (139, None), "_sysctl": (156, None), "uselib": (134, None),
}  # fmt: skip
# A session of its own would get a share of the processors of its own, and one sandbox is to have one. Honest programs
# start sessions, too, and never ask whether they got one: so it is said to be done.
_PRETENDED = {"setsid": (112, 157)}
_CLONE, _UNSHARE, _CLONE3 = (56, 220), (272, 97), (435, 435)
_SOCKET, _SOCKETPAIR = (41, 198), (53, 199)

_Program = list[tuple[int, int, int, int]]


def refuse() -> None:
    """Put the filter on this process and all that it starts. It must have no_new_privs or the capability.

    Raises:
        OSError: the kernel does not take the filter.
        KeyError: the processor is neither x86_64 nor aarch64.
    """
    code = program(syscalls.machine())
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: number of instructions, address of the first.
    filter_ = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    syscalls.prctl_pointer(syscalls.PR_SET_SECCOMP, syscalls.SECCOMP_MODE_FILTER, filter_)


@functools.cache
def program(machine: str) -> bytes:
    """The filter as the kernel wants it.

    Args:
        machine: the processor's name.

    Returns:
        Its instructions, packed.
    """
    column = list(_ARCH).index(machine)
    steps: _Program = [(_LOAD, 0, 0, _AT_ARCH), (_EQUAL, 1, 0, _ARCH[machine]), (_RETURN, 0, 0, _KILL)]
    steps.append((_LOAD, 0, 0, _AT_NUMBER))
    if machine == "x86_64":
        steps += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    for name in _REFUSED:
        number = _REFUSED[name][column]
        if number is not None:
            steps += _when(number, [(_RETURN, 0, 0, _ERRNO | errno.EPERM)])
    for numbers in _PRETENDED.values():
        steps += _when(numbers[column], [(_RETURN, 0, 0, _ERRNO | 0)])
    # A C library that gets "no such call" for clone3 falls back to clone, whose flags a filter can read.
    steps += _when(_CLONE3[column], [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)])
    steps += _when(_CLONE[column], _unless_clear(_NEW_NAMESPACE))
    steps += _when(_UNSHARE[column], _unless_clear(_NEW_NAMESPACE | _NEW_TIME))
    # Sockets of the same machine only. Some families (vsock, which reaches a virtual machine's host) know no namespace.
    for call in (_SOCKET, _SOCKETPAIR):
        steps += _when(call[column], _unless_equal(_AF_UNIX))
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _when(number: int, then: _Program) -> _Program:
    """Instructions for one call; every path through them returns."""
    return [(_EQUAL, 0, len(then), number), *then]


def _unless_clear(bits: int) -> _Program:
    """Refuse when the first argument has one of the bits, else allow."""
    return [
        (_LOAD, 0, 0, _AT_ARGUMENT),
        (_SET, 0, 1, bits),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _unless_equal(value: int) -> _Program:
    """Refuse when the first argument is another than this, else allow."""
    return [
        (_LOAD, 0, 0, _AT_ARGUMENT),
        (_EQUAL, 1, 0, value),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
