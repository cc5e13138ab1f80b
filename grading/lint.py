"""What is likely to be wrong with a set's checks, found before any student meets them.

A line that is right as it is says so: ``# lint: ok <rule> (why)``.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nbformat import NotebookNode

from .contract import names, python, settle
from .course import Course, GradingError
from .lint_flow import Check, imported
from .lint_rules import RULES
from .notebook import answer_cell, code_questions, grade_id, is_check, is_given, is_manual, points, read

_ESCAPE = re.compile(r"#\s*lint:\s*ok\b[ \t]*([\w-]*)[ \t]*(\((.*)\))?")
_OF_THE_SET = ("names", "corpus", "points", "escape")


@dataclass(frozen=True, order=True)
class Finding:
    """Something to mend, or to excuse.

    Args:
        cell: the cell's grade id.
        line: its line there, from 1.
        rule: what is broken.
        message: what is wrong and what to do.
    """

    cell: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.cell}:{self.line}: {self.message} [{self.rule}]"


def lint(course: Course, ps: str) -> list[Finding]:
    """Look through a set's checks.

    Args:
        course: the course.
        ps: the set's name.

    Returns:
        Findings in the order of the notebook.

    Raises:
        GradingError: unknown set, or a notebook that cannot be read.
    """
    return lint_notebook(read(course.source(ps)), corpus=_without_corpus(course, ps))


def lint_notebook(nb: NotebookNode, *, corpus: Callable[[str], list[str]] = lambda q: []) -> list[Finding]:
    """Look through an instructor's notebook.

    Args:
        nb: the notebook.
        corpus: says what kinds of known answers a question lacks.

    Returns:
        Findings in the order of the notebook.
    """
    cells = {grade_id(c) or c.get("id", ""): c for c in nb.cells}
    found: list[tuple[str, ast.AST | None, str, str]] = []
    try:
        remote, problems = settle(nb)
    except GradingError as e:
        return [Finding(_blamed(nb), 1, "names", str(e))]
    found += [(name, None, "names", message) for name, message in problems]
    imports: dict[str, str] = {}
    for name, cell in cells.items():
        if cell.cell_type == "code" and is_given(cell):
            imports |= imported(ast.parse(python(cell)))
        if is_check(cell):
            check = Check(cell, set(remote[name]), imports)  # adds its own imports, for later checks
            found += [(name, node, rule, text) for rule, look in RULES.items() for node, text in look(check)]
        if (is_check(cell) or is_manual(cell)) and points(cell) <= 0:
            found.append((name, None, "points", "it gives no points: set them in the cell's metadata."))
    for q in code_questions(nb):
        for kind in corpus(q):
            text = (
                f"question {q} has no {kind}_*.py in its corpus: nothing shows that its checks tell right from wrong."
            )
            found.append((grade_id(answer_cell(nb, q)), None, "corpus", text))
    kept = [f for f in found if not _excused(cells[f[0]], f[1], f[2])]
    kept += [(name, node, "escape", text) for name, cell in cells.items() for node, text in _bad_escapes(cell)]
    order = list(cells)
    made = [Finding(name, getattr(node, "lineno", 1), rule, text) for name, node, rule, text in kept]
    return sorted(set(made), key=lambda f: (order.index(f.cell), f.line, f.rule, f.message))


def _without_corpus(course: Course, ps: str) -> Callable[[str], list[str]]:
    def missing(q: str) -> list[str]:
        return [kind for kind in ("right", "wrong") if not any((course.corpus(ps) / q).glob(f"{kind}_*.py"))]

    return missing


def _blamed(nb: NotebookNode) -> str:
    """Return the cell whose names cannot be known."""
    for cell in nb.cells:
        if cell.cell_type == "code":
            try:
                names(cell)
            except GradingError:
                return grade_id(cell) or cell.get("id", "")
    raise AssertionError("unreachable: some cell was refused")


def _excused(cell: NotebookNode, node: ast.AST | None, rule: str) -> bool:
    """Return whether a line of what was found says that it is right."""
    lines = cell.source.splitlines()
    if node is not None:
        lines = lines[node.lineno - 1 : node.end_lineno]
    return any(m[1] == rule and m[3] for line in lines for m in _ESCAPE.finditer(line))


def _bad_escapes(cell: NotebookNode) -> Iterator[tuple[ast.AST | None, str]]:
    known = [*RULES, *_OF_THE_SET]
    for number, line in enumerate(cell.source.splitlines() if cell.cell_type == "code" else (), start=1):
        for m in _ESCAPE.finditer(line):
            node = ast.Pass(lineno=number, end_lineno=number)
            if m[1] not in known:
                yield node, f"there is no rule {m[1]!r}: there are {', '.join(known)}."
            elif not m[3]:
                yield node, f"say why: # lint: ok {m[1]} (reason)."
