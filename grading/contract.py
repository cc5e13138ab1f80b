"""Which names a set's checks take from the student: settled on the instructor's notebook, kept with the release.

Locked cells without points run for the student and for the examiner, checks for the examiner alone, all else for the
student alone. So a name in a check means what an earlier locked cell or check made of it, or else what the student's
answer defines. A helper that the author forgot must not become a name that a student may supply: only what the
reference answers define can be the student's.
"""

import ast
import builtins
import hashlib
import importlib.util
import json
import symtable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from . import notebook
from .course import Course, GradingError
from .notebook import grade_id, is_answer, is_check, is_given

FILE = "contract.json"
_EVERYWHERE = frozenset(dir(builtins)) | {"display", "get_ipython", "__name__", "__doc__"}


@dataclass(frozen=True)
class Contract:
    """What a set's checks and the student's code may take from each other.

    Args:
        remote: names that each check takes from the student, by grade id.
        handles: expressions that may yield an opaque handle, by grade id.
        forbidden: what is not there for the student: ``ebm_lib.inference`` or ``ebm_lib.energy:gibbs``.
        source: the hash of the instructor's notebook it was made from.
    """

    remote: dict[str, list[str]]
    handles: dict[str, list[str]] = field(default_factory=dict)
    forbidden: list[str] = field(default_factory=list)
    source: str = ""


# --- names ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Names:
    """The global names of a cell.

    Args:
        reads: read somewhere in it, in functions and classes too.
        binds: given a value by it.
    """

    reads: frozenset[str]
    binds: frozenset[str]


def python(cell: NotebookNode) -> str:
    """Return a code cell as plain Python, its magics turned into calls.

    Args:
        cell: a code cell.
    """
    return TransformerManager().transform_cell(cell.source)


def names(cell: NotebookNode) -> Names:
    """Return the global names that a code cell reads and binds.

    Args:
        cell: a code cell.

    Raises:
        GradingError: it is no Python, hides its names in a cell magic, or imports all that a module has.
    """
    where = describe(cell)
    if cell.source.lstrip().startswith("%%") and not is_given(cell):
        raise GradingError(f"{where} begins with a cell magic ({cell.source.split()[0]}): write plain Python.")
    source = python(cell)
    try:
        table, tree = symtable.symtable(source, "<cell>", "exec"), ast.parse(source)
    except SyntaxError as e:
        raise GradingError(f"{where} is no valid Python, line {e.lineno}: {e.msg}.") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            raise GradingError(f"{where} imports * from {node.module}: name what it takes.")
    reads, binds, tables = set(), set(), [table]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (top or symbol.is_global()):
                reads.add(symbol.get_name())
            if (symbol.is_assigned() or symbol.is_imported()) and (top or symbol.is_declared_global()):
                binds.add(symbol.get_name())
    return Names(frozenset(reads), frozenset(binds))


def describe(cell: NotebookNode) -> str:
    """Return what to call a cell in a message."""
    if is_check(cell):
        return f"check {grade_id(cell)}"
    if is_answer(cell):
        return f"the reference answer {grade_id(cell)}"
    if is_given(cell):
        return f"given cell {grade_id(cell)}"
    return f"editable cell {cell.get('id', '')!r}"


def remote_names(nb: NotebookNode) -> dict[str, list[str]]:
    """Return the names that each check takes from the student.

    Args:
        nb: the instructor's notebook.

    Returns:
        Names in alphabetical order, by the check's grade id, for every check.

    Raises:
        GradingError: a check, or a cell that runs for the student, needs a name that will not be there, or a name
            would mean one thing to the student and another to the check.
    """
    remote, problems = settle(nb)
    for _, message in problems:
        raise GradingError(message)
    return remote


def settle(nb: NotebookNode) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """Return the names that each check takes from the student, and everything that is wrong with names.

    Args:
        nb: the instructor's notebook.

    Returns:
        Names by the check's grade id; problems as (grade id or cell id, message).

    Raises:
        GradingError: a cell whose names cannot be known.
    """
    cells = [(cell, names(cell)) for cell in nb.cells if cell.cell_type == "code"]
    given, answers, checks, loose = ({}, {}, {}, {})  # where each name is bound
    for cell, its in cells:
        home = given if is_given(cell) else answers if is_answer(cell) else checks if is_check(cell) else loose
        home.update(dict.fromkeys(its.binds, describe(cell)))
    imported = _imported(cells)
    remote: dict[str, list[str]] = {}
    problems: list[tuple[str, str]] = []
    trusted, answered = set(_EVERYWHERE), set()  # what is bound so far
    for cell, its in cells:
        where, free = describe(cell), its.reads - its.binds
        told = []
        if is_check(cell):
            told += [
                f"binds `{name}`, which {answers[name]} defines: checks need names of their own."
                for name in sorted(its.binds & answers.keys())
            ]
            told += [
                f"uses `{name}`, which {given[name]} defines and {answers[name]} defines anew: "
                "give them different names."
                for name in sorted(free & given.keys() & answers.keys() - imported)
            ]
            told += [
                f"uses `{name}`, which {_missing(name, {**answers, **given}, loose)}."
                for name in sorted(free - trusted - answered)
            ]
            remote[grade_id(cell)] = sorted((free & answered) - trusted)
            trusted |= its.binds
        else:
            elsewhere = given.keys() | answers.keys() | loose.keys() | _EVERYWHERE
            told += [
                f"needs `{name}`, which only {checks[name]} defines, and checks do not run for the student: "
                "define it in a given cell."
                for name in sorted(free & checks.keys() - elsewhere)
            ]
        if is_given(cell):
            told += [
                f"uses `{name}`, which {answers.get(name) or loose[name]} defines: given cells run for "
                "the examiner too, who has no answers. Use it in a check."
                for name in sorted(free & (answers.keys() | loose.keys()) - given.keys() - _EVERYWHERE)
            ]
            trusted |= its.binds
        elif is_answer(cell):
            answered |= its.binds
        problems += [(grade_id(cell) or cell.get("id", ""), f"{where} {message}") for message in told]
    return remote, problems


def _missing(name: str, later: dict[str, str], loose: dict[str, str]) -> str:
    if name in later:
        return f"is defined only later, by {later[name]}"
    if name in loose:
        return f"only {loose[name]} defines, and a student may delete that: define it in a given cell"
    return "neither a given cell nor the reference answer defines"


def _imported(cells: list[tuple[NotebookNode, Names]]) -> set[str]:
    """Return the names that given cells import: an answer may well import them again."""
    return {
        alias.asname or alias.name.split(".")[0]
        for cell, _ in cells
        if is_given(cell)
        for node in ast.walk(ast.parse(python(cell)))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }


# --- the contract --------------------------------------------------------------------------------------------------
def draft(nb: NotebookNode) -> Contract:
    """Return the contract of a set, but for its handles, which only a run of the reference solution can tell.

    Args:
        nb: the instructor's notebook.

    Raises:
        GradingError: a name of a check is nobody's, or what is forbidden does not exist.
    """
    return Contract(remote_names(nb), {}, forbidden(nb), fingerprint(nb))


def fingerprint(nb: NotebookNode) -> str:
    """Return the hash of what a contract depends on: the code, which cell it is in, and what is forbidden.

    Args:
        nb: the instructor's notebook.
    """
    code = [[grade_id(c), is_given(c), is_check(c), c.source] for c in nb.cells if c.cell_type == "code"]
    text = json.dumps([code, nb.metadata.get("grading", {})], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def forbidden(nb: NotebookNode) -> list[str]:
    """Return what a set's students may not import: the notebook's metadata, ``{"grading": {"forbidden": [...]}}``.

    Args:
        nb: the instructor's notebook.

    Returns:
        Modules, as ``ebm_lib.inference``, and functions and classes in them, as ``ebm_lib.energy:gibbs``.

    Raises:
        GradingError: an entry that does not exist.
    """
    entries = nb.metadata.get("grading", {}).get("forbidden", [])
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise GradingError(f"the notebook's metadata grading.forbidden must be a list of strings, got {entries!r}.")
    for entry in entries:
        module, _, name = entry.partition(":")
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            raise GradingError(f"forbidden is {entry!r}, but there is no module {module!r}.")
        if ":" in entry:
            redact(Path(spec.origin or "").read_text(encoding="utf-8"), [name], "")
    return sorted(set(entries))


def redact(module_source: str, names: list[str], reason: str) -> str:
    r"""Return a module's source in which some functions and classes only say that they are not available.

    Args:
        module_source: the module's source.
        names: functions and classes at its top level; signatures, decorators and base classes stay.
        reason: what the ImportError says when one is called.

    Raises:
        GradingError: one of these names is no function or class there.

    >>> print(redact("def double(x: int) -> int:\n    return 2 * x\n", ["double"], "not for ps01"))
    def double(x: int) -> int:
        raise ImportError('not for ps01')
    <BLANKLINE>
    """
    lines = module_source.splitlines(keepends=True)
    nodes = [n for n in ast.parse(module_source).body if getattr(n, "name", None) in names]
    for name in names:
        if name not in [node.name for node in nodes]:
            raise GradingError(f"{name!r} is forbidden, but is no function or class at the top of its module.")
    for node in reversed(nodes):
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        stop = f"raise ImportError({reason!r})"
        if isinstance(node, ast.ClassDef):
            node.bases = [base for base in node.bases if ast.unparse(base) != "NamedTuple"]  # allows no __init__
            stop = f"def __init__(self, *args, **kwargs):\n    {stop}"
        node.body = ast.parse(stop).body
        lines[first - 1 : node.end_lineno] = [f"{ast.unparse(node)}\n"]
    return "".join(lines)


def path(course: Course, ps: str) -> Path:
    """Return where a set's contract is kept."""
    return course.source(ps).parent / FILE


def read(course: Course, ps: str) -> Contract:
    """Return the contract a set was released with.

    Args:
        course: the course.
        ps: the set's name.

    Raises:
        GradingError: unknown set, no contract, or the notebook's code has changed since.
    """
    try:
        contract = Contract(**json.loads(path(course, ps).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise GradingError(f"{ps} has no {FILE}: run `python -m grading release {ps}` first.") from None
    except (ValueError, TypeError) as e:
        raise GradingError(f"solutions/{ps}/{FILE} is damaged ({e}): run `python -m grading release {ps}`.") from None
    if contract.source != fingerprint(notebook.read(course.source(ps))):
        raise GradingError(f"{ps} has changed since its release: run `python -m grading release {ps}` again.")
    return contract


def write(course: Course, ps: str, contract: Contract) -> Path:
    """Keep a set's contract next to its notebook, as the same bytes each time.

    Args:
        course: the course.
        ps: the set's name.
        contract: what to keep.

    Returns:
        The file.
    """
    plain = {**asdict(contract), "forbidden": sorted(contract.forbidden)}
    for part in ("remote", "handles"):
        plain[part] = {check: sorted(set(values)) for check, values in plain[part].items()}
    text = json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False)
    path(course, ps).write_text(f"{text}\n", encoding="utf-8")
    return path(course, ps)
