"""What a check can ask of the student's notebook: its names, its source, what it changes in place."""

import copy
import dataclasses
import functools
import itertools
import math
import os
import random
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from ebm_lib.check import expect_close, expect_unchanged, student

NAN = math.nan


# --- mutated -------------------------------------------------------------------------------------------------------
def tensor():
    return torch.tensor([1.0, NAN, math.inf])


def leaf():
    return torch.tensor([1.0, 2.0], requires_grad=True)


def with_gradient():
    t = leaf()
    t.grad = torch.tensor([0.0, NAN])
    return t


def network():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout())


@dataclasses.dataclass
class Settings:
    lr: float
    weights: torch.Tensor


class Slotted:
    __slots__ = ("value",)

    def __init__(self):
        self.value = [1]


class Counting:
    """An energy that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, y):
        self.calls += 1
        return y.square().sum(-1)


def nested():
    return {"a": [1, (2, {"b": tensor()})], "c": {3, 4}}


def write(target, key, value):
    target[key] = value


def backward(t):
    (t * t).sum().backward()


CHANGES = {
    "a value": (tensor, lambda t: t.mul_(2)),
    "a nan": (tensor, lambda t: t.nan_to_num_()),
    "a value becomes nan": (tensor, lambda t: t.fill_(NAN)),
    "the sign of infinity": (tensor, lambda t: t.neg_()),
    "one element": (tensor, lambda t: write(t, 0, 7.0)),
    "through a view": (tensor, lambda t: t[:1].zero_()),
    "through .data": (leaf, lambda t: t.data.zero_()),
    "through numpy": (tensor, lambda t: write(t.numpy(), 0, 5)),
    "shape": (tensor, lambda t: t.unsqueeze_(0)),
    "dtype": (tensor, lambda t: setattr(t, "data", t.double())),
    "size": (tensor, lambda t: t.resize_(2)),
    "requires_grad": (tensor, lambda t: t.requires_grad_()),
    "no more requires_grad": (leaf, lambda t: t.requires_grad_(False)),
    ".grad written": (leaf, backward),
    ".grad added to": (with_gradient, backward),
    ".grad dropped": (with_gradient, lambda t: setattr(t, "grad", None)),
    ".grad zeroed": (with_gradient, lambda t: t.grad.zero_()),
    "a tensor with a history": (lambda: leaf() * 2, lambda t: t.detach().zero_()),
    "booleans": (lambda: torch.tensor([True, False]), lambda t: t.logical_not_()),
    "complex": (lambda: torch.tensor([1j]), lambda t: t.mul_(2)),
    "sparse": (lambda: torch.eye(2).to_sparse(), lambda t: t.mul_(2)),
    "an array": (lambda: np.array([2.0, 1.0, NAN]), lambda a: a.sort()),
    "an array's last value": (lambda: np.arange(3), lambda a: write(a, -1, 0)),
    "an array's shape": (lambda: np.arange(4), lambda a: setattr(a, "shape", (2, 2))),
    "an array of objects": (lambda: np.array([[1], [2, 3]], dtype=object), lambda a: a[0].append(1)),
    "a list": (lambda: [1, 2], lambda x: x.append(3)),
    "a list's order": (lambda: [2, 1], lambda x: x.sort()),
    "a dict's key": (dict, lambda x: x.setdefault("a")),
    "a dict's value": (lambda: {"a": 1}, lambda x: x.update(a=2)),
    "a value of another type": (lambda: {"a": 1}, lambda x: x.update(a=1.0)),
    "a set": (lambda: {1, 2}, lambda x: x.remove(1)),
    "deep inside": (nested, lambda x: x["a"][1][1]["b"].zero_()),
    "a list deep inside": (nested, lambda x: x["a"].pop()),
    "parameters": (network, lambda net: nn.init.zeros_(net[0].weight)),
    "buffers": (network, lambda net: net(torch.randn(4, 2))),
    "a parameter's gradient": (network, lambda net: net.eval()(torch.ones(4, 2)).sum().backward()),
    "a training flag": (network, lambda net: net[2].eval()),
    "a layer": (network, lambda net: net.append(nn.Linear(3, 1))),
    "a frozen parameter": (network, lambda net: net.requires_grad_(False)),
    "a bound method's module": (lambda: network().forward, lambda f: f(torch.randn(4, 2))),
    "a partial's argument": (lambda: functools.partial(torch.add, tensor()), lambda f: f.args[0].zero_()),
    "a torch generator": (lambda: torch.Generator().manual_seed(1), lambda g: torch.rand(1, generator=g)),
    "a generator in a list": (lambda: [torch.Generator()], lambda gs: gs[0].manual_seed(3)),
    "a numpy generator": (lambda: np.random.default_rng(1), lambda g: g.random()),
    "an old numpy generator": (lambda: np.random.RandomState(1), lambda g: g.rand()),
    "a Python generator's state": (lambda: random.Random(1), lambda g: g.random()),
    "an attribute": (lambda: Settings(0.1, tensor()), lambda s: setattr(s, "lr", 0.2)),
    "an attribute's values": (lambda: Settings(0.1, tensor()), lambda s: s.weights.zero_()),
    "a slot": (Slotted, lambda s: s.value.append(1)),
    "a namespace": (lambda: types.SimpleNamespace(a=1), lambda s: setattr(s, "b", 1)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_found_in_either_place_and_nowhere_else(what):
    make, change = CHANGES[what]
    other = make()
    assert student.mutated(lambda a, b: change(b), make(), make()) == [1]
    assert student.mutated(lambda a, *, b, c: change(b), make(), b=make(), c=other) == ["b"]
    assert student.mutated(lambda a, *, b: (change(b), change(a)), make(), b=make()) == [0, "b"]


READS = [
    (tensor, lambda t: t.nan_to_num().sum()),
    (tensor, lambda t: t.clone().zero_()),
    (leaf, lambda t: torch.autograd.grad((t * t).sum(), t)),
    (leaf, lambda t: backward(t.detach().requires_grad_())),
    (with_gradient, lambda t: t.grad * 2),
    (lambda: leaf() * 2, lambda t: t.sum()),
    (lambda: torch.empty(0), lambda t: t.sum()),
    (lambda: np.array([NAN, 1.0]), lambda a: np.sort(a)),
    (lambda: np.array(["a", None], dtype=object), lambda a: a.tolist()),
    (nested, lambda x: copy.deepcopy(x)["a"].clear()),
    (lambda: {"b": 1, "a": 2}, sorted),
    (network, lambda net: net.eval),
    (network, lambda net: net[0](torch.ones(1, 2))),
    (Counting, lambda energy: energy(torch.ones(2))),
    (lambda: lambda y: y, lambda energy: energy(1)),
    (lambda: (1, 2.0, "three", None, NAN, b"", range(3), slice(1), 1j), lambda x: x[0] + 1),
    (lambda: torch.float64, lambda d: d.is_floating_point),
    (lambda: [float("nan"), {float("nan")}, {NAN: 1}], len),
    (lambda: {frozenset({1}): Settings(1.0, tensor())}, len),
    (lambda: types.SimpleNamespace(when=__import__("datetime").date(2020, 1, 1)), vars),
    (lambda: torch.Generator().manual_seed(2), lambda g: g.initial_seed()),
    (lambda: torch.ones(2, device="meta"), lambda t: t + 1),
]


@pytest.mark.parametrize("index", range(len(READS)))
def test_what_only_reads_changes_nothing(index):
    make, read = READS[index]
    assert student.mutated(lambda a, b: read(b), make(), b=make()) == []


def test_the_callers_arguments_stay_as_they_are():
    given = torch.ones(3)
    net, values, generator = nn.Linear(2, 2), [1], torch.Generator().manual_seed(0)
    state, weight = generator.get_state(), net.weight.detach().clone()

    def change(t, net, values, generator):
        t.zero_()
        torch.rand(3, generator=generator)
        nn.init.zeros_(net.weight)
        values.append(2)

    assert student.mutated(change, given, net, values, generator) == [0, 1, 2, 3]
    assert torch.equal(given, torch.ones(3))
    assert torch.equal(net.weight, weight)
    assert values == [1]
    assert torch.equal(generator.get_state(), state)


def test_shared_arguments_stay_shared():
    shared = torch.ones(2)
    assert student.mutated(lambda a, b, c: a.zero_(), shared, [shared], torch.ones(2)) == [0, 1]
    base = torch.ones(4)
    assert student.mutated(lambda view, rest: view.zero_(), base[:2], base[2:]) == [0]
    assert student.mutated(lambda view, whole: view.zero_(), base[:2], base) == [0, 1]


def test_a_list_that_holds_itself():
    def loop():
        values = [1, leaf() * 2]
        values.append(values)
        return values

    assert student.mutated(lambda a, b: b, loop(), loop()) == []
    assert student.mutated(lambda a, b: b.insert(0, 5), loop(), loop()) == [1]


def test_what_cannot_be_copied_is_the_authors_error():
    with pytest.raises(ValueError, match=r"argument 1 is a generator, which cannot be copied"):
        student.mutated(lambda a, b: None, 1, (i for i in range(3)))


def test_errors_of_the_function_pass():
    with pytest.raises(ZeroDivisionError):
        student.mutated(lambda a: 1 / a, 0)


def test_expect_unchanged_names_what_changed():
    def descend(energy, start, *, momentum):
        momentum.mul_(2)
        start.zero_()

    arguments = (torch.square, torch.ones(2))
    with pytest.raises(AssertionError, match=r"^`descend` changed its 2nd argument and `momentum`, which belongs"):
        expect_unchanged(descend, *arguments, momentum=torch.ones(2), name="`descend`")
    with pytest.raises(AssertionError, match=r"to the caller\. Clone it\.$"):
        expect_unchanged(torch.relu_, torch.tensor([-1.0]), hint="Clone it.")
    with pytest.raises(AssertionError, match="its 4th argument"):
        expect_unchanged(lambda a, b, c, d: d.append(1), 1, 2, 3, [])
    expect_unchanged(lambda x, name_=1: x + 1, torch.tensor([NAN]), name="`f`")


def test_expect_unchanged_asks_the_module_at_call_time(monkeypatch):
    """The grading engine puts its own function there."""
    seen = []
    monkeypatch.setattr(student, "mutated", lambda *args, **kwargs: seen.append((args, kwargs)) or ["x"])
    with pytest.raises(AssertionError, match="changed `x`"):
        expect_unchanged(print, 1, x=2)
    assert seen == [((print, 1), {"x": 2})]


# --- names and source ----------------------------------------------------------------------------------------------
def test_take_signature_attr_opaque_run():
    assert student.take(itertools.count(), 3) == [0, 1, 2]
    assert student.take([1], 3) == [1]
    assert student.signature(lambda a, /, b, *c, d=1, **e: 0) == ("a", "b", "c", "d", "e")
    assert student.signature(Settings) == ("lr", "weights")
    with pytest.raises(AssertionError, match="expected a function with named parameters"):
        student.signature(3)
    assert student.attr(types.SimpleNamespace(_hidden=4), "_hidden") == 4
    calls = []
    energy = student.opaque(lambda y: calls.append(y) or y)
    assert energy(5) == 5
    assert calls == [5]
    assert student.run(divmod, 7, 2) == (3, 1)


def test_source_of_functions_and_classes():
    assert student.source(network).startswith("def network():")
    assert "calls its" not in student.source(Counting)
    assert student.source(Counting).startswith("class Counting:")
    with pytest.raises(AssertionError, match="is not known"):
        student.source(len)
    with pytest.raises(AssertionError, match="is not known"):
        student.source(int)


NOTEBOOK = """
import sys
from ebm_lib.check import student

scale = 3

def triple(x):
    return scale * x

def deco(cls):
    return cls

class Net:
    def older(self):
        return 0

def make():
    class Net:
        def double(self):
            return 1

@deco
class Net:
    '''A net.'''
    def double(self, x):
        return 2 * x

assert student.get("triple")(2) == 6
try:
    student.get("absent")
except AssertionError as e:
    assert str(e) == "your notebook must define `absent`.", e
else:
    raise SystemExit("no error")
student.set("scale", 10)
assert triple(2) == 20, triple(2)
before = set(globals())
assert student.eval("triple(y) + (left := 1) + scale", y=1, scale=5) == 16
assert student.eval("[triple(y) for _ in range(2)]", y=1) == [10, 10]
assert set(globals()) - before == {"before"}, set(globals()) - before
assert scale == 10
text = student.source(Net)
assert text.startswith("@deco\\nclass Net:\\n    '''A net") and text.endswith("return 2 * x\\n"), text
assert student.source(triple).startswith("def triple")
print("fine")
"""
IN_IPYTHON = """
from IPython.core.interactiveshell import InteractiveShell
import types
shell = InteractiveShell.instance(user_module=types.ModuleType("notebook"))
result = shell.run_cell({notebook!r})
result.raise_error()
"""


@pytest.mark.parametrize("way", ["script", "ipython"])
def test_names_are_those_of_the_notebook(way, tmp_path):
    code = NOTEBOOK if way == "script" else IN_IPYTHON.format(notebook=NOTEBOOK)
    (tmp_path / "it.py").write_text(code)
    command = [sys.executable, str(tmp_path / "it.py")]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "IPYTHONDIR": str(tmp_path)}
    )
    assert ran.stdout.strip().splitlines()[-1:] == ["fine"], ran.stdout + ran.stderr


def test_only_names_can_be_set():
    with pytest.raises(ValueError, match="identifier"):
        student.set("a.b", 1)


def test_a_wrong_value_is_placed_without_sympy():
    """torch.unravel_index would import it, at the first answer that is wrong."""
    code = (
        "import sys, torch\nfrom ebm_lib.check import expect_close\n"
        "early = 'sympy' in sys.modules\n"
        "try:\n    expect_close(torch.eye(3), torch.ones(3, 3))\n"
        "except AssertionError as e:\n    print(e)\n"
        "print(early, 'sympy' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "at index (0, 1): got 0, expected 1" in ran.stdout, ran.stderr
    assert ran.stdout.split()[-2:] in (["False", "False"], ["True", "True"])


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (4, 1, 3), (2, 2, 2, 2)])
def test_the_place_of_the_largest_difference(shape):
    for flat in range(math.prod(shape)):
        wrong = torch.zeros(shape)
        wrong.view(-1)[flat] = 2.0
        index = tuple(int(i) for i in np.unravel_index(flat, shape))
        with pytest.raises(AssertionError) as caught:
            expect_close(wrong, torch.zeros(shape))
        assert (f"at index {index}:" in str(caught.value)) == bool(shape)
