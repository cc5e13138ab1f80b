"""What flows where in a check: what came from the student, what goes to the student, what decides."""

import ast
import builtins
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from nbformat import NotebookNode

from .contract import python

_FILLING = {"append", "add", "extend", "insert", "update", "setdefault", "appendleft"}
# Helpers that look at the student's side: what they say is the student's claim.
CLAIMS = {"run", "eval", "mutated", "signature", "source", "attr"}


@dataclass(frozen=True)
class Verdict:
    """A place where a check can fail.

    Args:
        node: the statement or call.
        looked_at: the expressions that decide, without the expected ones.
        expected: what they are compared with, where that is known.
    """

    node: ast.AST
    looked_at: tuple[ast.expr, ...]
    expected: tuple[ast.expr, ...] = ()


@dataclass
class Check:
    """A check's syntax tree, and what follows from it.

    Args:
        cell: the check.
        remote: the names it takes from the student.
        imports: what imported names stand for, such as ``np`` for ``numpy``: of the cells before it; its own are added.
    """

    cell: NotebookNode
    remote: set[str]
    imports: dict[str, str]
    tree: ast.Module = field(init=False)
    results: set[str] = field(init=False)  # names that hold something of the student's
    functions: dict[str, ast.FunctionDef | ast.ClassDef] = field(init=False)  # its own
    values: dict[str, list[ast.expr]] = field(init=False)  # what names are made of
    bound: dict[str, list[int]] = field(init=False)  # the lines where they are

    def __post_init__(self) -> None:
        self.tree = ast.parse(python(self.cell))
        self.imports.update(imported(self.tree))
        self.results = self.spread(set(self.remote), self.of_student)
        self.functions = {
            node.name: node for node in self.tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        }
        self.values, self.bound = {}, {}
        for names, value in bindings(self.tree):
            for name in names:
                self.values.setdefault(name, []).append(value)
                self.bound.setdefault(name, []).append(value.end_lineno or value.lineno)

    def spread(self, found: set[str], is_one: Callable[[ast.AST, set[str]], bool]) -> set[str]:
        """Return the names that something spreads to by assignment, and the functions that use such names.

        Args:
            found: the names it starts from.
            is_one: whether an expression has it, given the names found so far.
        """
        before = -1
        while len(found) > before:
            before = len(found)
            for names, value in bindings(self.tree):
                if is_one(value, found):
                    found.update(names)
            for node in ast.walk(self.tree):
                if isinstance(node, ast.FunctionDef) and reads(node) & found:
                    found.add(node.name)
        return found

    def of_student(self, node: ast.AST, among: set[str] | None = None) -> bool:
        """Return whether an expression has anything of the student's in it."""
        return self.mentions(node, self.results if among is None else among, CLAIMS | {"get", "take"})

    def mentions(self, node: ast.AST, names: set[str], helpers: set[str]) -> bool:
        """Return whether one of these names is in an expression, or a call of one of these helpers."""
        return any(
            (isinstance(n, ast.Name) and n.id in names) or (isinstance(n, ast.Call) and self.helper(n) in helpers)
            for n in ast.walk(node)
        )

    def dotted(self, node: ast.AST) -> str:
        """Return what a name, or an attribute of something imported, stands for: ``torch.func.grad``; else nothing."""
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value) if root(node.value) in self.imports else ""
            return f"{base}.{node.attr}" if base else ""
        return self.imports.get(node.id, node.id) if isinstance(node, ast.Name) else ""

    def helper(self, call: ast.Call) -> str:
        """Return the name of the `student` helper, or of the `expect_` function, that is called; or nothing."""
        name = self.dotted(call.func)
        if name.startswith("ebm_lib.check.student."):
            return name.removeprefix("ebm_lib.check.student.")
        return name.removeprefix("ebm_lib.check.") if "expect_" in name else ""

    def sent(self) -> Iterator[tuple[ast.Call, list[ast.expr]]]:
        """Yield the calls that reach the student, with the arguments that go there."""
        for call in calls(self.tree):
            given = [*call.args, *(k.value for k in call.keywords)]
            helper = self.helper(call)
            if helper in {"expect_unchanged", "expect_raises"} | CLAIMS | {"set"}:
                yield call, [a for a in given if not (isinstance(a, ast.Name) and a.id in self.remote)]
            elif root(call.func) in self.results and not helper:
                yield call, given

    def verdicts(self) -> Iterator[Verdict]:
        """Yield where the check can fail."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assert):
                yield Verdict(node, (node.test,))
            elif isinstance(node, ast.If) and any(isinstance(n, ast.Raise) for n in node.body):
                yield Verdict(node, (node.test,))
            elif isinstance(node, ast.Call) and self.helper(node).startswith("expect_") and node.args:
                if self.helper(node) in ("expect_raises", "expect_unchanged"):
                    yield Verdict(node, (node.args[0],))
                else:
                    yield Verdict(node, (node.args[0],), tuple(node.args[1:2]) + _keyword(node, "expected"))

    def captured(self, expression: ast.expr) -> set[str]:
        """Return the names of the check that a function in this expression takes along, and what those take along."""
        found: set[str] = set()
        open_ends: list[ast.AST] = [expression]
        while open_ends:
            node = open_ends.pop()
            if isinstance(node, ast.Call) and self.helper(node) == "opaque":
                continue  # it stays in the examiner's process
            new: set[str] = set()
            if isinstance(node, (ast.Lambda, ast.FunctionDef, ast.ClassDef)):
                new = reads(node) - found
                found |= new
            elif isinstance(node, ast.Name):
                new = {node.id}
            else:
                open_ends += ast.iter_child_nodes(node)
            for name in new:
                inside = [self.functions[name]] if name in self.functions else self.values.get(name, [])
                open_ends += [n for n in inside if name in self.functions or self._holds_function(n)]
        return found - set(dir(builtins)) - self.imports.keys()

    def _holds_function(self, value: ast.expr) -> bool:
        names = (n.id for n in ast.walk(value) if isinstance(n, ast.Name))
        made = any(isinstance(n, ast.Lambda) for n in ast.walk(value)) or any(n in self.functions for n in names)
        return made and not self.of_student(value)

    def local_functions(self, expression: ast.expr) -> list[ast.AST]:
        """Return the functions of the check that an expression hands over, not those that stay opaque."""
        if isinstance(expression, ast.Call) and self.helper(expression) == "opaque":
            return []
        if isinstance(expression, ast.Name):
            if expression.id in self.functions:
                return [self.functions[expression.id]]
            return [f for v in self.values.get(expression.id, []) if isinstance(v, ast.Lambda) for f in [v]]
        if isinstance(expression, ast.Lambda):
            return [expression]
        return [f for part in ast.iter_child_nodes(expression) for f in self.local_functions(part)]


def _keyword(call: ast.Call, name: str) -> tuple[ast.expr, ...]:
    return tuple(k.value for k in call.keywords if k.arg == name)


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls in a tree."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def imported(tree: ast.AST) -> dict[str, str]:
    """Return what the imports of a tree make of names: ``{"np": "numpy", "grad": "torch.func.grad"}``."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {
                (a.asname or a.name.split(".")[0]): (a.name if a.asname else a.name.split(".")[0]) for a in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            found |= {(a.asname or a.name): f"{node.module}.{a.name}" for a in node.names}
    return found


def bindings(tree: ast.AST) -> Iterator[tuple[set[str], ast.expr]]:
    """Yield names with the expression they get something from, be it by assignment, loop, ``with`` or ``append``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            yield {n for t in node.targets for n in stored(t)}, node.value
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.NamedExpr)) and node.value is not None:
            yield set(stored(node.target)), node.value
        elif isinstance(node, (ast.For, ast.comprehension)):
            yield set(stored(node.target)), node.iter
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            yield set(stored(node.optional_vars)), node.context_expr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _FILLING:
            name = root(node.func.value)
            for value in node.args if name else ():
                yield {name}, value


def stored(target: ast.expr) -> Iterable[str]:
    """Return the names that an assignment's target changes: of ``a, b[0]`` both."""
    if isinstance(target, (ast.Tuple, ast.List)):
        return [name for part in target.elts for name in stored(part)]
    if isinstance(target, ast.Starred):
        return stored(target.value)
    name = root(target)
    return [name] if name else []


def root(node: ast.AST) -> str:
    """Return the name an expression starts from: ``net`` for ``net(x)[0].weight``; empty if there is none."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call, ast.Starred)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def handed(argument: ast.expr) -> set[str]:
    """Return the names whose own values an argument hands over: of ``[x, y.clone()]`` only ``x``."""
    if isinstance(argument, (ast.Attribute, ast.Subscript, ast.Starred)):
        return handed(argument.value)
    if isinstance(argument, (ast.Tuple, ast.List, ast.Dict)):
        return {name for part in ast.iter_child_nodes(argument) for name in handed(part)}
    return {argument.id} if isinstance(argument, ast.Name) else set()


def reads(node: ast.AST) -> set[str]:
    """Return the names that a function or class takes from outside."""
    inside = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    inside |= {a.arg for a in ast.walk(node) if isinstance(a, ast.arg)}
    inside |= {n.name for n in ast.walk(node) if n is not node and isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)} - inside
