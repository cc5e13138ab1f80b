"""Arguments on their way from the examiner to the student kernel: any Python object, by cloudpickle.

Only the student's side unpickles, and it is not trusted anyway. Tensors travel beside the pickle as plain buffers, so
that those that need gradients keep their place in the examiner's graph, and handles turn back into what they stand for.
"""

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle
from torch import Tensor, nn

from .wire import tensor_from_bytes, tensor_to_bytes


class Packed:
    """A pickle and the tensors in it.

    Args:
        pickle: the bytes.
        tensors: the tensors, each once, in the order of their numbers in the pickle.
    """

    def __init__(self, pickle: bytes, tensors: list[Tensor]) -> None:
        self.pickle = pickle
        self.tensors = tensors

    def frame(self) -> tuple[list[list], list[Any]]:
        """Return a header entry for each tensor, and the buffers: the pickle first, then the tensors."""
        about = [
            [str(t.dtype).removeprefix("torch."), list(t.shape), t.requires_grad, isinstance(t, nn.Parameter)]
            for t in self.tensors
        ]
        return about, [self.pickle, *(tensor_to_bytes(t) for t in self.tensors)]


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file: io.BytesIO, refer: Callable[[Any], Any]) -> None:
        super().__init__(file)
        self.tensors: list[Tensor] = []
        self._numbers: dict[int, int] = {}
        self._refer = refer

    def persistent_id(self, obj: Any) -> Any:
        reference = self._refer(obj)
        if reference is None and isinstance(obj, Tensor):
            if id(obj) not in self._numbers:
                self._numbers[id(obj)] = len(self.tensors)
                self.tensors.append(obj)
            return ("tensor", self._numbers[id(obj)])
        return reference


def pack(value: Any, refer: Callable[[Any], Any] = lambda obj: None) -> Packed:
    """Pickle a value, functions and classes defined in a notebook included.

    Args:
        value: what to send.
        refer: gives what stands for an object in the pickle, or None where the object itself is to be pickled.
    """
    file = io.BytesIO()
    pickler = _Pickler(file, refer)
    pickler.dump(value)
    return Packed(file.getvalue(), pickler.tensors)


def unpack(
    about: Sequence[list], buffers: Sequence[Any], resolve: Callable[[Any], Any] = lambda reference: None
) -> tuple[Any, list[Tensor]]:
    """Return a packed value and its tensors, as leaves where they need gradients.

    Args:
        about: what :meth:`Packed.frame` says of the tensors.
        buffers: the pickle, then the tensors.
        resolve: gives the object that a reference stands for.
    """
    tensors = []
    for (dtype, shape, needs_grad, parameter), data in zip(about, buffers[1:], strict=True):
        t = tensor_from_bytes(dtype, shape, data)
        tensors.append(nn.Parameter(t, needs_grad) if parameter else t.requires_grad_(needs_grad))

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, pid: Any) -> Any:
            return tensors[pid[1]] if pid[0] == "tensor" else resolve(pid)

    return Unpickler(io.BytesIO(buffers[0])).load(), tensors


def same_tensors(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors have the same dtype, shape and bytes."""
    return a.dtype == b.dtype and a.shape == b.shape and bytes(tensor_to_bytes(a)) == bytes(tensor_to_bytes(b))
