"""The examiner's side of the boundary: handles on what a student defined, and calls that keep their gradients.

A check calls a student's function as if it were its own. The arguments go over as a pickle, the result comes back as
data, checked while it is decoded. What is neither data nor a module stays over there and is known by a handle.
"""

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import wire
from .errors import ContractError, StudentGone, rebuilt
from .gradients import Graph
from .handles import Lent, RemoteCallable, RemoteModule, RemoteObject, build_module, state
from .payload import pack


class Link:
    """The connection from the examiner to one student kernel.

    Args:
        channel: to the student kernel.
        allowed: the expressions of the running check that may yield a handle; None records instead.
    """

    def __init__(self, channel: wire.Channel) -> None:
        self.channel = channel
        self.allowed: frozenset[str] | None = frozenset()
        self.seen: set[str] = set()
        self.deadline: float | None = None
        self._ids = itertools.count(1)
        self._modules: weakref.WeakValueDictionary[int, RemoteModule] = weakref.WeakValueDictionary()
        self._parts: weakref.WeakValueDictionary[int, RemoteModule] = weakref.WeakValueDictionary()
        self._callbacks: list[Callable] = []
        self._taken_back = 0  # how many of them belonged to checks that are over
        self._dead_objects: list[int] = []
        self._dead_graphs: list[int] = []
        self.gone = ""

    # --- requests --------------------------------------------------------------------------------------------------
    def request(self, do: str, *args: Any, path: str = "", **kwargs: Any) -> Any:
        """Ask the student kernel for something and return the result.

        Args:
            do: the kind of request, such as ``call``.
            args: its arguments; handles and modules among them stand for what they are over there.
            path: the expression that the result comes from, as a check's author would write it.
            kwargs: its keyword arguments.

        Raises:
            StudentGone: there is no student kernel any more.
            Stopped: the student's code was interrupted.
            ContractError: the result is nothing a check may use.
            Exception: what the student's code raised, as the nearest builtin exception.
        """
        if self._dead_objects or self._dead_graphs:
            objects, graphs = self._dead_objects, self._dead_graphs
            self._dead_objects, self._dead_graphs = [], []
            self._exchange("free", (objects, graphs), {}, "")
        return self._exchange(do, args, kwargs, path)

    def pull(self, graph: int, given: dict[int, Tensor], leaves: Sequence[Tensor]) -> Any:
        """Ask for the gradients by a call's leaves; differentiable by those leaves, and by the gradients given."""
        return self._exchange("pull", (graph, given, torch.is_grad_enabled()), {}, "a gradient", leaves)

    def _exchange(self, do: str, args: tuple, kwargs: dict, path: str, leaves: Sequence[Tensor] = ()) -> Any:
        if self.gone:
            raise StudentGone(self.gone)
        number = next(self._ids)
        packed = pack((args, kwargs), self._refer)
        about, buffers = packed.frame()
        sync, training, more = self._changes()
        header = {"do": do, "id": number, "tensors": about, "sync": sync, "training": training}
        try:
            self.channel.send(header, [*buffers, *more], self.deadline)
            reply, made = self._reply()
            if reply.get("id") != number:
                raise wire.ProtocolError("an answer to another request")
            if "error" in reply:
                raise rebuilt(reply["error"])
            value = self._decoded(reply, made, number, [*leaves, *(t for t in packed.tensors if t.requires_grad)], path)
            self._take_over(reply, made)
        except wire.ProtocolError as e:
            raise self.lost(f"the answer of the student's code could not be read: {e}") from None
        except wire.Closed:
            raise self.lost("the student's kernel died") from None
        except wire.Late:
            raise self.lost("the student's kernel did not answer in time") from None
        return value

    def lost(self, why: str) -> StudentGone:
        """Use this connection no more; return what to raise."""
        self.gone = why
        return StudentGone(why)

    def _reply(self) -> tuple[dict, list]:
        """Return the answer; until it comes, serve calls of functions that the student's code was lent."""
        while True:
            header, buffers = self.channel.receive(self.deadline)
            if "callback" not in header:
                return header, buffers
            number = header["callback"]
            if type(number) is not int or not 0 <= number < len(self._callbacks):
                raise wire.ProtocolError("a call of a function that was never lent")
            if number < self._taken_back:
                self.channel.send({"error": "this function belonged to a check that is over"}, (), self.deadline)
                continue
            try:
                given = wire.decode(header.get("value"), buffers, opaque=lambda node: self._handle(node, "an argument"))
            except ContractError as e:  # over there they wait for an answer
                self.channel.send({"error": str(e)}, (), self.deadline)
                continue
            if not (type(given) is list and len(given) == 2 and type(given[0]) is tuple and type(given[1]) is dict):
                raise wire.ProtocolError("a call without arguments")
            if not all(type(k) is str for k in given[1]):
                raise wire.ProtocolError("a call with a keyword that is no name")
            try:
                with torch.no_grad():
                    packed = pack(self._callbacks[number](*given[0], **given[1]), self._refer)
            except Exception as e:
                self.channel.send({"error": f"{type(e).__name__}: {e}"}, (), self.deadline)
                continue
            about, buffers = packed.frame()
            self.channel.send({"tensors": about}, buffers, self.deadline)

    # --- values ----------------------------------------------------------------------------------------------------
    def _decoded(self, reply: dict, made: list, number: int, leaves: list[Tensor], path: str) -> Any:
        outputs: dict[int, Tensor] = {}

        def collect(t: Tensor, k: int) -> Tensor:
            outputs[k] = t
            return t

        def opaque(node: list) -> Any:
            return self._handle(node, path)

        value = wire.decode(reply.get("value"), made, opaque=opaque, gradient=collect)
        if not outputs:
            return value
        if sorted(outputs) != list(range(len(outputs))) or not all(
            t.is_floating_point() or t.is_complex() for t in outputs.values()
        ):
            raise wire.ProtocolError("outputs that cannot have gradients")
        leaves = [*leaves, *self._parameters(reply)]
        graph = Graph(self, number, [outputs[k] for k in range(len(outputs))], len(leaves))
        linked = graph.link(leaves)
        return wire.decode(reply["value"], made, opaque=opaque, gradient=lambda t, k: linked[k])

    def _handle(self, node: list, path: str) -> Any:
        if len(node) != 4 or type(node[1]) is not int or not all(type(text) is str for text in node[2:]):
            raise wire.ProtocolError("a handle that is none")
        _, number, kind, label = node
        if self.allowed is None:
            self.seen.add(path)
        elif path not in self.allowed:
            raise ContractError(_not_data(path, kind, label))
        if kind == "module":
            return self._module(number, path)
        return (RemoteObject if kind == "object" else RemoteCallable)(self, number, path, label)

    def release(self, number: int) -> None:
        """Note that no handle on an object is left."""
        self._dead_objects.append(number)

    def release_graph(self, number: int) -> None:
        """Note that no result of a call is left through which gradients could flow."""
        self._dead_graphs.append(number)

    def lend(self, function: Callable) -> "Lent":
        """Return what stands for a function that the student's code may call."""
        self._callbacks.append(function)
        return Lent(function, len(self._callbacks) - 1, getattr(function, "__name__", "function"))

    def take_back(self) -> None:
        """Let nothing that was lent so far be called any more: the check that lent it is over."""
        self._taken_back = len(self._callbacks)

    def _refer(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            owners = ((n, name) for n, m in self._modules.items() for name, t in m._held.items() if t is obj)
            owner = next(owners, None)
            return owner and ("parameter", *owner)
        if isinstance(obj, RemoteObject):
            return ("object", obj.__dict__["_number"])
        if isinstance(obj, RemoteModule):
            return ("object", obj._number)
        if isinstance(obj, Lent):
            return ("callback", obj.number, obj.__name__)
        if obj is self:
            raise ContractError("a check's helper holds the connection to the student's kernel.")
        return None

    # --- modules ---------------------------------------------------------------------------------------------------
    def _module(self, number: int, path: str) -> "RemoteModule":
        known = self._parts.get(number)
        if known is None:
            # A module is made of data: no handle may be among its parts, or describing them might never end.
            allowed, self.allowed = self.allowed, frozenset()
            try:
                said = self._exchange("module", (number,), {}, path)
            finally:
                self.allowed = allowed
            known = build_module(self, number, said, path)
            self._modules[number] = known
            self._parts.update({m._number: m for m in known.modules() if isinstance(m, RemoteModule)})
        return known

    def _changes(self) -> tuple[list, list, list]:
        """Return what the examiner changed in modules since the student's side last knew."""
        sync, training, buffers = [], [], []
        for number, module in self._modules.items():
            for name, t in module._held.items():
                now = state(t)
                if module._known.get(name) != now:
                    module._known[name] = now
                    sync.append([number, name, str(t.dtype)[6:], list(t.shape), t.requires_grad])
                    buffers.append(wire.tensor_to_bytes(t))
            for part in module.modules():
                if isinstance(part, RemoteModule) and part._told != part.training:
                    part._told = part.training
                    training.append([part._number, part.training])
        return sync, training, buffers

    def _take_over(self, reply: dict, made: list) -> None:
        """Give modules the values that the student's code gave them."""
        for entry in _listed(reply.get("changed", []), 3):
            number, name, tree = entry
            module = self._modules.get(number) if type(number) is int else None
            value = wire.decode(tree, made, opaque=lambda node: None)
            if module is None:
                continue  # the examiner let go of it
            held = module._held.get(name) if type(name) is str else None
            if held is None or not isinstance(value, Tensor) or (value.shape, value.dtype) != (held.shape, held.dtype):
                raise wire.ProtocolError("a change of something that is no parameter")
            with torch.no_grad():
                held.copy_(value)
            module._known[name] = state(held)

    def _parameters(self, reply: dict) -> list[Tensor]:
        found = []
        for number, name in _listed(reply.get("parameters", []), 2):
            module = self._modules.get(number) if type(number) is int else None
            held = module._held.get(name) if module is not None and type(name) is str else None
            found.append(torch.zeros(()) if held is None else held)
        return found


def _listed(value: Any, width: int) -> list[list]:
    if type(value) is not list or not all(type(v) is list and len(v) == width for v in value):
        raise wire.ProtocolError("a list that is none")
    return value


def _not_data(path: str, kind: str, label: str) -> str:
    what = {"class": "a class", "callable": f"something to call ({label})"}.get(kind, f"an object of type {label}")
    return f"`{path}` must give data (a tensor, a number, a list, ...), got {what}."
