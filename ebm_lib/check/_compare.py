"""Whether a copy is still what it was copied from."""

import copy
import functools
import random
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def copied(value: Any, memo: dict[int, Any]) -> Any:
    """Return a deep copy, of tensors with a history too, which :func:`copy.deepcopy` refuses.

    Args:
        value: what to copy.
        memo: copies by the ``id`` of the original, as for :func:`copy.deepcopy`: what is shared stays shared.
    """
    _copy_inner(value, memo, set())
    return copy.deepcopy(value, memo)


def _copy_inner(value: Any, memo: dict[int, Any], seen: set[int]) -> None:
    """Put copies of tensors with a history, and of torch's generators, into the memo."""
    if id(value) in memo or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor) and not value.is_leaf:
        memo[id(value)] = value.clone()
    elif isinstance(value, torch.Generator):
        memo[id(value)] = torch.Generator(value.device)
        memo[id(value)].set_state(value.get_state())
    elif isinstance(value, (list, tuple)):
        for item in value:
            _copy_inner(item, memo, seen)
    elif isinstance(value, dict) or (hasattr(value, "__dict__") and not callable(value)):
        for item in (value if isinstance(value, dict) else vars(value)).values():
            _copy_inner(item, memo, seen)


class Comparison:
    """Originals against their copies.

    Args:
        memo: copies by the ``id`` of the original.
    """

    def __init__(self, memo: Mapping[int, Any]) -> None:
        self.memo = memo
        # What is known of pairs, by ids; they are kept, for an id can be reused. A pair under way counts as the same,
        # so that a list which holds itself comes to an end.
        self.known: dict[tuple[int, int], tuple[bool, Any, Any]] = {}

    def same(self, a: Any, b: Any) -> bool:
        """Return whether the copy ``b`` holds what the original ``a`` holds.

        Args:
            a: the original.
            b: its copy, after whatever happened to it.
        """
        if a is b:
            return True
        if type(a) is not type(b):
            return False
        pair = (id(a), id(b))
        if pair not in self.known:
            self.known[pair] = (True, a, b)
            self.known[pair] = (self._alike(a, b), a, b)
        return self.known[pair][0]

    def _alike(self, a: Any, b: Any) -> bool:
        if isinstance(a, Tensor):
            return self._tensors(a, b)
        if isinstance(a, np.ndarray):
            return _arrays(a, b)
        if isinstance(a, nn.Module):
            return self.same(_contents(a), _contents(b))
        if isinstance(a, torch.Generator):
            return torch.equal(a.get_state(), b.get_state())
        if isinstance(a, random.Random):
            return a.getstate() == b.getstate()
        if isinstance(a, (np.random.Generator, np.random.RandomState)):
            return self.same(_state(a), _state(b))
        if isinstance(a, (list, tuple)):
            return len(a) == len(b) and all(map(self.same, a, b))
        if isinstance(a, dict):
            return self._items(a, b)
        if isinstance(a, (set, frozenset)):
            twins = [self.memo.get(id(item), item) for item in a]
            return set(twins) == b and all(map(self.same, a, twins))
        if isinstance(a, types.MethodType):
            return self.same(a.__self__, b.__self__)
        if isinstance(a, functools.partial):
            return self.same((a.func, a.args, a.keywords), (b.func, b.args, b.keywords))
        if hasattr(a, "__dict__") or hasattr(type(a), "__slots__"):
            return callable(a) or self.same(_attributes(a), _attributes(b))
        return bool(a == b) or (a != a and b != b)

    def _tensors(self, a: Tensor, b: Tensor) -> bool:
        if (a.shape, a.dtype, a.layout, a.requires_grad) != (b.shape, b.dtype, b.layout, b.requires_grad):
            return False
        if a.is_leaf and not self.same(a.grad, b.grad):
            return False
        x, y = (t.detach() if t.layout == torch.strided else t.detach().to_dense() for t in (a, b))
        return x.is_meta or bool(((x == y) | ((x != x) & (y != y))).all())

    def _items(self, a: dict[Any, Any], b: dict[Any, Any]) -> bool:
        twins = {self.memo.get(id(key), key): value for key, value in a.items()}
        return twins.keys() == b.keys() and all(self.same(value, b[key]) for key, value in twins.items())


def _arrays(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(np.all((a == b) | ((a != a) & (b != b))))


def _contents(module: nn.Module) -> dict[str, Any]:
    """Return what a module computes with, whatever else its class keeps."""
    training = {name: part.training for name, part in module.named_modules()}
    return {"tensors": dict([*module.named_parameters(), *module.named_buffers()]), "training": training}


def _state(generator: np.random.Generator | np.random.RandomState) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state(legacy=False)


def _attributes(obj: Any) -> dict[str, Any]:
    slots = [s for cls in type(obj).__mro__ for s in np.atleast_1d(getattr(cls, "__slots__", ()))]
    return {**{s: getattr(obj, s) for s in slots if hasattr(obj, s)}, **getattr(obj, "__dict__", {})}
