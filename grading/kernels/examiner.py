"""The examiner kernel: runs given cells and checks, hidden tests included, where no student's code can reach.

Names that a check takes from the student are bound to data or handles before it runs, and gone after it.
"""

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

from ebm_lib.check import student as local

from . import wire
from .errors import ContractError, Stopped, StudentGone
from .handles import RemoteObject
from .outputs import error
from .remote import Link
from .shell import KernelShell


class RemoteStudent:
    """The ``student`` helpers of ``ebm_lib.check``, with the student's code in another process.

    Args:
        link: gives the connection in use.
    """

    def __init__(self, link: Callable[[], Link]) -> None:
        self._link = link

    def install(self) -> None:
        """Take the place of the local helpers in this process."""
        for name in ("get", "set", "eval", "run", "mutated", "take", "signature", "source", "attr", "opaque"):
            setattr(local, name, getattr(self, name))

    def get(self, name: str) -> Any:
        """Return a global of the student's notebook."""
        return self._link().request("get", name, path=name)

    def set(self, name: str, value: Any) -> None:
        """Define a global in the student's notebook."""
        self._link().request("set", name, value)

    def eval(self, expression: str, **names: Any) -> Any:
        """Evaluate an expression in the student's namespace."""
        return self._link().request("eval", expression, path="student.eval()", **names)

    def run(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        """Call a function of the examiner's on the student's side; what it returns is the student's claim."""
        return self._link().request("run", function, *args, path="student.run()", **kwargs)

    def mutated(self, function: Callable, *args: Any, **kwargs: Any) -> list[int | str]:
        """Return which arguments a call changes in place."""
        found = self._link().request("mutated", function, *args, path="student.mutated()", **kwargs)
        return _of(found, list, (int, str), "student.mutated")

    def take(self, iterable: Iterable, n: int) -> list:
        """Return the first items of an iterable."""
        if not isinstance(iterable, RemoteObject):
            return list(itertools.islice(iterable, n))
        path = f"{object.__getattribute__(iterable, '_path')}[]"
        return _of(self._link().request("take", iterable, n, path=path), list, (object,), "student.take")

    def signature(self, function: Callable) -> tuple[str, ...]:
        """Return the names of a function's parameters."""
        return _of(self._link().request("signature", function), tuple, (str,), "student.signature")

    def source(self, obj: Any) -> str:
        """Return the source of a function or class."""
        return _of(self._link().request("source", obj), str, (str,), "student.source")

    def attr(self, obj: Any, name: str) -> Any:
        """Return any attribute of something of the student's."""
        return self._link().request("attr", obj, name, path=f"{getattr(obj, '_path', 'student')}.{name}")

    def opaque(self, function: Callable) -> Callable:
        """Return a function that the student's code can call and not look into."""
        return self._link().lend(function)


def _of(value: Any, kind: type, items: tuple[type, ...], name: str) -> Any:
    if type(value) is not kind or not all(isinstance(v, items) for v in value):
        raise ContractError(f"{name} did not get an answer that it could use.")
    return value


class Examiner:
    """Serves the driver.

    Args:
        shell: the shell in which cells run.
        driver: the channel that cells come from.
        links: connections to the student kernels that may follow one another.
    """

    def __init__(self, shell: KernelShell, driver: wire.Channel, links: list[wire.Channel]) -> None:
        self.shell, self.driver, self._links = shell, driver, links
        self.link = Link(links[0])
        RemoteStudent(lambda: self.link).install()

    def serve(self) -> None:
        """Serve until the driver closes its end."""
        while True:
            try:
                header, _ = self.driver.receive()
            except wire.Closed:
                return
            self.driver.send(getattr(self, f"do_{header.pop('do')}")(**header))

    def do_run(self, source: str, count: int, limit: int) -> dict:
        """Run a given cell."""
        return {"outputs": self.shell.run(source, count, limit)}

    def do_relink(self, number: int) -> dict:
        """Go on with another student kernel."""
        self.link = Link(self._links[number])
        return {}

    def do_check(
        self, source: str, count: int, limit: int, names: list[str], handles: list[str] | None, seconds: float
    ) -> dict:
        """Run a check.

        Args:
            source: the cell.
            count: its number.
            limit: characters of output kept.
            names: what it takes from the student.
            handles: the expressions that may yield a handle; None to record which do.
            seconds: how long the student's code may take to answer.

        Returns:
            ``outputs``; ``gone``: why the student kernel did not last, or nothing; ``handles`` that were seen.
        """
        link = self.link
        link.allowed, link.seen = None if handles is None else frozenset(handles), set()
        link.deadline = time.monotonic() + seconds
        try:
            for name in names:
                self.shell.user_ns.pop(name, None)
                found = link.request("names", [name], path=name)
                if type(found) is not dict or found.keys() - {name}:
                    raise ContractError("Your notebook was asked for one name and gave something else.")
                self.shell.user_ns.update(found)
            outputs = self.shell.run(source, count, limit)
        except (StudentGone, Stopped, ContractError, Exception) as e:
            kind = "AssertionError" if isinstance(e, ContractError) else type(e).__name__
            outputs = [error(kind, str(e)[:20_000])]
        finally:
            link.take_back()
            for name in names:
                self.shell.user_ns.pop(name, None)
        # What a check prints to stderr is no verdict; nbgrader would take it for one.
        outputs = [o for o in outputs if o.get("name") != "stderr"]
        for o in outputs:
            if o.get("ename") == ContractError.__name__:
                o["ename"] = "AssertionError"
        return {"outputs": outputs, "gone": link.gone, "handles": sorted(link.seen)}
