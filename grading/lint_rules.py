"""The rules that a check is held to; each yields the places that break it, with what to do about them."""

import ast
import re
from collections.abc import Callable, Iterator

from .lint_flow import CLAIMS, Check, calls, handed, reads, root

Found = Iterator[tuple[ast.AST | None, str]]

_EXPECTED = re.compile(r"(expected|by_hand|want|truth)(_|$)")
_CLOSE = {"torch.allclose", "numpy.allclose", "torch.isclose", "numpy.isclose"}
_GENERATORS = {"torch.Generator", "numpy.random.default_rng", "numpy.random.RandomState", "random.Random"}
_RANDOM = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}
_RANDOM_METHODS = {
    "normal_",
    "uniform_",
    "random_",
    "exponential_",
    "bernoulli_",
    "cauchy_",
    "geometric_",
    "log_normal_",
}
_TRANSFORMS = ("torch.func.", "torch.jit.", "torch.compile", "torch.vmap", "torch.fx.", "torch.export", "functorch.")
_CLOCKS = ("time.", "timeit.", "datetime.datetime.now", "datetime.datetime.today", "datetime.date.today")
_MUTATORS = {"append", "extend", "insert", "add", "update", "setdefault", "pop", "remove", "clear", "popleft"}


def idle(check: Check) -> Found:
    """Nothing of the student's is looked at."""
    if not check.of_student(check.tree):
        yield None, "it takes nothing from the student, so everybody gets its points."


def message(check: Check) -> Found:
    """An assert says nothing to the student."""
    for node in ast.walk(check.tree):
        if isinstance(node, ast.Assert) and node.msg is None:
            yield node, "an assert without a message tells the student nothing: use expect_close, or add one."


def weak(check: Check) -> Found:
    """A comparison lets NaN, an empty tensor or another shape through."""
    for call in calls(check.tree):
        name = check.dotted(call.func)
        if name in _CLOSE and check.of_student(call):
            yield call, f"{name.split('.')[-1]} lets an empty tensor and other shapes through: use expect_close."
    for verdict in check.verdicts():
        if not isinstance(verdict.node, (ast.Assert, ast.If)):
            continue
        (test,) = verdict.looked_at
        if not check.of_student(test):
            continue
        if isinstance(test, ast.Name) or (isinstance(test, ast.Call) and root(test.func) in check.remote):
            yield test, "anything that counts as true passes: compare it with what you expect."
        for node in ast.walk(test):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("any", "all"):
                if check.of_student(node):
                    yield (
                        node,
                        f".{node.func.attr}() lets NaN or an empty tensor through: use expect_close or expect_below.",
                    )
            if isinstance(node, ast.Compare) and check.of_student(node):
                if any(isinstance(op, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)) for op in node.ops):
                    yield node, "an ordering is not a proof: use expect_below, which wants a number and refuses NaN."
                if any(isinstance(op, ast.NotEq) for op in node.ops):
                    yield node, "nearly everything is unequal, NaN too: say what is expected, with expect_close."


def visible(check: Check) -> Found:
    """Nothing visible stands before the hidden tests."""
    begin = next((i for i, x in enumerate(check.cell.source.splitlines(), 1) if "### BEGIN HIDDEN TESTS" in x), None)
    if begin is not None and all(node.lineno > begin for node in check.tree.body):
        yield None, "no statement is left when the hidden tests are taken out: begin with something visible."


def expression(check: Check) -> Found:
    """A last value other than None would count as points."""
    last = check.tree.body[-1] if check.tree.body else None
    if isinstance(last, ast.Expr) and not check.cell.source.rstrip().endswith(";"):
        call = check.dotted(last.value.func) if isinstance(last.value, ast.Call) else ""
        if not re.search(r"(^|\.)(expect_\w+|print|show|close|display)$", call):
            yield last, "a last line that is an expression counts as the points: end with a statement."


def generator(check: Check) -> Found:
    """A random generator that the student's code draws from is a copy: it does not move on here."""
    made = {
        name: value
        for name, values in check.values.items()
        for value in values
        if any(check.dotted(call.func) in _GENERATORS for call in calls(value))
    }
    loops = [node for node in ast.walk(check.tree) if isinstance(node, (ast.For, ast.While))]
    for call, arguments in check.sent():
        for name in {a.id for a in arguments if isinstance(a, ast.Name)} & made.keys():
            again = [
                n
                for n in ast.walk(check.tree)
                if isinstance(n, ast.Name)
                and n.id == name
                and isinstance(n.ctx, ast.Load)
                and n.lineno > call.end_lineno
                and not any(call.end_lineno < line <= n.lineno for line in check.bound[name])
            ]
            repeated = any(
                loop.lineno <= call.lineno <= loop.end_lineno
                and not any(loop.lineno <= line <= loop.end_lineno for line in check.bound[name])
                for loop in loops
            )
            if again or repeated:
                yield (
                    call,
                    f"`{name}` reaches the student as a copy and does not move on here: a fresh one for each call.",
                )


def identity(check: Check) -> Found:
    """What comes from the student is a copy: ``is`` is false where it should be true."""
    for node in ast.walk(check.tree):
        if isinstance(node, ast.Compare) and any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
            sides = [node.left, *node.comparators]
            if check.of_student(node) and not any(isinstance(side, ast.Constant) for side in sides):
                yield node, "results are copies, so `is` says nothing: compare values, or use student.eval."


def patch(check: Check) -> Found:
    """The student's process is not the one that is patched."""
    text = "the student's code runs in another process, which this does not change: pass what it should use."
    for node in ast.walk(check.tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            names = [a.name for a in node.names] if isinstance(node, ast.ImportFrom) else []
            if any(m.split(".")[0] in ("mock", "pytest") or m == "unittest.mock" for m in modules) or "mock" in names:
                yield node, text
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            if isinstance(target, ast.Attribute) and root(target) in check.imports:
                yield node, text
        if isinstance(node, ast.Call) and check.dotted(node.func) in ("setattr", "delattr") and node.args:
            if root(node.args[0]) in check.imports:
                yield node, text


def warnings(check: Check) -> Found:
    """Warnings do not cross between processes."""
    for node in ast.walk(check.tree):
        if isinstance(node, ast.With):
            names = [check.dotted(i.context_expr.func) for i in node.items if isinstance(i.context_expr, ast.Call)]
            if any(name in ("warnings.catch_warnings", "pytest.warns") for name in names):
                if any(check.of_student(statement) for statement in node.body):
                    yield node, "warnings of the student's code stay in its process: test what it returns or raises."


def transform(check: Check) -> Found:
    """torch.func, jit and compile need the function's code."""
    for call in calls(check.tree):
        name = check.dotted(call.func)
        given = [*call.args, *(k.value for k in call.keywords)]
        if f"{name}.".startswith(_TRANSFORMS) and any(check.of_student(a) for a in given):
            yield call, f"{name} cannot look into the student's function: call it on a batch, or use torch.autograd."


def captured(check: Check) -> Found:
    """A function that is sent over shows the student what it takes along."""
    expected = {root(e) for v in check.verdicts() for e in v.expected} - check.results - check.functions.keys()
    for call, arguments in check.sent():
        taken = {name for a in arguments for name in check.captured(a)}
        for name in sorted(taken):
            if name in expected or (_EXPECTED.match(name) and name not in check.results):
                yield (
                    call,
                    (
                        f"a function sent to the student takes `{name}` along, an expected value: "
                        "wrap the function in student.opaque, or hand over only what it needs."
                    ),
                )


def counting(check: Check) -> Found:
    """A function that is sent over is a copy: what it counts is counted there."""
    for call, arguments in check.sent():
        for function in [f for a in arguments for f in check.local_functions(a)]:
            outside = reads(function)
            for node in ast.walk(function):
                target = ""
                if isinstance(node, (ast.Nonlocal, ast.Global)):
                    target = node.names[0]
                elif isinstance(node, (ast.Assign, ast.AugAssign)):
                    places = node.targets if isinstance(node, ast.Assign) else [node.target]
                    target = next((root(p) for p in places if not isinstance(p, ast.Name) and root(p) in outside), "")
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    if node.func.attr in _MUTATORS and root(node.func) in outside - check.imports.keys():
                        target = root(node.func)
                if target:
                    yield call, f"the student's process has its own copy of `{target}`: use student.opaque(function)."
                    break


def claim(check: Check) -> Found:
    """What the student's side says about itself decides alone."""
    claimed = check.spread(set(), lambda node, names: check.mentions(node, names, CLAIMS))
    found = [v for v in check.verdicts() if check.of_student(v.node)]
    if found and all(
        (isinstance(v.node, ast.Call) and check.helper(v.node) == "expect_unchanged")
        or any(check.mentions(side, claimed, CLAIMS) for side in v.looked_at)
        for v in found
    ):
        yield found[0].node, "this alone is the student's claim: compare a returned value as well."


def unchanged(check: Check) -> Found:
    """The student works on a copy: what was passed looks the same afterwards."""
    sent = [(call, {n for a in arguments for n in handed(a)} - check.results) for call, arguments in check.sent()]
    backward = any(isinstance(c.func, ast.Attribute) and c.func.attr == "backward" for c in calls(check.tree))
    for verdict in check.verdicts():
        looked_at = verdict.looked_at
        if isinstance(verdict.node, (ast.Assert, ast.If)):
            compared = [n for n in ast.walk(looked_at[0]) if isinstance(n, ast.Compare)]
            pairs = [n for n in calls(looked_at[0]) if check.dotted(n.func) in ("torch.equal", "numpy.array_equal")]
            looked_at = tuple(
                [s for n in compared for s in (n.left, *n.comparators)] + [a for n in pairs for a in n.args]
            )
        elif check.helper(verdict.node) in ("expect_unchanged", "expect_raises"):
            continue
        for side in looked_at:
            if isinstance(side, ast.Call) and isinstance(side.func, ast.Name):
                continue  # computed from it
            gradient = backward and any(isinstance(n, ast.Attribute) and n.attr == "grad" for n in ast.walk(side))
            for call, names in sent:
                name = root(side)
                rebound = any(call.end_lineno < line <= verdict.node.lineno for line in check.bound.get(name, []))
                if name in names and call.end_lineno < verdict.node.lineno and not rebound and not gradient:
                    yield (
                        verdict.node,
                        (
                            f"the call got a copy of `{name}`, so here it is as it was: use expect_unchanged, "
                            "or student.opaque to count."
                        ),
                    )
                    break


def time(check: Check) -> Found:
    """A busy machine must not cost points."""
    for call in calls(check.tree):
        name = check.dotted(call.func)
        if name.startswith(_CLOCKS):
            yield call, f"{name} makes the verdict depend on the machine: count calls or steps instead."


def random(check: Check) -> Found:
    """The same answer must get the same points each time."""
    for call in calls(check.tree):
        name, keywords = check.dotted(call.func), {k.arg for k in call.keywords}
        last = name.split(".")[-1]
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if name in ("torch.manual_seed", "torch.seed", "numpy.random.seed", "random.seed"):
            yield call, f"{name} seeds this process alone: pass a torch.Generator."
        elif name.startswith("torch.") and name.count(".") == 1 and last in _RANDOM and "generator" not in keywords:
            yield call, f"{name} without a generator gives other numbers each time: generator=torch.Generator()."
        elif name.startswith("torch.") and last in ("rand_like", "randn_like", "randint_like"):
            yield call, f"{name} takes no generator: draw with torch.{last.removesuffix('_like')}."
        elif method in _RANDOM_METHODS and "generator" not in keywords:
            yield call, f".{method} without a generator gives other numbers each time."
        elif name == "numpy.random.default_rng" and not call.args and not keywords:
            yield call, "default_rng without a seed gives other numbers each time."
        elif name.startswith(("numpy.random.", "random.")) and last[0].islower() and last != "default_rng":
            yield call, f"{name} gives other numbers each time: use a seeded generator."


RULES: dict[str, Callable[[Check], Found]] = {
    rule.__name__: rule
    for rule in (
        idle,
        message,
        weak,
        visible,
        expression,
        generator,
        identity,
        patch,
        warnings,
        transform,
        captured,
        counting,
        claim,
        unchanged,
        time,
        random,
    )
}
