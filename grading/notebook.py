"""Notebooks as problem sets: which cells are locked, which are answers, which are checks, and to which question."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.validator import ValidationError

from .cells import flag, grade_id, is_answer, is_check, is_given, is_manual, points, question
from .course import GradingError

__all__ = [
    "answer_cell", "code_questions", "grade_id", "is_answer", "is_check", "is_given", "is_manual", "marked", "parse",
    "points", "question", "questions", "read",
]  # fmt: skip

_LARGEST = 50_000_000  # bytes; a notebook with figures stays below a tenth of it


def read(path: Path) -> NotebookNode:
    """Return a notebook, checked against the format and brought up to version 4.5.

    Args:
        path: the file.

    Raises:
        GradingError: it cannot be read as a notebook; the message says why.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise GradingError(
                f"{path.name} has {size / 1e6:.0f} MB, more than {_LARGEST / 1e6:.0f}: clear its outputs."
            )
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise GradingError(f"{path.name} is not a notebook: it is not UTF-8 text.") from None
    except OSError as e:
        raise GradingError(f"{path.name} cannot be read: {e.strerror}.") from None
    return parse(text, path.name)


def parse(text: str, name: str) -> NotebookNode:
    """Return a notebook from its JSON, checked against the format and brought up to version 4.5.

    Args:
        text: the JSON.
        name: the file's name, for messages.

    Raises:
        GradingError: it is no notebook; the message says why.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as e:
        where = f" (line {e.lineno})" if isinstance(e, json.JSONDecodeError) else ""
        raise GradingError(f"{name} is not a notebook: it is not valid JSON{where}. Save it again.") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about cell ids, which are settled below
            nb = nbformat.convert(nbformat.reads(json.dumps(_with_ids(raw)), as_version=nbformat.NO_CONVERT), 4)
            nbformat.validate(nb, version=4)
    except (ValidationError, nbformat.reader.NotJSONError, AttributeError, KeyError, TypeError, ValueError) as e:
        reason = str(e).strip().splitlines()[0][:200] if str(e).strip() else type(e).__name__
        raise GradingError(f"{name} is not a valid notebook: {reason}") from None
    return nb


def _with_ids(raw: dict) -> dict:
    """Give each cell an id of its own, the same one each time; nbformat would draw them at random."""
    if raw["nbformat"] == 4:
        seen: set[str] = set()
        for i, cell in enumerate(raw["cells"]):
            if not isinstance(cell.get("id"), str) or cell["id"] in seen:
                cell["id"] = f"cell-{i}"
            seen.add(cell["id"])
        raw["nbformat_minor"] = max(5, raw["nbformat_minor"])
    return raw


def questions(nb: NotebookNode) -> list[str]:
    """Return a set's questions in the order of the notebook."""
    return list(dict.fromkeys(q for cell in nb.cells if (q := question(cell))))


def code_questions(nb: NotebookNode) -> list[str]:
    """Return the questions that are answered by code and scored by checks."""
    checked = {question(cell) for cell in nb.cells if is_check(cell)}
    return [q for q in questions(nb) if q in checked]


def answer_cell(nb: NotebookNode, q: str) -> NotebookNode:
    """Return the one cell in which a question is answered.

    Raises:
        GradingError: the question has no such cell, or several.
    """
    found = [cell for cell in nb.cells if is_answer(cell) and question(cell) == q]
    if len(found) != 1:
        raise GradingError(f"question {q} must have one answer cell, found {len(found)}.")
    return found[0]


def marked(nb: NotebookNode) -> Iterator[NotebookNode]:
    """Yield the cells that nbgrader knows by name."""
    return (cell for cell in nb.cells if grade_id(cell) and any(flag(cell, f) for f in ("grade", "solution", "locked")))
