"""A student kernel in a process of its own, and the examiner's end of the connection in the test's."""

import os
import socket
import subprocess
import sys
import time

import pytest

from grading.kernels.remote import Link
from grading.kernels.wire import Channel

_SERVE = """
import socket, sys
from grading.kernels.shell import warm_shell
from grading.kernels.student_kernel import StudentKernel
from grading.kernels.wire import Channel
shell = warm_shell()
StudentKernel(shell, *(Channel(socket.socket(fileno=int(fd))) for fd in sys.argv[1:])).serve()
"""


class Other:
    """What a check sees of a student's notebook."""

    def __init__(self, link: Link, driver: Channel) -> None:
        self.link, self.driver = link, driver

    def run(self, source: str) -> list[dict]:
        """Run a cell of the student's."""
        self.driver.send({"source": source, "count": 1, "limit": 100_000})
        return self.driver.receive(time.monotonic() + 60)[0]["outputs"]

    def take(self, *names: str):
        """Return what checks bind these names to."""
        found = [self.link.request("names", [name], path=name)[name] for name in names]
        return found[0] if len(found) == 1 else found


@pytest.fixture(scope="module")
def kernel():
    """One student kernel for a file of tests; handles are recorded, not refused."""
    pairs = [socket.socketpair() for _ in range(2)]
    theirs = [b.fileno() for _, b in pairs]
    env = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    process = subprocess.Popen([sys.executable, "-c", _SERVE, *map(str, theirs)], pass_fds=theirs, env=env)
    for _, b in pairs:
        b.close()
    link = Link(Channel(pairs[1][0]))
    link.allowed = None
    yield Other(link, Channel(pairs[0][0]))
    process.kill()
    process.wait()


@pytest.fixture
def student(kernel):
    """The kernel, with no deadline and handles recorded."""
    kernel.link.allowed, kernel.link.seen, kernel.link.deadline = None, set(), time.monotonic() + 60
    return kernel
