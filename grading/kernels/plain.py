"""What may cross between the kernels: how much, which arrays, and how a named tuple arrives."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


class ProtocolError(Exception):
    """The other side sent what it must not send."""


class EncodeError(Exception):
    """A value cannot be handed over; the sentence says why."""


@dataclass(frozen=True)
class Limits:
    """How much may be sent.

    Args:
        header: bytes of a frame's header.
        frame: bytes of a frame's buffers together; also of one tensor or array with its empty dimensions left out.
        buffers: buffers in a frame.
        nodes: nodes of a value's tree.
        depth: containers within containers.
        keys: keys of dictionaries and elements of sets, all together: keys made to have the same hash take a time
            that grows with the square of their number.
        string: characters of a string.
        digits: digits of an integer.
        dimensions: dimensions of a tensor or array.
        total: bytes received over the life of a channel.
    """

    header: int = 4 << 20
    frame: int = 256 << 20
    buffers: int = 10_000
    nodes: int = 200_000
    depth: int = 64
    keys: int = 20_000
    string: int = 1 << 20
    digits: int = 4_000
    dimensions: int = 32
    total: int = 2 << 30


LIMITS = Limits()


class Record(tuple):
    """A named tuple as it arrives: a tuple with read-only attributes.

    ``collections.namedtuple`` would build its class from text; this class is one and the same for all of them.

    Args:
        fields: the fields' names.
        values: their values.
    """

    _fields: tuple[str, ...]

    def __new__(cls, fields: Sequence[str], values: Sequence[object]) -> "Record":
        """Make a record; see the class."""
        record = super().__new__(cls, values)
        # In the instance's own dictionary a field named `count` or `index` hides the method of tuples, as it should.
        record.__dict__.update(zip(fields, record, strict=True), _fields=tuple(fields))
        return record

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} cannot be set: a named tuple does not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name} cannot be deleted: a named tuple does not change")

    def __getnewargs__(self) -> tuple[tuple[str, ...], tuple]:
        return self._fields, tuple(self)

    def __repr__(self) -> str:
        return f"Record({', '.join(f'{n}={v!r}' for n, v in zip(self._fields, self, strict=True))})"


_TYPE_NAME = type.__dict__["__name__"].__get__
_ARRAY = re.compile(
    r"\|b1|\|[iu]1|[<>][iu][248]|[<>]f[248]|[<>]c(?:8|16)|\|S[1-9]\d{0,8}|[<>]U[1-9]\d{0,8}"
    r"|[<>][mM]8(?:\[(?:[1-9]\d{0,3})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?",
    re.ASCII,
)


def array_dtype(text: object) -> np.dtype:
    """The numpy dtype that a string stands for, if arrays of it may be sent.

    Args:
        text: what ``dtype.str`` gives.

    Returns:
        The dtype.

    Raises:
        ProtocolError: not a dtype, or one whose arrays hold more than plain numbers, text or dates.
    """
    if type(text) is not str or not _ARRAY.fullmatch(text):
        raise ProtocolError(f"the array dtype {show(text)} is not among those that may be sent")
    try:
        return np.dtype(text)
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"numpy does not know the array dtype {show(text)}") from error


def is_field(name: str) -> bool:
    """Whether a string can be a field of a named tuple.

    Args:
        name: the string.

    Returns:
        Whether it is a public identifier of at most 100 characters.
    """
    return len(name) <= 100 and name.isidentifier() and not name.startswith("_")


def show(value: object) -> str:
    """What was sent, short enough for a message and free of odd characters.

    Args:
        value: anything that JSON gives.

    Returns:
        At most a line.
    """
    if type(value) is list:
        return f"a list of {len(value)}" if len(value) > 8 else f"[{', '.join(show(v)[:20] for v in value)}]"
    if type(value) is dict:
        return "an object"
    if type(value) is int and value.bit_length() > 64:
        return "a huge integer"
    if type(value) is str:
        return ascii(value[:60])
    return ascii(value)[:60]


def name_of(value: object) -> str:
    """The name of an object's type, whatever the object says of itself.

    Args:
        value: any object.

    Returns:
        The name; a metaclass may have a ``__name__`` of its own, which is not asked.
    """
    return _TYPE_NAME(type(value))
