"""The student kernel: runs a student's cells, and calls what they define when the examiner asks.

It lives in the sandbox and nothing it says is trusted: its answers are data that the other side decodes with suspicion.
One thread serves two sockets, the driver's (cells to run) and the examiner's (names, calls, gradients).
"""

import copy
import inspect
import itertools
import select
import signal
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ebm_lib.check import student as local

from . import wire
from .payload import same_tensors, unpack
from .shell import KernelShell, sendable

_MESSAGE = 20_000  # characters of an exception's message


class Opaque:
    """A function of the examiner's that the student's code may call, but not look into."""

    def __init__(self, kernel: "StudentKernel", number: int, name: str) -> None:
        self._kernel, self._number, self.__name__ = kernel, number, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self._kernel.call_back(self._number, args, kwargs)


class StudentKernel:
    """What the examiner can ask for, one method ``do_...`` for each kind of request.

    Args:
        shell: the shell in which cells run.
        driver: the channel that cells come from.
        examiner: the channel that requests come from.
    """

    def __init__(self, shell: KernelShell, driver: wire.Channel, examiner: wire.Channel) -> None:
        self.shell, self.driver, self.examiner = shell, driver, examiner
        self.objects: dict[int, Any] = {}
        self.graphs: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        self.modules: dict[int, dict[str, Tensor]] = {}  # by number: the values that the examiner knows
        self._numbers = itertools.count(1)
        self._busy = False

    # --- serving ---------------------------------------------------------------------------------------------------
    def serve(self) -> None:
        """Serve both channels until one of them closes."""
        signal.signal(signal.SIGINT, self._interrupt)
        poll = select.poll()
        by_descriptor = {c.fileno(): c for c in (self.driver, self.examiner)}
        for descriptor in by_descriptor:
            poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                channel = by_descriptor[descriptor]
                try:
                    header, buffers = channel.receive()
                    if channel is self.driver and "files" in header:
                        self._lay_out(header["files"], buffers)
                    elif channel is self.driver:
                        self._run(header)
                    else:
                        self._answer(header, buffers)
                except wire.Closed:
                    return

    def _interrupt(self, signum: int, frame: Any) -> None:
        if self._busy:
            raise KeyboardInterrupt

    def _lay_out(self, names: list[str], contents: list) -> None:
        """Write the files that were handed in beside the notebook."""
        for name, content in zip(names, contents, strict=True):
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.driver.send({})

    def _run(self, header: dict) -> None:
        self._busy = True
        try:
            outputs = self.shell.run(header["source"], header["count"], header["limit"])
        finally:
            self._busy = False
        self.driver.send({"outputs": outputs})

    def _answer(self, header: dict, buffers: list) -> None:
        """Do one request; whatever is raised goes back as text."""
        try:
            self._busy = True
            with self.shell.redirected(100_000):
                reply, made = self._do(header, buffers)
        except BaseException as e:
            self._busy = False
            reply, made = {"error": self._described(e)}, []
        finally:
            self._busy = False
        try:
            self.examiner.send({**reply, "id": header["id"]}, made)
        except wire.EncodeError as e:  # larger than a frame may be; nothing has gone out
            self.examiner.send({"error": self._described(e), "id": header["id"]})

    def _do(self, header: dict, buffers: list) -> tuple[dict, list]:
        (args, kwargs), leaves = unpack(header["tensors"], self._synchronise(header, buffers), self._resolve)
        leaves = [t for t in leaves if t.requires_grad]
        value = getattr(self, f"do_{header['do']}")(*args, **kwargs)
        outputs: list[Tensor] = []
        tree, made = wire.encode(value, opaque=self._opaque, outputs=outputs)
        reply: dict[str, Any] = {"value": tree}
        if outputs and header["do"] == "pull":
            self.graphs[header["id"]] = outputs, [*self.graphs[args[0]][1], *leaves]
        elif outputs:
            named = [(n, name, t) for n in self.modules for name, t in _tensors(self.objects[n]) if t.requires_grad]
            self.graphs[header["id"]] = outputs, [*leaves, *(t for _, _, t in named)]
            reply["parameters"] = [[n, name] for n, name, _ in named]
        changed, more = self._changed(len(made))
        return {**reply, "changed": changed}, [*made, *more]

    def _described(self, e: BaseException) -> dict:
        own = [f for f in traceback.extract_tb(e.__traceback__) if f.filename != __file__]
        frames = []
        if own:
            try:
                text = self.shell.InteractiveTB.structured_traceback(type(e), e, e.__traceback__, tb_offset=2)
                frames = [t[:20_000] for t in text if "Cell In[" in t[:200]][-5:]
            except Exception as trouble:
                frames = [f"(no traceback: {type(trouble).__name__})"]
        try:
            message = str(e)[:_MESSAGE]
        except Exception as trouble:
            message = f"<{type(trouble).__name__} in __str__>"
        types = [sendable(c.__name__) for c in type(e).__mro__[:-1]]
        return {"types": types, "message": sendable(message), "frames": [sendable(frame) for frame in frames]}

    # --- objects ---------------------------------------------------------------------------------------------------
    def _keep(self, value: Any) -> int:
        for number, known in self.objects.items():
            if known is value:
                return number
        number = next(self._numbers)
        self.objects[number] = value
        return number

    def _opaque(self, value: Any) -> list:
        value = value.value if type(value) is _Held else value
        kind = (
            "module" if isinstance(value, nn.Module)
            else "class" if isinstance(value, type)
            else "callable" if callable(value)
            else "object"
        )  # fmt: skip
        return ["h", self._keep(value), kind, type(value).__name__[:100]]

    def _resolve(self, reference: tuple) -> Any:
        kind, number = reference[:2]
        if kind == "callback":
            return Opaque(self, number, reference[2])
        return dict(_tensors(self.objects[number]))[reference[2]] if kind == "parameter" else self.objects[number]

    # --- modules whose parameters live in the examiner ------------------------------------------------------------
    def _synchronise(self, header: dict, buffers: list) -> list:
        """Take over what the examiner changed in modules; return the other buffers."""
        rest = len(header["tensors"]) + 1
        for (number, name, dtype, shape, needs_grad), data in zip(header["sync"], buffers[rest:], strict=True):
            held = dict(_tensors(self.objects[number]))[name]
            with torch.no_grad():
                held.data = wire.tensor_from_bytes(dtype, shape, data)
            held.requires_grad_(needs_grad) if isinstance(held, nn.Parameter) else None
            self.modules[number][name] = held.detach().clone()
        for number, training in header["training"]:
            self.objects[number].training = training
        return buffers[:rest]

    def _changed(self, first: int) -> tuple[list, list]:
        """Return what the student's code changed in modules that the examiner knows, and the buffers."""
        changed, made = [], []
        for number, known in self.modules.items():
            for name, held in _tensors(self.objects[number]):
                if name in known and not same_tensors(held, known[name]):
                    known[name] = held.detach().clone()
                    tree, data = wire.encode(known[name], opaque=self._opaque)
                    tree[3] = first + len(made)
                    made += data
                    changed.append([number, name, tree])
        return changed, made

    def do_module(self, number: int) -> dict:
        """Describe a module: its parts, parameters and buffers; from now on they are kept equal on both sides."""
        module = self.objects[number]
        parts = []
        for path, part in module.named_modules(remove_duplicate=False):
            parts.append((path, self._keep(part), type(part).__name__, bool(part.training)))
        keys: dict[int, int] = {}
        held = [
            (name, keys.setdefault(id(t), len(keys)), t.detach(), isinstance(t, nn.Parameter), bool(t.requires_grad))
            for name, t in _tensors(module)
        ]
        self.modules[number] = {name: t.clone() for name, _, t, _, _ in held}
        return {"parts": parts, "tensors": held}

    # --- requests --------------------------------------------------------------------------------------------------
    def do_call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function, class, module or any other callable of the student's."""
        return function(*args, **kwargs)

    do_run = do_call

    def do_attr(self, obj: Any, name: str) -> Any:
        """Return an attribute."""
        return getattr(obj, name)

    def do_item(self, obj: Any, key: Any) -> Any:
        """Return an item."""
        return obj[key]

    def do_len(self, obj: Any) -> int:
        """Return a length."""
        return len(obj)

    def do_iter(self, obj: Any) -> Any:
        """Return an iterator, which stays here."""
        return _Iterator(iter(obj))

    def do_take(self, obj: Any, n: int) -> list:
        """Return the first items of an iterable, or the next of an iterator."""
        return list(itertools.islice(iter(obj), n))

    def do_copy(self, obj: Any) -> Any:
        """Return a deep copy."""
        return copy.deepcopy(obj)

    def do_names(self, names: list[str]) -> dict[str, Any]:
        """Return those globals of the notebook that exist; what cannot be sent stays here and is known by a handle."""
        return {name: self._sendable(self.shell.user_ns[name]) for name in names if name in self.shell.user_ns}

    def _sendable(self, value: Any) -> Any:
        try:
            wire.encode(value, opaque=self._opaque)
        except wire.EncodeError:
            return _Held(value)
        return value

    def do_get(self, name: str) -> Any:
        """Return a global of the notebook."""
        if name not in self.shell.user_ns:
            raise AssertionError(f"your notebook must define `{name}`.")
        return self.shell.user_ns[name]

    def do_set(self, name: str, value: Any) -> None:
        """Define a global."""
        self.shell.user_ns[name] = value

    def do_eval(self, expression: str, **names: Any) -> Any:
        """Evaluate an expression in the notebook's namespace, with some names added."""
        return eval(expression, {**self.shell.user_ns, **names})

    def do_mutated(self, function: Callable, *args: Any, **kwargs: Any) -> list:
        """Return which arguments a call changed."""
        return local.mutated(function, *args, **kwargs)

    def do_signature(self, function: Callable) -> tuple[str, ...]:
        """Return the names of a function's parameters."""
        return tuple(inspect.signature(function).parameters)

    def do_source(self, obj: Any) -> str:
        """Return the source of a function or class."""
        return inspect.getsource(obj)

    def do_free(self, objects: list[int], graphs: list[int]) -> None:
        """Forget what the examiner no longer refers to."""
        for number in objects:
            self.objects.pop(number, None)
            self.modules.pop(number, None)
        for number in graphs:
            self.graphs.pop(number, None)

    def do_pull(self, graph: int, gradients: Mapping[int, Tensor], create_graph: bool) -> list[Tensor | None]:
        """Return the gradient by each leaf of a call, given those by its outputs."""
        outputs, leaves = self.graphs[graph]
        if not leaves:
            return []
        return list(
            torch.autograd.grad(
                [outputs[k] for k in gradients],
                leaves,
                list(gradients.values()),
                create_graph=create_graph,
                retain_graph=True,
                allow_unused=True,
            )
        )

    def call_back(self, number: int, args: tuple, kwargs: dict) -> Any:
        """Call a function of the examiner's; it gets plain data, so no gradient flows through."""
        tree, made = wire.encode([args, kwargs], opaque=self._opaque)
        self.examiner.send({"callback": number, "value": tree}, made)
        header, buffers = self.examiner.receive()
        while "do" in header:  # first the examiner has a question of its own: what a module among the arguments is
            self._answer(header, buffers)
            self._busy = True
            header, buffers = self.examiner.receive()
        if "error" in header:
            raise RuntimeError(header["error"])
        return unpack(header["tensors"], buffers, self._resolve)[0]


class _Held:
    """Something that goes over as a handle, whatever it is."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Iterator:
    """An iterator of the student's, which has its own ``take``."""

    def __init__(self, it: Any) -> None:
        self._it = it

    def __iter__(self) -> Any:
        return self._it


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
