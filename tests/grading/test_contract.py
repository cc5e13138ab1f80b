"""The contract of a set: whose each name in a check is, and what must not be there for the student."""

import builtins
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from grading import contract
from grading.contract import Contract, draft, redact, remote_names
from grading.course import GradingError
from grading.notebook import grade_id, read


def cell(role, name, source):
    """A code cell: given, answer, check or free."""
    made = new_code_cell(source, id=name.replace("_", "-"))
    if role != "free":
        mark = {"grade": role == "check", "grade_id": name, "locked": role != "answer", "schema_version": 3}
        made.metadata["nbgrader"] = {**mark, "solution": role == "answer", "task": False, "points": 1}
    return made


def book(*cells):
    return new_notebook(cells=[new_markdown_cell("# A set"), *(cell(*c) for c in cells)])


GIVEN = ("given", "setup", "import math\nfrom pathlib import Path as P\n\ndef half(x):\n    return x / 2")
ANSWER = (
    "answer",
    "q1",
    "def f(x):\n    ### BEGIN SOLUTION\n    return math.sqrt(x)\n    ### END SOLUTION\n\nc = f(2)",
)


def refused(*cells, match):
    with pytest.raises(GradingError, match=match) as caught:
        remote_names(book(*cells))
    assert "\n" not in str(caught.value)


# --- what is remote ------------------------------------------------------------------------------------------------
READS = {
    "a call": "assert f(4) == 2",
    "in a function": "def g():\n    return [f(i) for i in range(3)]\ng()",
    "in a nested lambda": "g = lambda: (lambda: f)()\ng()",
    "in a class body": "class A:\n    value = f(4)\n    def m(self):\n        return len('') + self.value",
    "as a default": "def g(x=f(1)):\n    return x",
    "as a decorator": "@f\ndef g():\n    pass",
    "in an f-string": "print(f'{f(1)!r:>{3}}')",
    "in a generator": "total = sum(f(i) for i in range(3))",
    "in a comprehension's condition": "[i for i in range(3) if f(i)]",
    "as an argument": "half(f)",
    "in an annotation": "def g(x: f):\n    return x",
    "deleted names do not hide it": "y = f(1)\ndel y",
    "after a magic": "%matplotlib inline\nf(1)",
    "in a magic's assignment": "where = %pwd\nf(where)",
    "next to a local of the same name elsewhere": "def g(f):\n    return f\ng(f)",
    "with a keyword of its name": "dict(c=f)",
    "in a match": "match 3:\n    case int(n):\n        f(n)",
    "top-level await": "import asyncio\nawait asyncio.sleep(0)\nf(1)",
}


@pytest.mark.parametrize("how", READS)
def test_a_name_is_remote_however_it_is_read(how):
    assert remote_names(book(GIVEN, ANSWER, ("check", "q1_a", READS[how]))) == {"q1_a": ["f"]}


NOT_READ = {
    "a parameter": "def g(f):\n    return f(1)",
    "an attribute": "math.f = 1\nmath.f",
    "a string": "print('f(1)')",
    "a comment": "# f(1)",
    "a keyword": "dict(f=1)",
    "a local": "def g():\n    f = 1\n    return f",
    "a comprehension's variable": "[f for f in range(3)]",
}


@pytest.mark.parametrize("how", NOT_READ)
def test_a_name_that_is_not_read_is_not_remote(how):
    assert remote_names(book(GIVEN, ANSWER, ("check", "q1_a", NOT_READ[how]))) == {"q1_a": []}


def test_what_trusted_cells_bind_is_theirs():
    trusted = (
        "import os.path\nfor i in half(2), P('.'):\n    pass\nwith open(os.devnull) as stream:\n    pass\n[w := 1]"
    )
    later = "print(i, stream, os, w, half, math.pi, P, c, display, get_ipython, len, __name__)"
    nb = book(GIVEN, ANSWER, ("check", "q1_a", trusted), ("check", "q1_b", later))
    assert remote_names(nb) == {"q1_a": [], "q1_b": ["c"]}


def test_a_global_statement_binds():
    nb = book(GIVEN, ANSWER, ("check", "q1_a", "def g():\n    global h\n    h = 1\ng()"), ("check", "q1_b", "h"))
    assert remote_names(nb) == {"q1_a": [], "q1_b": []}


def test_all_that_an_answer_binds_at_its_top_can_be_remote():
    answer = "import torch as T\nclass Net:\n    pass\n(a, *b), d = (1, 2), 3\nfor e in [1]:\n    pass"
    nb = book(("answer", "q1", answer), ("check", "q1_a", "Net, a, b, d, e, T"))
    assert remote_names(nb) == {"q1_a": ["Net", "T", "a", "b", "d", "e"]}


def test_an_answer_may_import_what_is_given():
    nb = book(GIVEN, ("answer", "q1", "import math\nf = math.sqrt"), ("check", "q1_a", "f(math.pi)"))
    assert remote_names(nb) == {"q1_a": ["f"]}


def test_the_sets_of_the_course(course, ps):
    """Each check takes from the student what its own question's answer defines, or an earlier one's."""
    nb = read(course.source(ps))
    solved = {n for c in nb.cells if (c.metadata.get("nbgrader") or {}).get("solution") for n in contract_defs(c)}
    for check, names in remote_names(nb).items():
        assert names
        assert set(names) <= solved, check
        source = next(c.source for c in nb.cells if grade_id(c) == check)
        # called, or handed on to be called: words in comments and messages do not count
        assert all(re.search(rf"\b{name}\(|\({name},", source) for name in names)


def contract_defs(c):
    return [line.split("(")[0].split()[1] for line in c.source.splitlines() if line.startswith(("def ", "class "))]


# --- what is refused -----------------------------------------------------------------------------------------------
def test_a_forgotten_helper_does_not_become_the_students():
    refused(GIVEN, ANSWER, ("check", "q1_a", "helper(f(1))"), match="check q1_a uses `helper`, which neither a given")


def test_a_local_of_an_answer_does_not_count():
    answer = ("answer", "q1", "def f(x):\n    helper = x\n    return helper")
    refused(answer, ("check", "q1_a", "helper(f(1))"), match="neither a given cell nor the reference answer")


def test_a_helper_that_a_student_may_delete():
    loose = ("free", "plot", "tool = 1")
    refused(loose, ANSWER, ("check", "q1_a", "f(tool)"), match="only editable cell 'plot' defines.*given cell")


def test_names_of_later_cells():
    late = ("answer", "q2", "def g():\n    pass")
    refused(GIVEN, ANSWER, ("check", "q1_a", "f(g)"), late, match="defined only later, by the reference answer q2")
    refused(ANSWER, ("check", "q1_a", "f(half)"), GIVEN, match="defined only later, by given cell setup")


@pytest.mark.parametrize(
    "source",
    ["f = f(1)", "c = f(1)", "def f():\n    pass", "import math as f", "def g():\n    global c\n    c = 1"],
)
def test_a_check_must_not_rebind_what_an_answer_defines(source):
    refused(GIVEN, ANSWER, ("check", "q1_a", source), match="check q1_a binds `[cf]`, which the reference answer q1")


def test_a_given_name_must_not_be_the_answers_too():
    answer = ("answer", "q1", "def half(x):\n    return 3")
    refused(GIVEN, answer, ("check", "q1_a", "half(2)"), match="given cell setup defines and the reference answer q1")


@pytest.mark.parametrize("role", ["answer", "given", "free"])
def test_what_runs_for_the_student_must_not_need_a_check(role):
    needy = (role, "needy", "def g():\n    return data")
    refused(ANSWER, ("check", "q1_a", "data = f(1)"), needy, match="needy'? needs `data`, which only check q1_a")
    remote_names(book(ANSWER, ("check", "q1_a", "data = f(1)"), (role, "needy", "def g(data):\n    return data")))


def test_a_given_cell_must_not_need_an_answer():
    refused(ANSWER, ("given", "train", "fitted = f(3)"), match="given cell train uses `f`, which the reference answer")
    refused(("free", "x", "v = 1"), ("given", "train", "w = v"), match="given cell train uses `v`, which editable")


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("from math import *\nf(pi)", "imports \\* from math"),
        ("%%time\nf(1)", "cell magic \\(%%time\\)"),
        ("f(1", "check q1_a is no valid Python, line 1"),
    ],
)
def test_cells_whose_names_cannot_be_known(source, match):
    refused(GIVEN, ANSWER, ("check", "q1_a", source), match=match)


def test_builtins_are_nobodys():
    kept = {"None", "True", "False", "_"}  # words of the language; what doctest leaves behind
    reads = ", ".join(name for name in dir(builtins) if name not in kept)
    assert remote_names(book(("check", "q1_a", reads))) == {"q1_a": []}


# --- kept with the release -----------------------------------------------------------------------------------------
def test_written_and_read(tiny):
    nb = read(tiny.course.source("ps90"))
    made = draft(nb)
    assert made.remote == {"q1_check": ["double"], "q2_nine": ["root"], "q2_part": ["root"]}
    made = Contract(made.remote, {"q2_part": ["root()", "Net"]}, ["math", "ebm_lib.energy:gibbs"], made.source)
    file = contract.write(tiny.course, "ps90", made)
    text = file.read_bytes()
    assert file.name == "contract.json"
    assert text.endswith(b"}\n")
    again = contract.read(tiny.course, "ps90")
    assert again.handles == {"q2_part": ["Net", "root()"]}
    assert again.forbidden == ["ebm_lib.energy:gibbs", "math"]
    assert again.remote == made.remote
    swapped = Contract(dict(reversed(again.remote.items())), again.handles, again.forbidden[::-1], again.source)
    assert contract.write(tiny.course, "ps90", swapped).read_bytes() == text


def test_a_contract_of_other_code_is_refused(tiny):
    contract.path(tiny.course, "ps90").unlink(missing_ok=True)
    with pytest.raises(GradingError, match=r"has no contract.json: run `python -m grading release ps90`"):
        contract.read(tiny.course, "ps90")
    file = contract.write(tiny.course, "ps90", draft(read(tiny.course.source("ps90"))))

    def retitle(nb):
        nb.cells[0].source = "# Another title"

    def recode(nb):
        next(c for c in nb.cells if grade_id(c) == "q1_check").source += "\nassert double(3) == 6, 'six'"

    tiny.edit_source(retitle)
    contract.read(tiny.course, "ps90")
    tiny.edit_source(recode)
    with pytest.raises(GradingError, match="has changed since its release"):
        contract.read(tiny.course, "ps90")
    for damage in ("{", "[]", '{"remote": {}, "more": 1}'):
        file.write_text(damage)
        with pytest.raises(GradingError, match="damaged"):
            contract.read(tiny.course, "ps90")


def test_the_fingerprint_sees_code_roles_and_what_is_forbidden():
    base = book(GIVEN, ANSWER, ("check", "q1_a", "f(1)"))
    others = [
        book(GIVEN, ANSWER, ("check", "q1_a", "f(2)")),
        book(GIVEN, ANSWER, ("check", "q1_b", "f(1)")),
        book(GIVEN, ANSWER, ("given", "q1_a", "f(1)")),
        book(ANSWER, GIVEN, ("check", "q1_a", "f(1)")),
        book(GIVEN, ANSWER, ("check", "q1_a", "f(1)")),
    ]
    others[-1].metadata["grading"] = {"forbidden": ["math"]}
    found = [contract.fingerprint(nb) for nb in (base, *others)]
    assert len(set(found)) == len(found)
    base.metadata["kernelspec"] = {"name": "another"}
    base.cells[0].source = "# Text"
    assert contract.fingerprint(base) == found[0]


# --- forbidden -----------------------------------------------------------------------------------------------------
def test_only_what_exists_can_be_forbidden():
    nb = new_notebook(metadata={"grading": {"forbidden": ["ebm_lib.energy:gibbs", "ebm_lib.inference", "json"]}})
    assert contract.forbidden(nb) == ["ebm_lib.energy:gibbs", "ebm_lib.inference", "json"]
    assert contract.forbidden(new_notebook()) == []
    for wrong in ("ebm_lib.nothing", "nothing.at.all", "ebm_lib.energy:nothing", "ebm_lib.energy:math", "", ":gibbs"):
        with pytest.raises(GradingError, match="forbidden"):
            contract.forbidden(new_notebook(metadata={"grading": {"forbidden": [wrong]}}))
    for wrong in ("json", [1], {"json": 1}):
        with pytest.raises(GradingError, match="must be a list of strings"):
            contract.forbidden(new_notebook(metadata={"grading": {"forbidden": wrong}}))


MODULE = '''"""A module."""
import functools
from typing import NamedTuple
SECRET = 41


@functools.lru_cache(
    maxsize=None,
)
def answer(x: int, *, beta: float = 1.0) -> int:
    """The way is the SOLUTION."""
    # the SOLUTION, in words
    return SECRET + x  # SOLUTION


def one_line(x): return x + len("SOLUTION")


class Model(dict):
    """SOLUTION."""

    size = "SOLUTION"

    def fit(self):
        return "SOLUTION"


class Pair(NamedTuple):
    a: str = "SOLUTION"


def kept(x):
    return x + 1


async def later():
    return "SOLUTION"
'''


def test_what_is_redacted_says_so_and_the_rest_works():
    text = redact(MODULE, ["answer", "one_line", "Model", "Pair", "later"], "it is what ps01 asks for")
    assert "SOLUTION" not in text
    assert text.count("lru_cache(") == 1
    space = {}
    exec(compile(text, "module", "exec"), space)
    assert space["kept"](1) == 2
    for call in (lambda: space["answer"](1, beta=2.0), lambda: space["one_line"](1), space["Model"], space["Pair"]):
        with pytest.raises(ImportError, match="it is what ps01 asks for"):
            call()
    with pytest.raises(TypeError):
        space["answer"]()  # the signature is what it was
    assert issubclass(space["Model"], dict)
    assert hasattr(space["answer"], "cache_clear")
    with pytest.raises(ImportError):
        space["later"]().send(None)


def test_a_redefined_function_is_redacted_twice_and_reasons_are_quoted():
    text = redact("def f():\n    return 1\ndef f():\n    return 2\n", ["f"], 'it\'s "that"\n\\')
    assert "return" not in text
    with pytest.raises(ImportError, match='it\'s "that"'):
        exec(f"{text}\nf()", {})


def test_what_is_not_there_cannot_be_redacted():
    for name in ("SECRET", "functools", "fit", "absent"):
        with pytest.raises(GradingError, match="no function or class"):
            redact(MODULE, [name], "")


def test_the_library_still_imports_without_an_answer(tmp_path):
    """The redacted energy module in the place of the real one: everything else imports."""
    import ebm_lib.energy

    (tmp_path / "energy.py").write_text(redact(Path(ebm_lib.energy.__file__).read_text(), ["gibbs"], "ask yourself"))
    code = (
        "import importlib.util, sys, torch\n"
        f"spec = importlib.util.spec_from_file_location('ebm_lib.energy', {str(tmp_path / 'energy.py')!r})\n"
        "module = importlib.util.module_from_spec(spec); sys.modules['ebm_lib.energy'] = module\n"
        "spec.loader.exec_module(module)\n"
        "import ebm_lib.free_energy\n"
        "from ebm_lib.energy import gibbs, grid\n"
        "print(grid([0.0], [1.0], 4).points.shape)\n"
        "try:\n    gibbs(torch.zeros(3))\nexcept ImportError as e:\n    print(e)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "ask yourself" in ran.stdout, ran.stderr


def test_contracts_are_plain_json(tiny):
    file = contract.write(tiny.course, "ps90", draft(read(tiny.course.source("ps90"))))
    assert sorted(json.loads(file.read_text())) == ["forbidden", "handles", "remote", "source"]
    nbformat.validate(read(tiny.course.source("ps90")))
