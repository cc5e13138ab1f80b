"""What two kernels say to each other: frames over a socket, and the codec for a student's values.

The codec is in two halves, ``encode`` for the untrusted end and ``decode`` for the trusted one. A value is a tree of
JSON: null, true, false and strings stand for themselves, everything else is a list that starts with a tag:

======================================= ==========================================================================
``["i", "12"]``                         an integer
``["f", "0x1.8p+1"]``                   a float: ``float.hex``, nan, inf or -inf
``["c", real, imag]``                   a complex number, both parts as in ``f``
``["b", buffer]``                       bytes
``["l", [...]]``, ``["t", [...]]``      a list, a tuple
``["s", [...]]``, ``["fs", [...]]``     a set, a frozenset
``["d", [[key, value], ...]]``          a dictionary
``["n", [name, ...], [...]]``           a named tuple; arrives as a ``Record``
``["T", dtype, shape, buffer, mark]``   a tensor; mark: null, or which output of a differentiable call it is
``["A", dtype, shape, buffer]``         a numpy array
``["np", dtype, buffer]``               a numpy scalar
``["size", [...]]``                     a torch.Size
``["dtype", "float32"]``                a torch.dtype
``["range", start, stop, step]``        a range, its ends as text
``["slice", start, stop, step]``        a slice, its parts null or integers
``["ellipsis"]``                        an ellipsis
``["h", ...]``                          an opaque handle; what follows is the caller's
======================================= ==========================================================================
"""

from .channel import Channel, Closed, Late
from .decode import decode
from .encode import encode
from .plain import EncodeError, Limits, ProtocolError, Record
from .tensors import tensor_from_bytes, tensor_to_bytes

__all__ = [
    "Channel",
    "Closed",
    "EncodeError",
    "Late",
    "Limits",
    "ProtocolError",
    "Record",
    "decode",
    "encode",
    "tensor_from_bytes",
    "tensor_to_bytes",
]
