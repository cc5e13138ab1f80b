"""The automatic wrong answers ruin what they say they ruin."""

import math
from typing import NamedTuple

import pytest
import torch

from grading.corpus import _SPOIL


class Pair(NamedTuple):
    value: torch.Tensor
    index: torch.Tensor


def _spoiled(kind, function):
    names = {}
    exec(_SPOIL, names)
    return names["__spoil__"](kind, function), names


X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("empty", torch.empty(0)),
        ("shape", X[None] * 2),
        ("zeros", torch.zeros(2, 2)),
        ("echo", X),
    ],
)
def test_tensors(kind, expected):
    function, names = _spoiled(kind, lambda x: 2 * x)
    assert torch.equal(function(X), expected)
    assert names["__spoiled__"]


def test_nan_ruins_numbers_and_leaves_whole_numbers():
    function, names = _spoiled("nan", lambda x: Pair(x, x.argmax(-1)))
    result = function(X)
    assert isinstance(result, Pair)
    assert result.value.isnan().all()
    assert result.value.shape == X.shape
    assert torch.equal(result.index, X.argmax(-1))
    assert names["__spoiled__"]


def test_containers_numbers_and_nothing():
    function, _ = _spoiled("zeros", lambda: {"a": [1.5, X], "b": "text"})
    result = function()
    assert result["a"][0] == 0.0
    assert torch.equal(result["a"][1], torch.zeros(2, 2))
    assert result["b"] == "text"
    assert math.isnan(_spoiled("nan", lambda: 1.0)[0]())
    for kind in ("empty", "shape", "echo"):
        function, names = _spoiled(kind, lambda: 1.0)
        assert function() == 1.0
        assert "__spoiled__" not in names


def test_a_right_answer_by_chance_does_not_count_as_spoiled():
    function, names = _spoiled("zeros", lambda x: x * 0)
    function(X)
    function, names_echo = _spoiled("echo", lambda x: x)
    function(X)
    assert "__spoiled__" not in names | names_echo
