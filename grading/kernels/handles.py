"""What stands in the examiner for something that a student's code made and that is no data."""

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .errors import ContractError
from .wire import ProtocolError

if TYPE_CHECKING:
    from .remote import Link


class Lent:
    """A function of the examiner's that the student's code may call but not look into."""

    def __init__(self, function: Callable, number: int, name: str) -> None:
        self.function, self.number, self.__name__ = function, number, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self.function(*args, **kwargs)


class RemoteObject:
    """A handle on something in the student kernel: public attributes, items, length and iteration, nothing else."""

    def __init__(self, link: "Link", number: int, path: str, label: str) -> None:
        self.__dict__.update(_link=link, _number=number, _path=path, _label=label)
        weakref.finalize(self, link.release, number)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{self._path}.{name}: a check reads public names only; student.attr reads others.")
        return self._link.request("attr", self, name, path=f"{self._path}.{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self._path}.{name} cannot be set: it belongs to the student.")

    def __getitem__(self, key: Any) -> Any:
        return self._link.request("item", self, key, path=f"{self._path}[]")

    def __len__(self) -> int:
        return _length(self._link, self, self._path)

    def __iter__(self) -> Iterator[Any]:
        allowed, self._link.allowed = self._link.allowed, None  # the iterator itself is no result of the check's
        try:
            it = self._link.request("iter", self, path="an iterator")
        finally:
            self._link.allowed = allowed
            self._link.seen.discard("an iterator")
        while found := self._link.request("take", it, 1, path=f"{self._path}[]"):
            yield found[0]

    def __bool__(self) -> bool:
        raise ContractError(f"{self._path} is a {self._label}, which is neither true nor false.")

    def __eq__(self, other: object) -> bool:
        raise ContractError(f"{self._path} is a {self._label}: it cannot be compared.")

    __hash__ = None

    def __repr__(self) -> str:
        return f"<the student's {self._path}: {self._label}>"


class RemoteCallable(RemoteObject):
    """A handle that can be called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self._link.request("call", self, *args, path=f"{self._path}()", **kwargs)

    @property
    def __name__(self) -> str:
        return self._path


class RemoteModule(nn.Module):
    """A student's module: its parameters and buffers live here, its forward over there."""

    def __init__(self, link: "Link", number: int, path: str, label: str, training: bool) -> None:
        super().__init__()
        self._built = False  # until then an attribute that is not here is nowhere
        self._link, self._number, self._path, self._label = link, number, path, label
        self.training = self._told = training
        self._known: dict[str, tuple] = {}

    @property
    def _held(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, those that are shared by each of their names."""
        return dict([*self.named_parameters(remove_duplicate=False), *self.named_buffers(remove_duplicate=False)])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the student's module."""
        return self._link.request("call", self, *args, path=f"{self._path}()", **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or not self._built:
                raise
        return self._link.request("attr", self, name, path=f"{self._path}.{name}")

    def __getitem__(self, key: Any) -> Any:
        return self._link.request("item", self, key, path=f"{self._path}[]")

    def __len__(self) -> int:
        return _length(self._link, self, self._path)

    def __bool__(self) -> bool:
        return True  # also where it has no length

    def __deepcopy__(self, memo: dict) -> Any:
        return self._link.request("copy", self, path=self._path)

    def extra_repr(self) -> str:
        """Say what it is."""
        return f"the student's {self._label}"


def build_module(link: "Link", number: int, said: Any, path: str) -> RemoteModule:
    """Return the mirror of a module from what the student kernel says of it.

    Args:
        link: the connection.
        number: the module's number over there.
        said: its parts and tensors.
        path: the expression it came from.

    Raises:
        ProtocolError: it is described as no module can be.
    """
    parts: dict[str, RemoteModule] = {}
    try:
        for where, part, label, training in said["parts"]:
            made = RemoteModule(link, part, f"{path}.{where}" if where else path, str(label), training is True)
            if where:
                above, _, name = where.rpartition(".")
                parts[above].add_module(name, made)
            parts[where] = made
        root = parts[""]
        root._number = number
        by_key: dict[int, Tensor] = {}
        for full, key, value, is_parameter, needs_grad in said["tensors"]:
            above, _, name = full.rpartition(".")
            held = by_key.setdefault(key, nn.Parameter(value, needs_grad) if is_parameter else value)
            if is_parameter:
                parts[above].register_parameter(name, held)
            else:
                parts[above].register_buffer(name, held)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as e:
        raise ProtocolError(f"a module that is none ({type(e).__name__})") from None
    for part in parts.values():
        part._built = True
    root._known = {name: state(t) for name, t in root._held.items()}
    return root


def state(t: Tensor) -> tuple:
    """Return what changes when a tensor is written to, replaced or frozen."""
    return t._version, t.data_ptr(), t.dtype, t.requires_grad


def _length(link: "Link", obj: Any, path: str) -> int:
    length = link.request("len", obj, path=f"len({path})")
    if type(length) is not int or not 0 <= length < 2**31:
        raise ContractError(f"len({path}) must be a whole number, got {length!r:.40}.")
    return length
