"""What went wrong, in words for whoever wrote the answer: of each check, and of whatever a cell raised."""

import re
from collections.abc import Sequence
from itertools import takewhile

from nbconvert.filters import strip_ansi
from nbformat import NotebookNode

from ..kernels.task import DEAD, NOT_RUN, TIMEOUT
from ..notebook import grade_id, is_answer, is_check, question
from .text import short

NOT_ANSWERED = "Not answered yet"  # what is said of an untouched stub begins with this
STOPPED = "KeyboardInterrupt"  # what the engine's interrupt is named in a student's cell
ENDED = {
    DEAD: "The kernel died while your notebook ran; below it says where. What could not run gave no points.",
    TIMEOUT: "Your notebook took too long and was stopped; the cells and checks below say where.",
}
_BY_ENGINE = (TIMEOUT, DEAD, NOT_RUN)
_UNREADABLE = ("SyntaxError", "IndentationError", "TabError")
_NO_INPUT = (
    "Nobody answers input() while a notebook is graded: write the value into the code, or take it as an argument."
)
_NO_RETURN = "Your function gave nothing (None): is a return missing?"
_FRAME = re.compile(r"\s*(?:Cell |Input )?In\s?\[(?P<cell>\d{1,6})\](?:, line (?P<line>\d{1,6})(?P<inside>, in )?)?")


def ended(nb: NotebookNode) -> list[str]:
    """Return what the engine had to end while a notebook ran, a sentence for each kind.

    Args:
        nb: the executed notebook.
    """
    kinds = set()
    for out in (out for cell in nb.cells for out in errors(cell)):
        used_up = out.ename == NOT_RUN and "seconds" in out.evalue
        kinds.add(TIMEOUT if used_up else out.ename)
    return [sentence for kind, sentence in ENDED.items() if kind in kinds]


def errors(cell: NotebookNode) -> list[NotebookNode]:
    """Return a cell's outputs that are errors."""
    return [out for out in cell.get("outputs", []) if out.output_type == "error"]


# --- one error -----------------------------------------------------------------------------------------------------
def raised(out: NotebookNode, cell: NotebookNode, *, own: bool = False) -> str:
    """Return what an error says.

    Args:
        out: the error.
        cell: the executed cell that it is an output of.
        own: whether the cell is the student's; else it called a function of theirs.
    """
    text = strip_ansi(out.evalue).strip()
    if out.ename in _BY_ENGINE:
        late = "This cell had not ended" if own else "Your function had not returned"
        return short(re.sub(r"^Stopped( after \d+ seconds)\.", rf"{late}\1. Is there a loop that never ends?", text))
    if out.ename == STOPPED:
        return "Stopped."
    if out.ename in _UNREADABLE:
        text = re.sub(r" \([^()]*, (line \d+)\)$", r", \1", text)  # the file is the cell
    if (out.ename, text) == ("EOFError", "EOF when reading a line") or out.ename == "StdinNotImplementedError":
        return _NO_INPUT
    if not own and out.ename in ("TypeError", "AttributeError") and "NoneType" in text and not frames(out, cell):
        text = f"{text}. {_NO_RETURN}"
    return short(f"{out.ename}: {text}" if text else out.ename)


def frames(out: NotebookNode, cell: NotebookNode) -> dict[str, int]:
    """Return the frames of an error that lie in other cells than the one it is an output of, and their cells' numbers.

    Args:
        out: the error.
        cell: the executed cell that it is an output of.
    """
    found = {}
    for frame in map(strip_ansi, out.traceback):
        match = _FRAME.match(frame)
        if match and int(match["cell"]) != cell.execution_count:
            found[frame.strip()] = int(match["cell"])
    return found


# --- one check -----------------------------------------------------------------------------------------------------
def message(cell: NotebookNode) -> str:
    """Return what an executed check said in a sentence, or nothing where it ran to its end.

    Args:
        cell: the check.
    """
    failed = errors(cell)
    if not failed:
        return ""
    out = next((out for out in failed if out.ename in _BY_ENGINE), failed[-1])
    text = strip_ansi(out.evalue).strip()
    if out.ename == "NotImplementedError" and not text:
        return f"{NOT_ANSWERED}: the function still raises NotImplementedError."
    if out.ename == "AssertionError":
        return short(text or "The check's condition does not hold.")
    return raised(out, cell)


def without_expected(text: str) -> str:
    """Return a message without the value that a hidden test expects, nor how far off the answer is.

    >>> without_expected("F is wrong: got 2.5, expected 3.25. Did you halve it?")
    'F is wrong: got 2.5 (the expected value is hidden). Did you halve it?'
    >>> without_expected("The largest difference is 6, at index (0, 0): got -5.6, expected 0.4.")
    'The largest difference is at index (0, 0): got -5.6 (the expected value is hidden).'
    """
    text = re.sub(r"(largest difference is) \S+, (?=at index)", r"\1 ", text)
    return re.sub(r", expected \S+?(?=\.(\s|$))", " (the expected value is hidden)", text)


def stopped_in_sight(cell: NotebookNode, given: NotebookNode) -> bool:
    """Return whether a check failed in a line that students were handed, before anything hidden could run.

    Args:
        cell: the executed check, with its hidden tests.
        given: the check as it was handed out.
    """
    lines = cell.source.splitlines()
    pairs = zip(lines, given.source.splitlines(), strict=False)
    seen = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
    if seen < len(lines) and lines[seen][:1].isspace():
        return False  # hidden lines in a visible loop may have run already
    own = [_FRAME.match(strip_ansi(frame)) for out in errors(cell) for frame in out.traceback]
    own = [frame for frame in own if frame and int(frame["cell"]) == cell.execution_count]
    # What counts is the line of the cell itself; a visible function may have been called by a hidden line.
    return any(frame["line"] and not frame["inside"] for frame in own) and all(
        frame["line"] and int(frame["line"]) <= seen for frame in own
    )


# --- all checks ----------------------------------------------------------------------------------------------------
def messages(nb: NotebookNode, release: NotebookNode, notes: Sequence[str] = ()) -> dict[str, str]:
    """Return what each check of an executed notebook said, by grade id; where a name is not there, why not.

    Args:
        nb: the executed notebook.
        release: the set as it is handed out, whose stubs say which names are asked.
        notes: what was mended, one sentence each.
    """
    answers = {question(cell): cell for cell in nb.cells if is_answer(cell)}
    asked = {name: question(cell) for cell in release.cells if is_answer(cell) for name in _defined(cell)}
    gone = lost(nb, notes)
    told: dict[str, str] = {}
    explained: set[tuple[str, str]] = set()
    for cell in filter(is_check, nb.cells):
        q, said, name = question(cell), message(cell), _name_not_there(cell)
        if said.startswith(NOT_ANSWERED) and q in gone:
            said = "Your notebook has no answer cell for this question."
        elif name in asked and asked[name] != q:
            said = f"This needs `{name}`, which your answer to {asked[name]} does not define."
        elif name in asked and q in answers and (why := _why_not_there(name, answers[q])):
            said = f"`{name}` is not there: see above." if (q, why) in explained else why
            explained.add((q, why))
        told[grade_id(cell)] = said
    return told


def lost(nb: NotebookNode, notes: Sequence[str]) -> set[str]:
    """Return the questions whose answer cell was missing and was put back.

    Args:
        nb: the mended notebook.
        notes: what was mended, one sentence each.
    """
    missing = " ".join(note for note in notes if "missing" in note)
    return {question(cell) for cell in nb.cells if is_answer(cell) and re.search(rf"\b{grade_id(cell)}\b", missing)}


def _defined(cell: NotebookNode) -> list[str]:
    """Return the names that a cell defines. A pattern finds them: no student's source is given to Python's parser."""
    if cell.cell_type != "code":
        return []
    found = re.findall(r"^(?:(?:async +)?def|class) +(\w+)|^(\w+) *(?::[^=\n]*)?=(?!=)", cell.source, re.MULTILINE)
    return list(dict.fromkeys(function or variable for function, variable in found))


def _name_not_there(cell: NotebookNode) -> str | None:
    """Return the name that a check looked for in vain."""
    said = [f"{out.ename}: {strip_ansi(out.evalue)}" for out in errors(cell)]
    pattern = r"NameError: name '(\w+)' is not defined|AssertionError: your notebook must define `(\w+)`\.$"
    found = re.match(pattern, said[-1]) if said else None
    return found and (found[1] or found[2])


def _why_not_there(name: str, answer: NotebookNode) -> str:
    """Return why an executed answer cell did not define a name, or nothing where nobody knows."""
    failed = [out for out in errors(answer) if out.ename != STOPPED] or errors(answer)
    if failed and failed[-1].ename == "NotImplementedError":
        return f"{NOT_ANSWERED}: your answer cell still raises NotImplementedError."
    if failed:
        why = raised(failed[-1], answer, own=True)
        if not why.startswith(failed[-1].ename):
            why = f"{why[:1].lower()}{why[1:]}"  # it is a sentence of ours
        how_far = "" if failed[-1].ename in _UNREADABLE else " to its end"
        return short(f"Your answer cell did not run{how_far}: {why}")
    if not answer.source.strip():
        return f"{NOT_ANSWERED}: your answer cell is empty."
    names = _defined(answer)
    if name in names:
        return ""
    defines = " and ".join(f"`{n[:60]}`" for n in names[:5]) or "no function"
    return f"Your answer defines {defines}; asked is `{name}`."
