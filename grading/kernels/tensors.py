"""Tensors as raw bytes, and back."""

import ctypes
from collections.abc import Sequence

import torch

from .plain import EncodeError, ProtocolError, name_of, show


def _dtypes(names: str) -> dict[str, torch.dtype]:
    """The dtypes of these names that this version of torch has."""
    return {n: getattr(torch, n) for n in names.split() if isinstance(getattr(torch, n, None), torch.dtype)}


DTYPES = _dtypes(
    "bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 float16 bfloat16 float32 float64 complex32 complex64 "
    "complex128 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu"
)
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def plain_tensor(value: torch.Tensor) -> torch.Tensor:
    """The plain tensor that a tensor is beneath its class and its graph.

    Args:
        value: a tensor, of a subclass too.

    Returns:
        A detached tensor that shares its memory.

    Raises:
        EncodeError: its layout, device, dtype or class means that its memory does not say what it is.
    """
    flag = ""
    # The methods and attributes of a subclass may be a student's; these are torch's own.
    with torch._C.DisableTorchFunctionSubclass():
        if torch._C._functorch.is_functorch_wrapped_tensor(value):
            flag = "torch.func"
        elif type(value).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
            flag = name_of(value)
        else:
            value = torch.Tensor.detach(value)
    if not flag:
        if value.is_nested:
            flag = "nested"
        elif value.is_quantized:
            flag = "quantised"
        elif value.layout is not torch.strided:
            flag = "sparse"
        elif value.is_meta:
            flag = "meta"
        elif value.dtype not in NAMES:
            flag = str(value.dtype)
    if flag:
        raise EncodeError(f"A {flag} tensor cannot be handed over; return a plain one.")
    return value


def tensor_to_bytes(value: torch.Tensor) -> memoryview | bytes:
    """The bytes of a tensor, row by row.

    Args:
        value: a tensor, of a subclass too.

    Returns:
        The bytes; they share memory with a tensor on the CPU that is contiguous.

    Raises:
        EncodeError: it is not plain memory.
    """
    plain = plain_tensor(value)
    if not plain.numel():
        return b""
    plain = plain.resolve_conj().resolve_neg().cpu().contiguous()
    if plain.untyped_storage().nbytes() < plain.storage_offset() * plain.itemsize + plain.nbytes:
        raise EncodeError("A tensor's memory was taken away from it.")
    # Not through numpy: a tensor whose memory numpy has seen can never be resized again.
    raw = (ctypes.c_ubyte * plain.nbytes).from_address(plain.data_ptr())
    raw.tensor = plain  # keeps the memory alive as long as the bytes are in use
    return memoryview(raw).cast("B")


def tensor_from_bytes(dtype: str, shape: Sequence[int], data: memoryview | bytes) -> torch.Tensor:
    """The tensor that bytes stand for.

    Args:
        dtype: its dtype's name, such as ``float32``.
        shape: its shape.
        data: its bytes, row by row.

    Returns:
        A tensor with memory of its own; of the bytes of a truth value, all but 0 are true.

    Raises:
        ProtocolError: no such dtype, or not the number of bytes that the shape takes.
    """
    kind = tensor_dtype(dtype)
    size = memoryview(data).nbytes
    need = kind.itemsize
    for n in shape:  # before any memory is taken
        need *= n
    if min(shape, default=0) < 0 or need != size:
        raise ProtocolError(f"a {dtype} tensor of shape {show(list(shape))} does not take {size} bytes")
    tensor = torch.empty(tuple(shape), dtype=kind, device="cpu")
    if size:
        # A copy by torch: memory that numpy has seen can never be resized.
        raw = torch.frombuffer(bytearray(data) if memoryview(data).readonly else data, dtype=torch.uint8)
        tensor.view(-1).view(torch.uint8).copy_(raw != 0 if kind is torch.bool else raw)
    return tensor


def tensor_dtype(name: object) -> torch.dtype:
    """The dtype of a name.

    Args:
        name: such as ``float32``.

    Returns:
        The dtype.

    Raises:
        ProtocolError: there is none of this name, or its tensors may not be sent.
    """
    if type(name) is not str or name not in DTYPES:
        raise ProtocolError(f"the tensor dtype {show(name)} is not among those that may be sent")
    return DTYPES[name]
