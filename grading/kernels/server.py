"""The driver's end of the fork server and of the kernels that it forks."""

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from .channel import Channel, Closed, Late
from .task import EngineError

START_SECONDS = 60.0  # for a kernel to come up on a machine that is busy


class Kernel:
    """A kernel: a channel, a way to interrupt or kill it, and what it used when it is over."""

    def __init__(self, order: dict, socks: Sequence[socket.socket], ours: socket.socket) -> None:
        self.control, self._status = server().fork(order, [s.fileno() for s in socks])
        for s in socks:
            s.close()
        self.channel = Channel(ours)
        self.used: dict = {}
        self.alive = True

    def ask(self, header: dict, seconds: float, buffers: Sequence[Any] = ()) -> dict:
        """Send a request and return the answer."""
        until = time.monotonic() + seconds
        self.channel.send(header, buffers, until)
        return self.channel.receive(until)[0]

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the kernel."""
        try:
            os.write(self.control, b"I")
        except BrokenPipeError:
            pass  # it has ended by itself; whoever waits for an answer will read the end of file

    def end(self) -> None:
        """Kill the kernel with all its processes, and learn what they used."""
        if not self.alive:
            return
        self.alive = False
        os.close(self.control)
        self.channel.close()
        said, until = b"", time.monotonic() + 10
        while select.select([self._status], [], [], max(0.0, until - time.monotonic()))[0]:
            if not (piece := os.read(self._status, 65536)):
                break
            said += piece
        os.close(self._status)
        for line in said.splitlines():
            self.used.update(json.loads(line))


# --- the fork server -----------------------------------------------------------------------------------------------
class _Connection:
    """A connection to a fork server that another process started."""

    def __init__(self, sock: socket.socket) -> None:
        self.channel = Channel(sock)
        self._one = Lock()  # a worker may run submissions in several threads

    def fork(self, order: dict, fds: Sequence[int]) -> tuple[int, int]:
        """Return the control and status descriptors of a new kernel."""
        try:
            with self._one:
                socket.send_fds(self.channel.sock, [b"F"], list(fds))
                self.channel.send(order)
                _, got, _, _ = socket.recv_fds(self.channel.sock, 6, 2)
        except (OSError, Closed) as e:
            raise EngineError(f"the fork server is gone: {e}") from e
        if len(got) != 2:
            raise EngineError("the fork server is gone")
        return got[0], got[1]

    def alive(self) -> bool:
        """Return whether the fork server is there; it says nothing unasked, so what can be read is its end."""
        return not select.select([self.channel], [], [], 0)[0]

    def close(self) -> None:
        self.channel.close()


class _Server(_Connection):
    """A fork server of this process's own."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        here = str(Path(__file__).resolve().parents[2])  # this package, wherever the working directory is
        keep = {k: v for k, v in os.environ.items() if k in ("LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")}
        env = keep | {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")},
            "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")])),
            "PYTHONDONTWRITEBYTECODE": "1", "CUDA_VISIBLE_DEVICES": "", "HOME": "/tmp", "USER": "student",
            "LOGNAME": "student", "IPYTHONDIR": "/tmp/.ipython", "MPLCONFIGDIR": fonts(),
            "NBGRADER_EXECUTION": "autograde",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "grading.kernels.forkserver", str(theirs.fileno())],
            pass_fds=[theirs.fileno()], env=env, cwd="/", stdin=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()
        super().__init__(ours)
        self._until = time.monotonic() + 3 * START_SECONDS
        self._ready = False

    def await_ready(self) -> None:
        """Wait until it has loaded what kernels need."""
        if self._ready:
            return
        try:
            self.channel.receive(self._until)
        except (Closed, Late) as e:
            self.close()
            raise EngineError(f"the fork server did not come up: {e}") from e
        self._ready = True

    def alive(self) -> bool:
        return super().alive() if self._ready else self.process.poll() is None

    def share(self) -> socket.socket:
        """Return a connection for another process to use, also before it is ready: whoever asks then waits."""
        ours, theirs = socket.socketpair()
        try:
            with self._one:
                socket.send_fds(self.channel.sock, [b"F"], [theirs.fileno()])
                self.channel.send({"kind": "driver"})
        except (OSError, Closed) as e:
            raise EngineError(f"the fork server is gone: {e}") from e
        finally:
            theirs.close()
        return ours

    def close(self) -> None:
        super().close()
        self.process.kill()
        self.process.wait()


@cache
def fonts() -> str:
    """Return a folder in which matplotlib keeps its list of fonts between runs."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "grading-matplotlib"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return tempfile.mkdtemp(prefix="grading-matplotlib-")
    return str(folder)


_server: _Connection | None = None
_starting = Lock()


def begin() -> None:
    """Start this process's fork server, and do not wait: it takes seconds, which the caller can use."""
    global _server
    with _starting:
        if _server is not None and not _server.alive():
            _server.close()
            _server = None
        if _server is None:
            _server = _Server()


def server() -> _Connection:
    """Return this process's fork server, a new one if it is not there or has died."""
    begin()
    with _starting:
        if isinstance(_server, _Server):
            _server.await_ready()
        return _server


def share() -> socket.socket:
    """Return a connection to this process's fork server for another process, which passes it to :func:`use`."""
    begin()
    if not isinstance(_server, _Server):
        raise EngineError("a fork server that is borrowed cannot be lent")
    return _server.share()


def use(sock: socket.socket) -> None:
    """Use another process's fork server in this one; when it is gone, this one starts its own.

    Args:
        sock: from :func:`share`.
    """
    global _server
    _server = _Connection(sock)


def shut_down() -> None:
    """End this process's fork server, if there is one."""
    global _server
    if _server is not None:
        _server.close()
        _server = None
