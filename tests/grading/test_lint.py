"""Each rule of the linter fires where it must and keeps silent next to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from grading.lint import lint, lint_notebook
from grading.lint_rules import RULES

ROOT = Path(__file__).resolve().parents[2]
SETUP = (
    "import math\nimport random\nimport time\nimport warnings\nfrom datetime import datetime\n"
    "import numpy as np\nimport torch\nfrom torch import nn\nfrom torch.func import vmap\n"
    "from ebm_lib import check as checks\n"
    "from ebm_lib.check import expect_below, expect_close, expect_raises, expect_unchanged, student"
)
ANSWER = "def f(x):\n    return x\n\nclass Net:\n    pass"


def cell(name, source, *, solution=False, points=None, locked=True):
    made = new_code_cell(source, id=name.replace("_", "-"))
    mark = {"grade": points is not None, "grade_id": name, "locked": locked, "schema_version": 3, "task": False}
    made.metadata["nbgrader"] = {**mark, "solution": solution} | ({"points": points} if points is not None else {})
    return made


def book(check, *more):
    cells = [new_markdown_cell("# A set", id="title"), cell("setup", SETUP), *more]
    return new_notebook(cells=[*cells, cell("q1", ANSWER, solution=True, locked=False), cell("q1_a", check, points=1)])


def rules(check):
    """The rules that a check breaks."""
    return {f.rule for f in lint_notebook(book(check))}


# rule: sources that break it, sources next to them that do not. What follows a check's last line is "pass" where
# only the last line would be wrong.
FIRES = {
    "names": ["expect_close(f(helper), 1.0)", "f = f(1)", "%%time\nf(1)"],
    "idle": ["expect_close(1.0, 1.0)", "print('fine')"],
    "message": ["assert f(1) == 1", "for i in range(3):\n    assert f(i) == i"],
    "weak": [
        "assert torch.allclose(f(1), torch.ones(2)), 'no'",
        "assert np.allclose(f(1), 1), 'no'",
        "y = f(1)\nz = y.double()\nassert torch.isclose(z, z).all(), 'no'",
        "assert not (f(1) > 3).any(), 'no'",
        "assert (f(1) == torch.ones(2)).all(), 'no'",
        "assert f(1) < 3, 'no'",
        "assert 0 <= f(1), 'no'",
        "y = f(1)\nif y > 3:\n    raise AssertionError('no')",
        "assert f(1) != 3, 'no'",
        "assert f(1), 'no'",
        "y = f(1)\nassert y, 'no'",
        "ys = []\nfor i in range(3):\n    ys.append(f(i))\nassert ys[0] < ys[1], 'no'",
        "def g():\n    return f(1)\nassert g() < 3, 'no'",
    ],
    "visible": [
        "# 1 point. Other shapes.\n### BEGIN HIDDEN TESTS\nexpect_close(f(1), 1)\n### END HIDDEN TESTS",
    ],
    "expression": ["f(1)", "expect_close(f(1), 1)\n1", "expect_close(f(1), 1)\n0.5 if f(2) == 2 else 0"],
    "generator": [
        "g = torch.Generator().manual_seed(1)\na = f(g)\nb = torch.rand(2, generator=g)\nexpect_close(a, b)",
        "g = torch.Generator()\nfor i in range(3):\n    expect_close(f(generator=g), 1.0)",
        "g = np.random.default_rng(3)\nexpect_close(f(g), 1.0)\nexpect_close(f(g), 1.0)",
    ],
    "identity": ["x = torch.ones(2)\nassert f(x) is x, 'no'", "y = f(1)\nassert y is not f(1), 'no'"],
    "patch": [
        "from unittest import mock\nexpect_close(f(1), 1)",
        "from unittest.mock import patch\nexpect_close(f(1), 1)",
        "torch.sort = None\nexpect_close(f(1), 1)",
        "setattr(torch, 'sort', None)\nexpect_close(f(1), 1)",
    ],
    "warnings": ["with warnings.catch_warnings():\n    expect_close(f(1), 1)"],
    "transform": [
        "y = torch.func.vmap(f)(torch.ones(2))\nexpect_close(y, torch.ones(2))",
        "y = vmap(f)(torch.ones(2))\nexpect_close(y, torch.ones(2))",
        "y = torch.compile(f)(torch.ones(2))\nexpect_close(y, torch.ones(2))",
        "y = torch.func.grad(lambda x: f(x).sum())(torch.ones(2))\nexpect_close(y, torch.ones(2))",
        "from torch import func\ny = func.hessian(f)(torch.ones(2))\nexpect_close(y, torch.ones(2))",
    ],
    "captured": [
        "ref = 3.0\nexpect_close(f(lambda y: y - ref), ref)",
        "by_hand = 3.0\ndef energy(y):\n    return y - by_hand\nexpect_close(f(energy), 3.0)",
        "want_y = 3.0\ndef inner(y):\n    return y - want_y\ndef energy(y):\n    return inner(y)\n"
        "expect_close(f([energy]), 3.0)",
        "truth = 3.0\nclass E:\n    def __call__(self, y):\n        return y - truth\ne = E()\nexpect_close(f(e), 3.0)",
        "answer = 3.0\nexpect_close(f(energy=lambda y: y * answer), expected=answer)",
        "answer = 3.0\nstudent.run(lambda: print(answer))\nexpect_close(f(1), answer[0])",
    ],
    "counting": [
        "seen = []\ndef energy(y):\n    seen.append(y)\n    return y\nexpect_close(f(energy), 1.0)",
        "n = 0\ndef energy(y):\n    global n\n    n += 1\n    return y\nexpect_close(f(energy), 1.0)",
        "n = {'calls': 0}\ndef energy(y):\n    n['calls'] += 1\n    return y\nexpect_close(f(energy), 1.0)",
        "seen = []\nexpect_close(f(lambda y: seen.append(y) or y), 1.0)",
    ],
    "claim": [
        "expect_close(student.run(lambda: 3.0), 3.0)",
        "n = student.eval('Net().size')\nm = n + 1\nexpect_close(m, 3)",
        "assert student.signature(f) == ('x',), 'no'",
        "expect_unchanged(f, torch.ones(2))",
        "expect_close(checks.student.run(lambda: 3.0), 3.0)",
    ],
    "unchanged": [
        "x = torch.ones(2)\nbefore = x.clone()\ny = f(x)\nexpect_close(y, x)\nexpect_close(x, before)",
        "x = torch.ones(2)\nexpect_close(f(x), x)\nassert torch.equal(x, torch.ones(2)), 'no'",
        "x = [1]\nexpect_close(f(x), 1)\nassert x == [1], 'no'",
        "net = nn.Linear(2, 1)\nexpect_close(f(net), 1)\nexpect_close(net.weight.detach(), torch.ones(1, 2))",
        "class E:\n    calls = 0\ne = E()\nexpect_close(f(energy=e), 1)\nexpect_close(e.calls, 5)",
        "x = torch.ones(2)\nexpect_close(f([x]), x)\nassert x.grad is None, 'no'",
    ],
    "time": [
        "begun = time.perf_counter()\nexpect_close(f(1), 1)\nexpect_below(time.perf_counter() - begun, 1.0)",
        "from time import monotonic\nmonotonic()\nexpect_close(f(1), 1)",
        "now = datetime.now()\nexpect_close(f(1), 1)",
    ],
    "random": [
        "expect_close(f(torch.rand(2)), 1)",
        "expect_close(f(torch.randn(2, 3, dtype=torch.float64)), 1)",
        "expect_close(f(torch.randn_like(torch.ones(2))), 1)",
        "torch.manual_seed(0)\nexpect_close(f(1), 1)",
        "expect_close(f(torch.empty(2).normal_()), 1)",
        "expect_close(f(np.random.rand(2)), 1)",
        "rng = np.random.default_rng()\nexpect_close(f(rng.random()), 1)",
        "expect_close(f(random.random()), 1)",
        "from numpy.random import rand\nexpect_close(f(rand(2)), 1)",
    ],
}
SILENT = {
    "names": ["helper = 1\nexpect_close(f(helper), 1.0)", "y = f(1)\nexpect_close(y, 1)"],
    "idle": ["expect_close(student.get('f')(1.0), 1.0)", "def g():\n    expect_close(f(1), 1)\ng()\npass"],
    "message": ["assert f(1) == 1, 'f(1) is 1'"],
    "weak": [
        "assert torch.equal(f(1), torch.ones(2)), 'no'",
        "assert f(1) == 1, 'no'",
        "assert isinstance(f(1), dict), 'no'",
        "x = torch.ones(2)\nassert (x > 0).all() and torch.allclose(x, x), 'no'\nexpect_close(f(1), 1)",
        "known = torch.ones(2) > 0\nif not known.all():\n    pass\nexpect_close(f(known), known)",
        "expect_below(f(1), 3.0)",
        "y = f(1)\nif y > 3:\n    print('large')\nexpect_close(y, 4.0)",
        "assert 1 + 1 != 3, 'no'\nexpect_close(f(1), 1)",
        "expect_below((~(f(1) <= 3)).double().mean(), 0.01)",
    ],
    "visible": [
        "# 1 point.\nexpect_close(f(1), 1)\n### BEGIN HIDDEN TESTS\nexpect_close(f(2), 2)\n### END HIDDEN TESTS",
        "expect_close(f(1), 1)",
    ],
    "expression": [
        "expect_close(f(1), 1)",
        "checks.expect_close(f(1), 1)",
        "expect_close(f(1), 1)\nprint('fine')",
        "y = f(1)",
        "f(1);",
    ],
    "generator": [
        "g = torch.Generator().manual_seed(1)\nx = torch.rand(2, generator=g)\nexpect_close(f(x), x)\n"
        "z = torch.rand(2, generator=g)\nexpect_close(f(z), z)",
        "for i in range(3):\n    g = torch.Generator().manual_seed(i)\n    expect_close(f(g), 1.0)",
        "g = torch.Generator()\nexpect_close(f(g), 1.0)\ng = torch.Generator()\nexpect_close(f(g), 1.0)",
        "expect_close(f(torch.Generator()), 1.0)\nexpect_close(f(torch.Generator()), 1.0)",
    ],
    "identity": ["assert f(1) is None, 'no'", "x = [1]\nassert x is not [1], 'no'\nexpect_close(f(1), 1)"],
    "patch": ["x = torch.ones(2)\nx.grad = None\nexpect_close(f(x), 1)", "class A:\n    pass\nsetattr(A, 'b', f(1))"],
    "warnings": ["with warnings.catch_warnings():\n    x = torch.ones(2)\nexpect_close(f(x), 1)"],
    "transform": [
        "g = torch.func.vmap(lambda x: 2 * x)\nexpect_close(f(1), g(torch.ones(2)))",
        "y = f(torch.ones(2, requires_grad=True))\n(g,) = torch.autograd.grad(y.sum(), y)\nexpect_close(g, 1)",
    ],
    "captured": [
        "ref = 3.0\nexpect_close(f(student.opaque(lambda y: y - ref)), ref)",
        "scale = 3.0\nexpect_close(f(lambda y: y * scale), torch.ones(2) * scale)",
        "want = 3.0\ndef unused(y):\n    return y - want\nexpect_close(f(lambda y: y), want)",
        "def energy(y):\n    want = y\n    return want\nexpect_close(f(energy), 3.0)",
        "def energy(want):\n    return want\nexpect_close(f(energy), 3.0)",
        "want = 3.0\nexpect_close(f(want), want)",
        "energy = student.opaque(lambda y: y - want)\nwant = 3.0\nexpect_close(f(energy), want)",
    ],
    "counting": [
        "seen = []\ndef energy(y):\n    seen.append(y)\n    return y\nexpect_close(f(student.opaque(energy)), 1.0)",
        "seen = []\ndef energy(y):\n    seen.append(y)\n    return y\nenergy(1)\nexpect_close(f(1), 1.0)",
        "def energy(y):\n    parts = []\n    parts.append(y)\n    return parts\nexpect_close(f(energy), 1.0)",
        "means = []\nfor i in range(3):\n    means.append(f(lambda y: y))\nexpect_close(means[0], 1.0)",
        "class E:\n    def __call__(self, y):\n        self.last = y\n        return y\nexpect_close(f(E()), 1.0)",
    ],
    "claim": [
        "expect_close(student.run(lambda: 3.0), 3.0)\nexpect_close(f(1), 1)",
        "expect_unchanged(f, torch.ones(2))\nexpect_close(f(torch.ones(2)), torch.ones(2))",
        "net = student.get('Net')\nexpect_close(net.size, 3)",
        "student.set('scale', 3)\nexpect_close(f(1), 3)",
        "expect_close(student.take(f(1), 3)[0], 3)",
    ],
    "unchanged": [
        "x = torch.ones(2)\nexpect_unchanged(f, x)\nexpect_close(f(x), x)",
        "x = torch.ones(2)\nbefore = x.clone()\nexpect_close(x, before)\nexpect_close(f(x), x)",
        "x = torch.ones(2, requires_grad=True)\nf(x).sum().backward()\nexpect_close(x.grad, torch.ones(2))",
        "x = torch.ones(2)\ny = f(x)\nx = f(y)\nexpect_close(x, y)",
        "x = torch.ones(2)\ny = f(x)\nx = 2 * torch.ones(2)\nexpect_close(x, y)",
        "x = torch.ones(2)\ny = f(x.clone())\nexpect_close(torch.sqrt(x), y)",
        "calls = []\ny = f(student.opaque(calls.append))\nexpect_close(len(calls), 3)\nexpect_close(y, 1)",
    ],
    "time": [
        "timeit = torch.ones(2)\nexpect_close(f(timeit.sum()), 1)",
        "def g(time):\n    return time\nexpect_close(f(g), 1)",
    ],
    "random": [
        "g = torch.Generator().manual_seed(3)\nexpect_close(f(torch.rand(2, generator=g)), 1)",
        "rng = np.random.default_rng(3)\nexpect_close(f(rng.random()), 1)",
        "rng = random.Random(3)\nexpect_close(f(rng.random()), 1)",
        "g = torch.Generator().manual_seed(3)\nexpect_close(f(torch.empty(2).normal_(generator=g)), 1)",
        "n = torch.distributions.Normal(0.0, 1.0)\nexpect_close(f(1), n.mean)",
    ],
}


def cases(table):
    return [pytest.param(rule, source, id=f"{rule}-{i}") for rule in table for i, source in enumerate(table[rule])]


@pytest.mark.parametrize(("rule", "source"), cases(FIRES))
def test_fires(rule, source):
    assert rule in rules(source)


@pytest.mark.parametrize(("rule", "source"), cases(SILENT))
def test_keeps_silent(rule, source):
    assert rule not in rules(source)


def test_every_rule_is_tested():
    assert set(FIRES) == set(SILENT) == {*RULES, "names"}
    for rule in RULES.values():
        assert rule.__doc__


def test_a_good_check_has_nothing():
    source = (
        "# 1 point. Twice.\nexpect_close(f(1.0), 1.0)\n### BEGIN HIDDEN TESTS\n"
        "generator = torch.Generator().manual_seed(3)\nx = torch.randn(3, generator=generator, dtype=torch.float64)\n"
        "expect_unchanged(f, x, name='`f`')\nexpect_close(f(x), x, name='y')\nexpect_raises(f, None)\n"
        "### END HIDDEN TESTS"
    )
    assert lint_notebook(book(source)) == []


def test_where_it_is():
    (found,) = lint_notebook(book("# 1 point.\n\nassert f(\n    1\n) == 1"))
    assert (found.cell, found.line, found.rule) == ("q1_a", 3, "message")
    assert str(found).startswith("q1_a:3: an assert without a message")
    assert str(found).endswith("[message]")


def test_all_that_is_wrong_with_names_is_said_at_once():
    found = lint_notebook(book("expect_close(f(a), b)", cell("given", "def g():\n    return f(1)")))
    assert [f.cell for f in found] == ["given", "q1_a", "q1_a"]
    assert {f.rule for f in found} == {"names"}


def test_imports_of_earlier_cells_count():
    nb = book("import numpy.random as npr\nexpect_close(f(1), 1)")
    nb.cells.append(cell("q1_b", "expect_close(f(npr.rand(2)), 1)", points=1))
    assert [(f.cell, f.rule) for f in lint_notebook(nb)] == [("q1_b", "random")]


# --- escapes -------------------------------------------------------------------------------------------------------
def test_an_escape_on_the_line_with_a_reason():
    good = "assert f(1) == 1  # lint: ok message (the visible one says it)"
    assert rules(good) == set()
    assert rules(f"assert f(2) == 2\n{good}") == {"message"}
    assert rules(good.replace("message", "weak")) == {"message"}
    assert rules("assert f(\n    1\n) == 1  # lint: ok message (its last line counts)") == set()


@pytest.mark.parametrize(
    "escape", ["# lint: ok message", "# lint: ok message ()", "# lint: ok massage (why)", "# lint: ok"]
)
def test_an_escape_needs_a_rule_and_a_reason(escape):
    found = lint_notebook(book(f"assert f(1) == 1  {escape}"))
    assert [f.rule for f in found] == ["escape", "message"]


def test_escapes_of_what_is_wrong_with_a_whole_cell():
    assert rules("expect_close(1.0, 1.0)  # lint: ok idle (a gift)") == set()


# --- the set as a whole ----------------------------------------------------------------------------------------------
def test_points():
    nb = book("expect_close(f(1), 1)")
    nb.cells[-1].metadata["nbgrader"]["points"] = 0
    by_hand = new_markdown_cell("Because.", id="q2")
    by_hand.metadata["nbgrader"] = {**nb.cells[-1].metadata["nbgrader"], "grade_id": "q2", "solution": True}
    nb.cells.append(by_hand)
    assert [(f.cell, f.rule) for f in lint_notebook(nb)] == [("q1_a", "points"), ("q2", "points")]


def test_corpus(tiny):
    """Of the tiny course: nothing is missing; then a question without wrong answers."""
    assert [f for f in lint(tiny.course, "ps90") if f.rule == "corpus"] == []
    (tiny.course.corpus("ps90") / "q2" / "wrong_half.py").unlink()
    (found,) = [f for f in lint(tiny.course, "ps90") if f.rule == "corpus"]
    assert found.cell == "q2"
    assert "has no wrong_*.py" in found.message


def test_the_sets_of_the_course_are_clean(course, ps):
    assert [str(f) for f in lint(course, ps)] == []


def test_the_command(tiny):
    """Says where and what, and its status is 1; 0 when there is nothing."""

    def ran():
        command = [sys.executable, "-m", "grading", "--course", str(tiny.course.root), "lint", "ps90"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env=os.environ)

    done = ran()
    assert done.returncode == 1, done.stderr
    assert "ps90 q2_part:2: a last line that is an expression" in done.stdout

    def excuse(nb):
        for c in nb.cells:
            if c.get("id") == "q2-part":
                c.source += "  # lint: ok expression (partial credit)"

    tiny.edit_source(excuse)
    done = ran()
    assert (done.returncode, done.stdout) == (0, "ps90: nothing to mend.\n"), done.stdout + done.stderr
