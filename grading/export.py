"""Scores for other programs and other eyes: a CSV, and a table for the terminal."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .manifest import Outcome, replace

if TYPE_CHECKING:
    from .gradebook import Score


_DIGITS = 6  # of a score; what comes after them is a float's dust


def harmless(value: object) -> object:
    """Return a CSV field that no spreadsheet takes for a formula.

    >>> harmless("=HYPERLINK(1)"), harmless("anna"), harmless(-1.5)
    ("'=HYPERLINK(1)", 'anna', -1.5)
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@", "\t", "\r", "|", "%"):
        return f"'{value}"
    return value


def write_csv(
    path: Path, questions: Sequence[str], outcomes: Mapping[str, Outcome], held: "Mapping[str, Score]"
) -> None:
    """Write a row for each student in the gradebook or in ``submitted/``.

    Args:
        path: the file.
        questions: the set's questions, in order.
        outcomes: what runs made of the submissions, by student.
        held: what the gradebook holds, by student.
    """
    out = io.StringIO()
    rows = csv.writer(out)
    head = ["student", "score", "max_score", "late_penalty", "needs_manual_grading", "state"]
    rows.writerow([*head, *questions, "message"])
    for student in sorted({*outcomes, *held}):
        outcome = outcomes.get(student) or Outcome(student, "graded", message="graded outside this program")
        mine = held.get(student) if outcome.ok else None
        if mine is None:
            row = [student, "", "", "", "", outcome.state, *("" for _ in questions), outcome.message]
        else:
            got = [mine.questions.get(q, (0.0, 0.0))[0] for q in questions]
            waits = "yes" if mine.pending else "no"
            row = [student, mine.score, mine.max_score, mine.penalty, waits, outcome.state, *got, outcome.message]
        rows.writerow([round(value, _DIGITS) if isinstance(value, float) else harmless(value) for value in row])
    replace(path, out.getvalue().encode())


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as text to read in a terminal.

    >>> print(table([Outcome("anna", "graded", 15.0, 20.0, True), Outcome("bo", "refused", message="no notebook.")]))
    student     score  open question  state    message
    anna      15 / 20  to be marked   graded
    bo              -  -              refused  no notebook.
    """
    rows = [["student", "score", "open question", "state", "message"]]
    for o in outcomes:
        score = "-" if o.score is None else f"{o.score:g} / {o.max_score:g}"
        rows.append([o.student, score, "to be marked" if o.pending else "-", o.state, o.message])
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = []
    for row in rows:
        cells = [row[i].rjust(widths[i]) if i == 1 else row[i].ljust(widths[i]) for i in range(4)]
        lines.append("  ".join([*cells, row[4]]).rstrip())
    return "\n".join(lines)
