"""What every process of a sandbox does first, and how a child tells its parent that it could not begin."""

import os
import signal
import traceback
from collections.abc import Callable, Iterable
from typing import NoReturn

FAILED = 70  # exit status of a body that raised


def close_all_but(keep: Iterable[int]) -> None:
    """Close every file descriptor but these; 0, 1 and 2 become /dev/null.

    Args:
        keep: descriptors that stay as they are.
    """
    keep = set(keep)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in {0, 1, 2} - keep:
        os.dup2(null, fd)
    for fd in set(map(int, os.listdir("/dev/fd"))) - keep - {0, 1, 2}:
        os.closerange(fd, fd + 1)  # unlike close, it does not mind that the listing's own descriptor is gone


def reset_signals() -> None:
    """Answer signals as a new Python process does, whatever the parent had set."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def run(prepare: Callable[[], None], body: Callable[[], None], errors: int) -> NoReturn:
    """Be the child: prepare, run the body, end.

    Args:
        prepare: what takes this process's rights away.
        body: what it is there for.
        errors: a pipe for the message of an error in `prepare`; closed before the body begins.
    """
    status = FAILED
    try:
        try:
            prepare()
        except BaseException as error:
            os.write(errors, describe(error).encode())
            raise
        os.close(errors)
        body()
        status = 0
    finally:
        os._exit(status)  # no clean-up of the parent's: its buffers and atexit functions are not ours


def expect(heard: int, wanted: bytes) -> None:
    """Read one message of a child.

    Args:
        heard: the read end of its pipe for errors.
        wanted: one byte, or nothing for the end of file.

    Raises:
        RuntimeError: it sent an error instead, or ended.
    """
    got = os.read(heard, 1)
    if got == wanted:
        return
    rest = got
    while part := os.read(heard, 4096):
        rest += part
    raise RuntimeError(rest.decode(errors="replace") or "the child ended before it could begin")


def describe(error: BaseException) -> str:
    """An error in one line, with the place where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({os.path.basename(place.filename)}, line {place.lineno})"
