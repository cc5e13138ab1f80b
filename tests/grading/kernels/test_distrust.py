"""What the examiner takes from a student kernel that lies: nothing but what it asked for."""

import sys

import pytest

from grading.kernels.errors import ContractError, StudentGone, rebuilt
from grading.kernels.examiner import Examiner
from grading.kernels.shell import warm_shell

FIND = "import gc\nkernel = next(o for o in gc.get_objects() if type(o).__name__ == 'StudentKernel')\n"


@pytest.fixture(scope="module")
def shell():
    """A shell in this process, which it would make its own: main module, singleton and figures."""
    main = sys.modules["__main__"]
    shell = warm_shell()
    sys.modules["__main__"] = main
    yield shell
    type(shell).clear_instance()


@pytest.fixture
def check(student, shell, monkeypatch):
    """Runs a check that takes one name from the student; gives what failed in it."""
    examiner = Examiner.__new__(Examiner)
    examiner.shell, examiner.link = shell, student.link
    shell.user_ns["agree"] = lambda a, b: a == b or (_ for _ in ()).throw(AssertionError("they differ"))

    def run(source, name, handles=None):
        said = examiner.do_check(source, 1, 100_000, [name], handles, 30)
        assert name not in shell.user_ns
        return [o["evalue"] for o in said["outputs"] if o["output_type"] == "error"]

    return run


@pytest.mark.parametrize(
    "forged", ["{'f': 1, 'agree': print}", "[('f', 1), ('agree', print)]", "{'agree': print}", "7", "None", "[]"]
)
def test_a_name_brings_no_other_along(student, check, shell, forged):
    student.run(f"f = 1\n{FIND}honest = kernel.do_names\nkernel.do_names = lambda names: {forged}")
    try:
        trusted = shell.user_ns["agree"]
        assert check("agree(1, 2)", "f") == ["Your notebook was asked for one name and gave something else."]
        assert shell.user_ns["agree"] is trusted
    finally:
        student.run("kernel.do_names = honest")
    assert check("agree(f, 1)", "f") == []
    assert check("agree(f, 2)", "f") == ["they differ"]


@pytest.mark.parametrize(
    "name", ["StopIteration", "StopAsyncIteration", "ExceptionGroup", "GeneratorExit", "SystemExit"]
)
def test_no_error_of_a_student_s_ends_a_loop_or_hides(name):
    said = {"types": [name, "Exception", "BaseException"], "message": "x", "frames": []}
    error = rebuilt(said)
    assert isinstance(error, Exception)
    assert not isinstance(error, StopIteration | StopAsyncIteration | ExceptionGroup)
    with pytest.raises(type(error)):
        list(map(lambda _: (_ for _ in ()).throw(error), [1]))


def test_a_loop_over_calls_does_not_end_early(student, check):
    student.run("def f(x):\n    raise StopIteration")
    loop = "for got, want in zip(map(f, [1, 2]), [1, 2]):\n    agree(got, want)"
    assert check(loop, "f") != []


def test_modules_are_handles_too(student):
    student.run("import torch\nfrom torch import nn\nf = lambda: nn.Linear(1, 1)\nbare = nn.Linear(1, 1)")
    f = student.take("f")
    assert f().weight.shape == (1, 1)
    assert "f()" in student.link.seen
    student.link.allowed = frozenset({"f"})
    with pytest.raises(ContractError, match=r"`f\(\)` must give data"):
        f()
    with pytest.raises(ContractError, match="`bare` must give data"):
        student.take("bare")


def test_a_module_is_not_described_by_modules(student):
    student.run(f"from torch import nn\nmake = nn.Flatten\n{FIND}honest = kernel.do_module\n"
                "kernel.do_module = lambda number: [nn.Flatten() for _ in range(9)]")  # fmt: skip
    try:
        with pytest.raises(ContractError):
            student.take("make")()
    finally:
        student.run("kernel.do_module = honest")
    assert student.take("make")().training
    assert student.link.allowed is None


def test_a_function_that_is_lent_can_be_given_a_module(student):
    student.run(
        "import torch\nfrom torch import nn\n"
        "def call(f):\n    net = nn.Linear(2, 1)\n    return f(net), net(torch.ones(2)), f(lambda: 1)"
    )
    call = student.take("call")
    seen = []

    def look(thing):
        seen.append(thing)
        return 7

    a, _, b = call(student.link.lend(look))
    assert (a, b) == (7, 7)
    assert seen[0].weight.shape == (1, 2)
    student.link.allowed = frozenset({"call"})
    with pytest.raises(RuntimeError, match="`an argument` must give data"):
        call(student.link.lend(look))
    student.link.allowed = None
    assert call(student.link.lend(look))[0] == 7, "and nobody waits for an answer that never comes"


def test_a_cell_that_fails_always_shows_an_error(shell):
    silent = "class Odd(Exception):\n    def _render_traceback_(self):\n        raise MemoryError\nraise Odd"
    for source in (
        silent,
        "raise ExceptionGroup('two', [ValueError()])",
        "get_ipython().run_line_magic('nothing', '')",
    ):
        assert [o["output_type"] for o in shell.run(source, 1)][-1] == "error"


def test_partial_points_are_never_left_out(shell):
    assert shell.run("print('x' * 5000)\n0.5", 1, 1000)[-1]["data"] == {"text/plain": "0.5"}


def test_an_error_called_like_the_engine_s_own_is_the_student_s(student, check):
    student.run("class StudentGone(BaseException): pass\nclass Stopped(Exception): pass\n"
                "def f(k):\n    raise [StudentGone, Stopped][k]('no')")  # fmt: skip
    assert check("f(0)", "f") == ["no"]
    assert check("f(1)", "f") == ["no"]
    assert student.link.gone == ""
    assert not issubclass(type(rebuilt({"types": ["StudentGone"], "message": "", "frames": []})), StudentGone)
