"""Make the forks of a large process cheap."""

import ctypes
import errno
import gc
import os
import sys
from pathlib import Path

from grading.sandbox.syscalls import libc

_MADV_COLLAPSE = 25  # Linux 6.1
_HUGE = 2 << 20


def cheapen_forks() -> None:
    """Gather this process's memory in huge pages, and keep the garbage collector off what is there now.

    A fork copies the page tables, which is most of its cost: with huge pages there are 512 times fewer entries. Call
    it once, when everything is imported. Where the kernel cannot do it, forks stay as they were.
    """
    gc.collect()
    gc.freeze()
    if sys.platform != "linux":
        return
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights, *_, name = [*line.split(maxsplit=5), ""][:6]
        if "w" not in rights or "p" not in rights or name.strip() not in ("", "[heap]"):
            continue
        start, end = (int(address, 16) for address in addresses.split("-"))
        start, end = -(-start // _HUGE) * _HUGE, end // _HUGE * _HUGE
        if end <= start:
            continue
        if libc().madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_COLLAPSE):
            code = ctypes.get_errno()
            # Older kernels do not know it; a part that is not used yet, or no free huge page, is no matter either.
            if code not in (errno.EINVAL, errno.ENOMEM, errno.EAGAIN, errno.EBUSY):
                raise OSError(code, f"madvise: {os.strerror(code)}")
