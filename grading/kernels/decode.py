"""The trusted end of the codec: builds values from what an untrusted process sent, and nothing but plain data.

A value travels as a tree of JSON and a list of raw buffers (the tags are listed in ``grading.kernels.wire``). Nothing
here imports, looks up or calls anything by a name that was sent: every name is a key of a fixed table.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch

from .plain import LIMITS, Limits, ProtocolError, Record, array_dtype, is_field, show
from .tensors import tensor_dtype, tensor_from_bytes

Opener = Callable[[list], object]
Gradient = Callable[[torch.Tensor, int], torch.Tensor]


_INT = re.compile(r"0|-?[1-9][0-9]*")
_FLOAT = re.compile(r"nan|-?inf|-?0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}")
_KEY = (str, int, float, bool, type(None), bytes, complex, torch.Size, torch.dtype)


def decode(
    tree: object,
    buffers: Sequence[memoryview | bytes],
    *,
    opaque: Opener,
    limits: Limits = LIMITS,
    gradient: Gradient | None = None,
) -> object:
    """Build the value that a tree and its buffers stand for.

    Args:
        tree: what ``encode`` gave, after a trip through JSON.
        buffers: the raw buffers that the tree refers to, each at most once.
        opaque: called with the node of a handle, ``["h", ...]``, which it must check; gives what stands for it.
        limits: how much may be sent.
        gradient: called with a tensor and its mark for each tensor that carries a gradient; gives the tensor to use.

    Returns:
        The value. Tensors and arrays own their memory.

    Raises:
        ProtocolError: anything that ``encode`` would not have sent.
    """
    try:
        return _Decoder(buffers, opaque, limits, gradient).value(tree, 0)
    except RecursionError as error:
        raise ProtocolError("the value is nested too deep") from error


class _Decoder:
    """One call of ``decode``."""

    def __init__(
        self, buffers: Sequence[memoryview | bytes], opaque: Opener, limits: Limits, gradient: Gradient | None
    ) -> None:
        self.buffers = buffers
        self.opaque = opaque
        self.limits = limits
        self.gradient = gradient
        self.nodes = self.keys = 0
        self.used: set[int] = set()

    def value(self, node: object, depth: int) -> object:
        self.nodes += 1
        if self.nodes > self.limits.nodes:
            raise ProtocolError(f"the value has more than {self.limits.nodes} parts")
        if node is None or node is True or node is False:
            return node
        if type(node) is str:
            return self.text(node)
        if type(node) is not list or not node or type(node[0]) is not str:
            raise ProtocolError(f"a node is {show(node)}, expected a list that starts with a tag")
        read = _READ.get(node[0])
        if read is None:
            raise ProtocolError(f"unknown tag {show(node[0])}")
        size, method = read
        if size is not None and len(node) != size:
            raise ProtocolError(f"a node {node[0]!r} has {len(node)} entries, expected {size}")
        if depth > self.limits.depth:
            raise ProtocolError(f"the value is nested more than {self.limits.depth} deep")
        return method(self, node, depth)

    # --- numbers and text ------------------------------------------------------------------------------------------

    def text(self, text: str) -> str:
        if len(text) > self.limits.string:
            raise ProtocolError(f"a string of {len(text)} characters, at most {self.limits.string} may be sent")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ProtocolError("a string holds half of a surrogate pair") from error
        return text

    def integer(self, text: object) -> int:
        # The length first: the time to read a number grows with its square.
        good = type(text) is str and len(text) - text.startswith("-") <= self.limits.digits and _INT.fullmatch(text)
        if not good:
            raise ProtocolError(f"{show(text)} is not the text of an integer of at most {self.limits.digits} digits")
        return int(text)

    def word(self, text: object) -> int:
        number = self.integer(text)
        if not -(1 << 63) <= number < 1 << 63:
            raise ProtocolError(f"{show(text)} does not fit into 64 bits")
        return number

    def real(self, text: object) -> float:
        if type(text) is not str or not _FLOAT.fullmatch(text):
            raise ProtocolError(f"{show(text)} is not the text of a floating-point number")
        try:
            return float.fromhex(text)
        except OverflowError as error:
            raise ProtocolError(f"{show(text)} is too large for a floating-point number") from error

    # --- containers ------------------------------------------------------------------------------------------------

    def items(self, nodes: object, depth: int) -> list:
        if type(nodes) is not list:
            raise ProtocolError(f"a container holds {show(nodes)}, expected a list")
        return [self.value(n, depth + 1) for n in nodes]

    def elements(self, nodes: object, depth: int) -> list:
        items = self.items(nodes, depth)
        self.count_keys(len(items))
        for item in items:
            self.key(item)
        return items

    def count_keys(self, more: int) -> None:
        self.keys += more
        if self.keys > self.limits.keys:
            raise ProtocolError(f"the value has more than {self.limits.keys} keys and elements of sets")

    def key(self, value: object) -> object:
        """Refuse what has no hash of its own, or whose hash is code that could be another's."""
        if type(value) in (tuple, frozenset, Record):
            for part in value:
                self.key(part)
        elif type(value) not in _KEY and not isinstance(value, np.generic):
            raise ProtocolError(f"a {type(value).__name__} cannot be a key of a dictionary or an element of a set")
        return value

    def mapping(self, pairs: object, depth: int) -> dict:
        if type(pairs) is not list:
            raise ProtocolError(f"a dictionary is {show(pairs)}, expected a list of pairs")
        self.count_keys(len(pairs))
        result = {}
        for pair in pairs:
            if type(pair) is not list or len(pair) != 2:
                raise ProtocolError(f"an item of a dictionary is {show(pair)}, expected a pair")
            key = self.key(self.value(pair[0], depth + 1))
            result[key] = self.value(pair[1], depth + 1)
        return result

    def record(self, fields: object, values: object, depth: int) -> Record:
        if type(fields) is not list or not fields or not all(type(f) is str and is_field(f) for f in fields):
            raise ProtocolError(f"the fields of a named tuple are {show(fields)}, expected names")
        items = self.items(values, depth)
        if len(items) != len(fields) or len(set(fields)) != len(fields):
            raise ProtocolError(f"a named tuple with {len(fields)} fields and {len(items)} values, or a field twice")
        return Record(fields, items)

    def cut(self, node: list, depth: int) -> slice:
        parts = self.items(node[1:], depth)
        if not all(p is None or type(p) is int for p in parts):
            raise ProtocolError("a slice of something else than integers")
        return slice(*parts)

    def steps(self, node: list) -> range:
        start, stop, step = (self.word(n) for n in node[1:])
        if not step:
            raise ProtocolError("a range with step 0")
        return range(start, stop, step)

    # --- tensors and arrays ----------------------------------------------------------------------------------------

    def buffer(self, index: object) -> memoryview:
        """A buffer by its number; each only once, or a small frame could fill the memory."""
        if type(index) is not int or not 0 <= index < len(self.buffers):
            raise ProtocolError(f"there is no buffer {show(index)}")
        if index in self.used:
            raise ProtocolError(f"buffer {index} is used twice")
        self.used.add(index)
        return memoryview(self.buffers[index])

    def shape(self, shape: object, itemsize: int, data: memoryview) -> tuple[int, ...]:
        if type(shape) is not list or len(shape) > self.limits.dimensions:
            raise ProtocolError(f"the shape {show(shape)} is not a list of at most {self.limits.dimensions} sizes")
        count, room = 1, itemsize
        for size in shape:
            if type(size) is not int or size < 0:
                raise ProtocolError(f"the shape {show(shape)} has a size that is none")
            count *= size
            # Empty dimensions left out: what a sum over one of them would take.
            room *= max(size, 1)
            if room > self.limits.frame:
                raise ProtocolError(f"the shape {show(shape)} takes more than {self.limits.frame} bytes")
        if count * itemsize != data.nbytes:
            raise ProtocolError(f"the shape {show(shape)} takes {count * itemsize} bytes, its buffer has {data.nbytes}")
        return tuple(shape)

    def tensor(self, name: object, shape: object, index: object, mark: object) -> torch.Tensor:
        dtype = tensor_dtype(name)
        data = self.buffer(index)
        tensor = tensor_from_bytes(name, self.shape(shape, dtype.itemsize, data), data)
        if mark is None:
            return tensor
        if type(mark) is not int or not 0 <= mark < self.limits.nodes:
            raise ProtocolError(f"the mark of a tensor is {show(mark)}, expected an output's number")
        if self.gradient is None or not (dtype.is_floating_point or dtype.is_complex):
            raise ProtocolError(f"a tensor of dtype {name} carries a gradient where none can be")
        return self.gradient(tensor, mark)

    def array(self, text: object, shape: object, index: object) -> np.ndarray:
        dtype = array_dtype(text)
        data = self.buffer(index)
        sizes = self.shape(shape, dtype.itemsize, data)
        if not data.nbytes:
            return np.empty(sizes, dtype)
        if dtype.kind == "b":
            return (np.frombuffer(data, np.uint8) != 0).reshape(sizes)
        if dtype.kind == "U":
            points = np.frombuffer(data, np.dtype(np.uint32).newbyteorder(dtype.byteorder))
            if points.max() > 0x10FFFF or ((points >= 0xD800) & (points < 0xE000)).any():
                raise ProtocolError("an array of strings holds what is no character")
        return np.frombuffer(data, dtype).reshape(sizes).copy()

    def size(self, sizes: object) -> torch.Size:
        if type(sizes) is not list or len(sizes) > self.limits.string:
            raise ProtocolError(f"a size is {show(sizes)}, expected a list")
        if not all(type(s) is int and -(1 << 63) <= s < 1 << 63 for s in sizes):
            raise ProtocolError(f"a size is {show(sizes)}, expected integers of 64 bits")
        return torch.Size(sizes)


# What a node is made of: how many entries it has, and what reads it.
_READ: dict[str, tuple[int | None, Callable[[_Decoder, list, int], object]]] = {
    "i": (2, lambda d, n, depth: d.integer(n[1])),
    "f": (2, lambda d, n, depth: d.real(n[1])),
    "c": (3, lambda d, n, depth: complex(d.real(n[1]), d.real(n[2]))),
    "b": (2, lambda d, n, depth: d.buffer(n[1]).tobytes()),
    "l": (2, lambda d, n, depth: d.items(n[1], depth)),
    "t": (2, lambda d, n, depth: tuple(d.items(n[1], depth))),
    "d": (2, lambda d, n, depth: d.mapping(n[1], depth)),
    "s": (2, lambda d, n, depth: set(d.elements(n[1], depth))),
    "fs": (2, lambda d, n, depth: frozenset(d.elements(n[1], depth))),
    "n": (3, lambda d, n, depth: d.record(n[1], n[2], depth)),
    "T": (5, lambda d, n, depth: d.tensor(*n[1:])),
    "A": (4, lambda d, n, depth: d.array(*n[1:])),
    "np": (3, lambda d, n, depth: d.array(n[1], [], n[2])[()]),
    "size": (2, lambda d, n, depth: d.size(n[1])),
    "dtype": (2, lambda d, n, depth: tensor_dtype(n[1])),
    "range": (4, lambda d, n, depth: d.steps(n)),
    "slice": (4, lambda d, n, depth: d.cut(n, depth)),
    "ellipsis": (1, lambda d, n, depth: ...),
    "h": (None, lambda d, n, depth: d.opaque(n)),
}
