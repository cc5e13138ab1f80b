"""The fork server: a process in which everything slow is imported once, and from which kernels are forked.

It is started with ``python -m grading.kernels.forkserver FD`` and serves the socket FD until its other end closes. It
never sees a notebook or a solution: whatever it has in memory, its children can read.
"""

import gc
import os
import random
import select
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .channel import Channel, Closed, Late

_NEAR = "module://matplotlib_inline.backend_inline"
_ORDER_SECONDS = 10.0  # for the rest of an order that has begun to arrive


def main(descriptor: int) -> None:
    """Import, then fork kernels as asked."""
    os.environ["MPLBACKEND"] = _NEAR
    gc.disable()  # what is loaded stays
    shell = _warm()
    gc.enable()
    first = _channel(descriptor)
    first.send({"ready": True})
    poll, channels = select.poll(), {descriptor: first}
    poll.register(descriptor, select.POLLIN)
    while descriptor in channels:  # when the process that started it is gone, so are all others' reasons to ask
        for fd, _ in poll.poll():
            try:
                added = _serve(shell, channels[fd])
            except (Closed, Late, ConnectionError):  # its driver has ended, or was killed in the middle of an order
                poll.unregister(fd)
                channels.pop(fd).close()
                continue
            if added is not None:
                channels[added.fileno()] = added
                poll.register(added.fileno(), select.POLLIN)


def _serve(shell: Any, orders: Channel) -> Channel | None:
    """Do one order: fork a kernel, or take on another driver, whose channel is returned."""
    _, fds, _, _ = socket.recv_fds(orders.sock, 1, 16)
    order, _ = orders.receive(time.monotonic() + _ORDER_SECONDS)
    if order["kind"] == "driver":
        return _channel(fds[0])
    kernel = _fork(shell, order, fds)
    for fd in fds:
        os.close(fd)
    try:
        socket.send_fds(orders.sock, [b"forked"], [kernel.control, kernel.status])
    finally:  # a driver that was killed holds no control of the kernel, which then ends
        os.close(kernel.control)
        os.close(kernel.status)
    with suppress(ChildProcessError):  # the keepers of kernels that have ended
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return None


def _warm() -> Any:
    import torch

    torch.set_num_threads(1)  # before any fork: a pool of threads does not survive one
    import matplotlib.pyplot
    import numpy
    import torch.nn.functional

    # Each imports hundreds of modules when first used.
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    from ..sandbox import cheapen_forks
    from . import examiner, student_kernel  # noqa: F401
    from .shell import warm_shell

    shell = warm_shell()
    cheapen_forks()
    del matplotlib, numpy
    return shell


def _fork(shell: Any, order: dict, fds: list[int]) -> Any:
    from .. import sandbox

    def body() -> None:
        import numpy

        random.seed()
        numpy.random.seed()
        if order["cwd"]:
            os.chdir(order["cwd"])
        sys.path.insert(0, "")
        channels = [_channel(fd) for fd in fds]
        if order["kind"] == "examiner":
            from .examiner import Examiner

            Examiner(shell, channels[0], channels[1:]).serve()
        else:
            from .student_kernel import StudentKernel

            StudentKernel(shell, *channels).serve()

    return sandbox.spawn(_policy(order["policy"]), body, fds)


def _channel(fd: int) -> Channel:
    return Channel(socket.socket(fileno=fd))


def _policy(said: dict | None) -> Any:
    from ..sandbox import Limits, Policy

    if said is None or "readable" not in said:
        return said and Limits(**said)
    paths = {name: tuple(map(Path, said.pop(name))) for name in ("readable", "hidden")}
    replaced = {Path(path): bytes.fromhex(content) for path, content in said.pop("replaced").items()}
    return Policy(**paths, replaced=replaced, **said)


if __name__ == "__main__":
    main(int(sys.argv[1]))
