"""The untrusted end of the codec: turns a student's value into a tree of JSON and raw buffers.

It runs in the student kernel, beside code that can change anything here, so nobody relies on it: what it sends is
checked by ``grading.kernels.decode``. It only has to be right for honest values and to give a clear sentence for odd
ones. Subclasses of builtins are read with the builtin's own methods, never with what the subclass makes of them.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable

import numpy as np
import torch

from .plain import LIMITS, EncodeError, Limits, ProtocolError, Record, array_dtype, is_field, name_of
from .tensors import NAMES, plain_tensor, tensor_to_bytes


def encode(
    value: object,
    *,
    opaque: Callable[[object], list],
    limits: Limits = LIMITS,
    outputs: list | None = None,
) -> tuple[object, list[bytes | memoryview]]:
    """Turn a value into a tree of JSON and a list of buffers.

    Args:
        value: numbers, text, containers, tensors and arrays; anything else is left to ``opaque``.
        opaque: called with every object that is no plain data; gives the node that stands for it, ``["h", ...]``.
        limits: how much may be sent.
        outputs: collects the tensors that carry a gradient, in the order of their marks; None to send values alone.

    Returns:
        The tree and the buffers, which share memory with the value's tensors: send them before these change.

    Raises:
        EncodeError: too large, too deep, or holding a tensor or array that is no plain data.
    """
    try:
        encoder = _Encoder(opaque, limits, outputs)
        return encoder.node(value, 0), encoder.buffers
    except RecursionError as error:
        raise EncodeError("The value is nested too deep to be handed over.") from error


class _Encoder:
    """One call of ``encode``."""

    def __init__(self, opaque: Callable[[object], list], limits: Limits, outputs: list | None) -> None:
        self.opaque = opaque
        self.limits = limits
        self.outputs = outputs
        self.buffers: list[bytes | memoryview] = []
        self.bytes = 0
        self.nodes = self.keys = 0

    def node(self, value: object, depth: int) -> object:
        self.count(1)
        if depth > self.limits.depth:
            raise EncodeError(f"The value is nested more than {self.limits.depth} deep (does it contain itself?).")
        if value is None or value is True or value is False:
            return value
        # Not isinstance, which believes an object's `__class__`.
        kind = type(value)
        for base, write in _WRITE.items():
            if kind is base:
                return write(self, value, depth)
        for base, write in _WRITE.items():
            if issubclass(kind, base):
                return write(self, value, depth)
        if value is ...:
            return ["ellipsis"]
        return self.opaque(value)

    def count(self, more: int) -> None:
        self.nodes += more
        if self.nodes > self.limits.nodes:
            raise EncodeError(
                f"The value has more than {self.limits.nodes} parts (does it contain itself?); "
                "hand over a tensor or an array instead."
            )

    def buffer(self, data: bytes | memoryview) -> int:
        self.room(len(data))
        self.bytes += len(data)
        self.buffers.append(data)
        if len(self.buffers) > self.limits.buffers:
            raise EncodeError(f"The value holds more than {self.limits.buffers} tensors, arrays and byte strings.")
        return len(self.buffers) - 1

    def room(self, size: int) -> None:
        """Refuse before memory is taken for a copy."""
        if self.bytes + size > self.limits.frame:
            raise EncodeError(f"The value takes {self.bytes + size} bytes; at most {self.limits.frame} can be sent.")

    # --- numbers and text ------------------------------------------------------------------------------------------

    def text(self, value: str) -> str:
        value = str.__str__(value)
        if len(value) > self.limits.string:
            raise EncodeError(f"A string has {len(value)} characters; at most {self.limits.string} can be sent.")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise EncodeError("A string holds half of a surrogate pair, which is no character.") from error
        return value

    def integer(self, value: int) -> list:
        value = int.__int__(value)
        if value.bit_length() > 3 * self.limits.digits:  # a digit is 3.3 bits
            raise EncodeError(
                f"An integer has {value.bit_length()} bits; at most {3 * self.limits.digits} can be sent."
            )
        return ["i", str(value)]

    # --- containers ------------------------------------------------------------------------------------------------

    def items(self, values: Iterable, size: int, depth: int) -> list:
        self.count(size)  # before the list is made
        self.nodes -= size
        return [self.node(v, depth + 1) for v in list(values)]

    def sequence(self, value: tuple, depth: int) -> list:
        size = tuple.__len__(value)
        nodes = self.items(tuple.__iter__(value), size, depth)
        if type(value) is tuple:
            return ["t", nodes]
        if type(value) is torch.Size:
            return ["size", [int(v) for v in value]]
        # The names of a named tuple, or of what torch.max and its like return.
        try:
            about = value if type(value) is Record else type(value)
            names = getattr(about, "_fields", None) or getattr(about, "__match_args__", None)
        except Exception:  # the student's own attribute: then it is a tuple and no more
            names = None
        if type(names) is not tuple or not all(type(n) is str and is_field(n) for n in names):
            return ["t", nodes]
        return ["n", list(names), nodes] if len(names) == size == len(set(names)) else ["t", nodes]

    def mapping(self, value: dict, depth: int) -> list:
        # An ordered dictionary's own order is not that of the dictionary beneath.
        items = (OrderedDict if issubclass(type(value), OrderedDict) else dict).items(value)
        self.count_keys(dict.__len__(value))
        return ["d", [[self.key(k, depth), self.node(v, depth + 1)] for k, v in list(items)]]

    def count_keys(self, more: int) -> None:
        self.keys += more
        if self.keys > self.limits.keys:
            raise EncodeError(
                f"Dictionaries and sets have {self.keys} entries; at most {self.limits.keys} can be sent."
            )

    def key(self, value: object, depth: int) -> object:
        node = self.node(value, depth + 1)
        if not _hashable(node):
            raise EncodeError(
                f"A {name_of(value)} is a key of a dictionary or in a set; only plain values can be sent."
            )
        return node

    def unordered(self, tag: str, value: set | frozenset, depth: int) -> list:
        base = set if tag == "s" else frozenset
        self.count_keys(base.__len__(value))
        return [tag, [self.key(v, depth) for v in list(base.__iter__(value))]]

    # --- tensors and arrays ----------------------------------------------------------------------------------------

    def tensor(self, value: torch.Tensor) -> list:
        try:
            plain = plain_tensor(value)
            shape = list(plain.shape)
            self.room(plain.nbytes)  # before a copy is made
            if len(shape) > self.limits.dimensions:
                raise EncodeError(
                    f"A tensor has {len(shape)} dimensions; at most {self.limits.dimensions} can be sent."
                )
            raw = tensor_to_bytes(plain)
            carries = self.outputs is not None and torch.Tensor.requires_grad.__get__(value)
        except EncodeError:
            raise
        except Exception as error:
            raise EncodeError(f"A {name_of(value)} could not be read: {name_of(error)}.") from error
        mark = None
        if carries:
            mark = len(self.outputs)
            self.outputs.append(value)
        return ["T", NAMES[plain.dtype], shape, self.buffer(raw), mark]

    def array(self, value: np.ndarray) -> list:
        dtype, shape, raw = self.elements(value)
        return ["A", dtype, shape, self.buffer(raw)]

    def scalar(self, value: np.generic) -> list:
        dtype, _, raw = self.elements(value)
        return ["np", dtype, self.buffer(raw)]

    def elements(self, value: np.ndarray | np.generic) -> tuple[str, list[int], memoryview | bytes]:
        """An array's dtype, shape and bytes."""
        if issubclass(type(value), np.ma.MaskedArray):
            raise EncodeError("A masked array cannot be handed over; return a plain one.")
        try:
            plain = np.asarray(value).view(np.ndarray)
            if plain.dtype.itemsize == 0 and plain.dtype.kind in "SU":  # no room for a character, so all are empty
                plain = plain.astype(f"{plain.dtype.kind}1")
            self.room(plain.nbytes)
            name = array_dtype(plain.dtype.str).str
            if plain.ndim > self.limits.dimensions:
                raise EncodeError(
                    f"An array has {plain.ndim} dimensions; at most {self.limits.dimensions} can be sent."
                )
            raw = np.ascontiguousarray(plain).reshape(-1).view(np.uint8) if plain.size else None
        except ProtocolError as error:
            raise EncodeError(f"An array or scalar of dtype {plain.dtype} cannot be handed over.") from error
        except EncodeError:
            raise
        except Exception as error:
            raise EncodeError(f"A {name_of(value)} could not be read: {name_of(error)}.") from error
        return name, list(plain.shape), b"" if raw is None else memoryview(raw)


def _real(value: float) -> str:
    return "nan" if math.isnan(value) else float.hex(value)


def _complex(value: complex) -> list:
    return ["c", _real(complex.real.__get__(value)), _real(complex.imag.__get__(value))]


def _range(value: range) -> list:
    ends = (value.start, value.stop, value.step)
    if not all(-(1 << 63) <= e < 1 << 63 for e in ends):
        raise EncodeError("A range has an end that does not fit into 64 bits.")
    return ["range", *(str(int(e)) for e in ends)]


def _slice(value: slice) -> list:
    parts = (value.start, value.stop, value.step)
    if not all(p is None or type(p) is int for p in parts):
        raise EncodeError("A slice of something else than integers cannot be handed over.")
    return ["slice", *(None if p is None else ["i", str(p)] for p in parts)]


def _hashable(node: object) -> bool:
    """Whether a node can stand for a key."""
    if type(node) is not list:
        return True
    if node[0] in ("t", "fs"):
        return all(_hashable(n) for n in node[1])
    if node[0] == "n":
        return all(_hashable(n) for n in node[2])
    return node[0] in ("i", "f", "c", "b", "np", "size", "dtype")


# Types in the order of the search: np.float64 is a float, np.str_ a str and np.bytes_ a bytes, and they stay what
# they are.
_WRITE: dict[type, Callable[[_Encoder, object, int], object]] = {
    np.generic: lambda e, v, depth: e.scalar(v),
    str: lambda e, v, depth: e.text(v),
    float: lambda e, v, depth: ["f", _real(float.__float__(v))],
    int: lambda e, v, depth: e.integer(v),
    torch.Tensor: lambda e, v, depth: e.tensor(v),
    list: lambda e, v, depth: ["l", e.items(list.__iter__(v), list.__len__(v), depth)],
    tuple: lambda e, v, depth: e.sequence(v, depth),
    dict: lambda e, v, depth: e.mapping(v, depth),
    np.ndarray: lambda e, v, depth: e.array(v),
    set: lambda e, v, depth: e.unordered("s", v, depth),
    frozenset: lambda e, v, depth: e.unordered("fs", v, depth),
    bytes: lambda e, v, depth: ["b", e.buffer(bytes.__getitem__(v, slice(None)))],
    complex: lambda e, v, depth: _complex(v),
    torch.dtype: lambda e, v, depth: ["dtype", NAMES[v]] if v in NAMES else e.opaque(v),
    range: lambda e, v, depth: _range(v),
    slice: lambda e, v, depth: _slice(v),
}
