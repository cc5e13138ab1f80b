"""A student's functions and modules, called across the boundary, against the same code called here."""

import math

import pytest
import torch
from torch import nn

from grading.kernels.errors import ContractError
from grading.kernels.handles import RemoteModule

GENERATOR = torch.Generator().manual_seed(0)


def randn(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def test_data_comes_over_as_it_is(student):
    student.run(
        "import torch, math, numpy as np\n"
        "from typing import NamedTuple\n"
        "class R(NamedTuple):\n    index: int\n    lowest: float\n"
        "def same(x):\n    return x\n"
        "def both(x):\n    return {'a': [x, (1, 2.5)], 'r': R(3, math.inf), 's': {1, 2}, 'm': x.min(-1)}\n"
    )
    same, both = student.take("same", "both")
    for value in (None, True, -3, 2**200, 1.5, -math.inf, 1j, "ü", b"\0", [1, [2]], (1,), {"a": {1: 2}}, {3}):
        assert same(value) == value
        assert type(same(value)) is type(value)
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool):
        t = torch.tensor([[0, 1], [1, 0]], dtype=dtype)
        assert torch.equal(same(t), t)
        assert same(t).dtype == dtype
        assert same(t.T[:1]).shape == (1, 2)
    found = both(torch.tensor([[3.0, 1.0], [0.5, 2.0]]))
    assert found["r"].index == 3
    assert found["r"] == (3, math.inf)
    assert found["m"].values.tolist() == [1.0, 0.5]
    assert found["m"].indices.tolist() == [1, 0]
    assert student.link.seen == {"same", "both"}


def test_functions_and_modules_go_over(student):
    student.run("def at(f, *x, **k):\n    return f(*x, **k)")
    at = student.take("at")
    A = randn(3, 3)

    def energy(x, scale=1.0):
        return scale * (x @ A).square().sum(-1)

    x = randn(5, 3)
    assert torch.equal(at(energy, x, scale=2.0), energy(x, 2.0))
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    assert torch.equal(at(net, x), net(x))
    assert torch.equal(at(at, energy, x), energy(x)), "a handle among the arguments is the function itself"


@pytest.mark.parametrize("where", ["argument", "closure", "module", "container", "output of another call"])
def test_gradients_cross(student, where):
    student.run("import torch\ndef f(g, x):\n    return g(x).sin().sum(-1), x\ndef twice(x):\n    return 2 * x")
    f, twice = student.take("f", "twice")
    x, w = randn(4, 3).requires_grad_(), randn(3, 3).requires_grad_()
    net = nn.Linear(3, 3).double()

    def here(g, x):
        return g(x).sin().sum(-1), x

    def linear(x):
        return x @ w

    def inputs():
        if where == "closure":
            return (linear, x), (x, w)
        if where == "module":
            return (net, x), (x, *net.parameters())
        if where == "container":
            return (lambda d: d["a"][0] * d["a"][1], {"a": [x, w[:1]]}), (x, w)
        if where == "output of another call":
            return (torch.cos, twice(x * w[0])), (x, w)
        return (torch.cos, x.exp() * w[0]), (x, w)

    args, leaves = inputs()
    got = torch.autograd.grad(f(*args)[0].square().sum(), leaves)
    args, leaves = inputs()
    want = torch.autograd.grad(here(*args)[0].square().sum(), leaves)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_second_derivatives_and_gradcheck(student):
    student.run("def f(x, w):\n    return (x @ w).tanh().square().sum(-1)")
    f = student.take("f")
    x, w = randn(3, 2).requires_grad_(), randn(2, 4).requires_grad_()
    assert torch.autograd.gradcheck(f, (x, w))
    assert torch.autograd.gradgradcheck(f, (x, w))

    def penalty(f):
        (g,) = torch.autograd.grad(f(x, w).sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), (x, w))

    for a, b in zip(penalty(f), penalty(lambda x, w: (x @ w).tanh().square().sum(-1)), strict=True):
        torch.testing.assert_close(a, b)
    hessian = torch.autograd.functional.hessian(lambda x: f(x, w.detach()).sum(), x.detach())
    want = torch.autograd.functional.hessian(lambda x: (x @ w.detach()).tanh().square().sum(), x.detach())
    torch.testing.assert_close(hessian, want)


def test_a_gradient_that_the_student_cut_is_cut(student):
    student.run("def f(x):\n    return x.detach() * 2, x * 3, x.argmin(-1)")
    a, b, c = student.take("f")(randn(3).requires_grad_())
    assert (a.requires_grad, b.requires_grad, c.requires_grad) == (False, True, False)


def test_backward_fills_grad_and_only_here(student):
    student.run("def f(x):\n    (x * x).sum().backward()\n    return x.grad, x * 5")
    x = randn(3).requires_grad_()
    g, y = student.take("f")(x)
    torch.testing.assert_close(g, 2 * x.detach())
    assert x.grad is None
    y.sum().backward()
    assert x.grad.tolist() == [5, 5, 5]


def test_arguments_are_copies(student):
    student.run("def f(x, held):\n    x.zero_()\n    held.append(1)\n    return x")
    x, held = randn(3), []
    assert student.take("f")(x, held).abs().sum() == 0
    assert x.abs().sum() > 0
    assert held == []


def test_modules_are_mirrored(student):
    student.run(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, n):\n"
        "        super().__init__()\n"
        "        self.encoder = nn.Sequential(nn.Linear(n, 4), nn.Dropout(0.5))\n"
        "        self.scale = nn.Parameter(torch.ones(()))\n"
        "        self.register_buffer('count', torch.zeros(()))\n"
        "        self.name = 'net'\n"
        "    def forward(self, x):\n"
        "        self.count += 1\n"
        "        return self.scale * self.encoder(x)\n"
        "    def hidden(self, x):\n"
        "        return self.encoder(x)\n"
        "def fit(net, x, steps):\n"
        "    opt = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "    for _ in range(steps):\n"
        "        opt.zero_grad(); net(x).square().mean().backward(); opt.step()\n"
        "    return net\n"
        "def values(net):\n"
        "    return [p.detach() for p in net.parameters()]\n"
    )
    Net, fit, values = student.take("Net", "fit", "values")
    net = Net(3)
    assert isinstance(net, nn.Module)
    assert {name: tuple(p.shape) for name, p in net.named_parameters()} == {
        "scale": (), "encoder.0.weight": (4, 3), "encoder.0.bias": (4,),
    }  # fmt: skip
    assert (net.name, net.count.item(), net.training) == ("net", 0, True)
    net.double().eval()
    x = randn(5, 3)
    weight, bias = net.encoder[0].weight, net.encoder[0].bias
    torch.testing.assert_close(net(x), x @ weight.T + bias)
    assert net.count.item() == 1, "the student's forward counts in a buffer"
    torch.testing.assert_close(net.hidden(x), net.encoder(x))
    net(x).sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(0).expand(4, 3))
    before = [p.detach().clone() for p in net.parameters()]
    torch.optim.SGD(net.parameters(), lr=0.01).step()
    assert not torch.equal(before[1], weight)
    for mine, theirs in zip(net.parameters(), values(net), strict=True):
        assert torch.equal(mine, theirs), "an optimiser's step here is seen over there"
    same = fit(net, x, 20)
    assert same is net
    for mine, theirs in zip(net.parameters(), values(net), strict=True):
        assert torch.equal(mine, theirs), "training over there is seen here"
    assert net(x).square().mean() < 0.5
    net.load_state_dict({name: torch.zeros_like(t) for name, t in net.state_dict().items()})
    assert net(x).abs().sum() == 0
    net.train()
    assert net.encoder[1].training
    assert isinstance(Net(2), RemoteModule)


def test_an_optimiser_of_mirrored_parameters_goes_over(student):
    student.run(
        "import torch\nfrom torch import nn\nlinear = nn.Linear(2, 1)\n"
        "def step(net, opt, x):\n    opt.zero_grad(); net(x).sum().backward(); opt.step()"
    )
    linear, step = student.take("linear", "step")
    before = linear.weight.detach().clone()
    step(linear, torch.optim.SGD(linear.parameters(), lr=0.5), torch.ones(1, 2))
    torch.testing.assert_close(linear.weight.detach(), before - 0.5)


def test_errors_keep_their_builtin_type_and_message(student):
    student.run(
        "class Own(ValueError):\n    pass\n"
        "def fail(kind):\n    raise {'own': Own('beta is 0'), 'key': KeyError('k'), 'exit': SystemExit(3),\n"
        "        'stop': StopIteration(), 'uni': UnicodeDecodeError('utf8', b'', 0, 1, 'r')}[kind]\n"
    )
    fail = student.take("fail")
    with pytest.raises(ValueError, match="beta is 0") as caught:
        fail("own")
    assert type(caught.value).__name__ == "Own"
    assert any("line 4" in frame for frame in caught.value.frames_of_the_student)
    with pytest.raises(KeyError) as caught:
        fail("key")
    assert str(caught.value) == "'k'"
    with pytest.raises(RuntimeError):
        fail("exit")
    with pytest.raises(UnicodeDecodeError):
        fail("uni")
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        fail()


def test_handles_are_for_what_a_check_may_do_with_them(student):
    student.run(
        "class Box:\n    size = 3\n    _own = 4\n    def __len__(self): return 2\n"
        "    def __getitem__(self, i): return i * 2\n"
        "    def area(self, k): return self.size * k\n"
        "def numbers():\n    n = 0\n    while True:\n        yield n\n        n += 1\n"
    )
    Box, numbers = student.take("Box", "numbers")
    box = Box()
    assert (box.size, len(box), box[5], box.area(4)) == (3, 2, 10, 12)
    assert student.link.seen == {"Box", "numbers", "Box()", "Box().area"}
    found = []
    for n in numbers():
        found.append(n)
        if n == 3:
            break
    assert found == [0, 1, 2, 3]
    assert student.link.seen == {"Box", "numbers", "Box()", "Box().area", "numbers()"}
    for wrong in (lambda: box + 1, lambda: box < 1, lambda: float(box)):
        with pytest.raises(TypeError):
            wrong()
    for wrong in (lambda: bool(box), lambda: box == 1):
        with pytest.raises(ContractError):
            wrong()
    with pytest.raises(AttributeError, match="public names"):
        _ = box._own
    with pytest.raises(AttributeError):
        box.size = 9


def test_handles_only_where_the_contract_has_them(student):
    student.run("class Odd:\n    pass\ndef f():\n    return Odd()")
    f = student.take("f")
    student.link.allowed = frozenset({"f"})
    with pytest.raises(ContractError, match=r"`f\(\)` must give data .* got an object of type Odd"):
        f()
    with pytest.raises(ContractError, match="`Odd` must give data"):
        student.take("Odd")


def test_a_function_that_is_lent_keeps_its_secrets(student):
    student.run(
        "def twice(f, x):\n    return f(x) + f(x, k=1)\n"
        "def peek(f):\n    return sorted(n for n in vars(f)), getattr(f, '__closure__', None)\n"
    )
    twice, peek = student.take("twice", "peek")
    calls = []

    def secret(x, k=0):
        calls.append((x, k))
        return x + 10 * k

    assert twice(student.link.lend(secret), 3) == 16
    assert calls == [(3, 0), (3, 1)]
    assert peek(student.link.lend(secret))[1] is None
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        twice(student.link.lend(lambda x, k=0: 1 / 0), 3)
    assert twice(secret, 3) == 16
    assert len(calls) == 2, "a function that is not lent goes over as a copy"


def test_what_is_let_go_here_is_let_go_there(student):
    student.run("import gc\nclass Thing:\n    pass\ndef make():\n    return Thing()\n"
                "def alive():\n    return sum(isinstance(o, Thing) for o in gc.get_objects())")  # fmt: skip
    make, alive = student.take("make", "alive")
    things = [make() for _ in range(5)]
    assert alive() == 5
    del things
    alive()
    assert alive() == 0


def test_output_of_a_call_is_no_cell_s(student):
    student.run("def loud():\n    print('x' * 100)\n    return 1")
    assert student.take("loud")() == 1
    assert student.run("1 + 1")[0]["data"] == {"text/plain": "2"}
