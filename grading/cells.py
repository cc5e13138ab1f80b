"""The cells of a problem set: which are locked, which are answers, which are checks, and to which question.

A cell is a ``NotebookNode`` or the same as a plain dictionary; reading a notebook is :mod:`grading.notebook`'s.
"""

import re
from collections.abc import Mapping
from typing import Any

Cell = Mapping[str, Any]

_QUESTION = re.compile(r"(q\d+)(?!\d)")


def grade_id(cell: Cell) -> str | None:
    """Return the name that nbgrader knows a cell by, or None."""
    mark = cell["metadata"].get("nbgrader")
    name = mark.get("grade_id") if isinstance(mark, dict) else None
    return name if isinstance(name, str) else None


def flag(cell: Cell, name: str) -> bool:
    """Return one of the marks that nbgrader gives a cell."""
    mark = cell["metadata"].get("nbgrader")
    return bool(mark.get(name)) if isinstance(mark, dict) else False


def is_answer(cell: Cell) -> bool:
    """Return whether a student is to write here."""
    return flag(cell, "solution")


def is_check(cell: Cell) -> bool:
    """Return whether a cell is run to give points."""
    return flag(cell, "grade") and not flag(cell, "solution")


def is_manual(cell: Cell) -> bool:
    """Return whether a person gives the points."""
    return flag(cell, "grade") and flag(cell, "solution")


def is_given(cell: Cell) -> bool:
    """Return whether a cell is locked and gives no points: imports, helpers, statements."""
    return flag(cell, "locked") and not flag(cell, "grade") and not flag(cell, "solution")


def points(cell: Cell) -> float:
    """Return what a cell is worth."""
    return float(cell["metadata"]["nbgrader"].get("points", 0)) if flag(cell, "grade") else 0.0


def question(cell: Cell) -> str | None:
    """Return the question a cell belongs to: ``q3`` for the grade ids ``q3``, ``q3_check``, ``ps01_q3_hidden``.

    >>> question({"metadata": {"nbgrader": {"grade_id": "q3_check", "grade": True}}})
    'q3'
    """
    name = grade_id(cell)
    found = _QUESTION.search(name) if name else None
    return found.group(1) if found and (flag(cell, "grade") or flag(cell, "solution")) else None
