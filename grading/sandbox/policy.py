"""What the code in a sandbox may read and how much it may use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one process may use; None is no limit.

    Args:
        memory_bytes: address space beyond what is mapped at the start. In a sandbox with cgroups also the memory of
            the whole tree.
        file_bytes: size of one file.
        open_files: number of file descriptors.
        cpu_seconds: processor time of one process; then it is killed.
    """

    memory_bytes: int | None = None
    file_bytes: int | None = None
    open_files: int | None = None
    cpu_seconds: int | None = None


@dataclass(frozen=True, kw_only=True)
class Policy(Limits):
    """What the code in a sandbox may read and use.

    Args:
        readable: bound read-only at their own paths; one that does not exist is left out. Symbolic links on the way
            are made again.
        hidden: covered by an empty folder or file, even inside something readable. A readable path below a hidden
            one shows again. Hide a folder rather than a file in it that may be made later.
        replaced: files shown with other content.
        processes: number of processes and threads.
        tmp_bytes: size of ``/tmp`` and ``/dev/shm`` together.
    """

    readable: tuple[Path, ...]
    hidden: tuple[Path, ...] = ()
    replaced: Mapping[Path, bytes] = field(default_factory=dict)
    processes: int = 64
    tmp_bytes: int = 64 << 20
