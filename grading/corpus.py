"""Answers whose worth is known: right ones that must get full marks, wrong ones that must lose some.

A question's corpus is ``tests/grading/corpus/<set>/<question>/{right,wrong}_<name>.py``: each file takes the place of
the student's answer cell, and its first line says what the answer does, or misunderstands. To these come wrong answers
that are made from the reference solution: NaN, nothing, another shape, zeros, the input.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.utils import determine_grade

from .course import Course, GradingError
from .forks import Job, run
from .notebook import answer_cell, code_questions, grade_id, is_answer, is_check, is_given, points, question, read


@dataclass(frozen=True)
class Answer:
    """One answer to one question.

    Args:
        question: such as ``q2``.
        name: ``right_...``, ``wrong_...``, ``auto_...``, ``reference`` or ``untouched``.
        source: what stands in the answer cell.
    """

    question: str
    name: str
    source: str

    @property
    def about(self) -> str:
        """The answer's first line, without comment marks or quotes."""
        return self.source.strip().splitlines()[0].strip("#\"' ") if self.source.strip() else ""


@dataclass(frozen=True)
class Verdict:
    """What an answer got.

    Args:
        answer: the answer.
        marks: points by check.
        out_of: points there are by check.
        message: what the first check that failed said.
        spoiled: for an automatic answer: whether it ever changed a result.
        seconds: how long it ran.
    """

    answer: Answer
    marks: dict[str, float]
    out_of: dict[str, float]
    message: str
    spoiled: bool
    seconds: float

    @property
    def full(self) -> bool:
        """Whether it got every point."""
        return sum(self.marks.values()) >= sum(self.out_of.values())


def reference(nb: NotebookNode, q: str) -> Answer:
    """Return the instructor's own answer to a question."""
    lines = answer_cell(nb, q).source.splitlines()
    return Answer(q, "reference", "\n".join(line for line in lines if " SOLUTION" not in line or "###" not in line))


def written(course: Course, ps: str, q: str) -> list[Answer]:
    """Return the answers in a question's corpus, right ones first.

    Args:
        course: the course.
        ps: the set's name.
        q: the question.

    Raises:
        GradingError: a file whose name says neither right nor wrong.
    """
    answers = []
    for path in sorted((course.corpus(ps) / q).glob("*.py")):
        if not path.stem.startswith(("right_", "wrong_")):
            raise GradingError(f"{path.relative_to(course.root)}: an answer's name starts with right_ or wrong_.")
        answers.append(Answer(q, path.stem, path.read_text(encoding="utf-8")))
    return answers


# --- wrong answers that every question gets ------------------------------------------------------------------------
KINDS = ("nan", "empty", "shape", "zeros", "echo")

# Stands after the reference solution: replaces what one of its functions returns.
_SPOIL = """

def __spoil__(kind, function):
    import functools
    import torch

    def tensors(values):
        for value in values:
            if isinstance(value, torch.Tensor):
                yield value

    def leaf(value, given):
        if isinstance(value, torch.Tensor):
            if kind == "nan":
                return torch.full_like(value, float("nan")) if value.is_floating_point() else value
            if kind == "echo":
                return next(tensors(given), value)
            return {"empty": value.flatten()[:0], "shape": value[None], "zeros": torch.zeros_like(value)}[kind]
        if isinstance(value, float):
            return {"nan": float("nan"), "zeros": 0.0}.get(kind, value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(leaf(v, given) for v in value))
        if isinstance(value, (tuple, list)):
            return type(value)(leaf(v, given) for v in value)
        if isinstance(value, dict):
            return {k: leaf(v, given) for k, v in value.items()}
        return value

    def same(a, b):
        if isinstance(a, torch.Tensor):
            return a is b or (a.shape == b.shape and a.dtype == b.dtype and bool((a == b).all()))
        if isinstance(a, (tuple, list)):
            return len(a) == len(b) and all(map(same, a, b))
        if isinstance(a, dict):
            return all(same(a[k], b[k]) for k in a)
        return a == b

    @functools.wraps(function)
    def spoiled(*args, **kwargs):
        value = function(*args, **kwargs)
        result = leaf(value, [*args, *kwargs.values()])
        if not same(value, result):
            globals()["__spoiled__"] = True
        return result

    return spoiled


"""


def automatic(nb: NotebookNode, q: str) -> list[Answer]:
    """Return wrong answers made from the reference: one for each of its functions and each kind of ruin.

    Args:
        nb: the instructor's notebook.
        q: the question.
    """
    own = reference(nb, q)
    names = []
    for node in ast.parse(own.source).body:
        if isinstance(node, ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.ClassDef):
            names += [f"{node.name}.{method.name}" for method in node.body if isinstance(method, ast.FunctionDef)]
    return [
        Answer(
            q, f"auto_{kind}_{name.replace('.', '_')}", f"{own.source}{_SPOIL}{name} = __spoil__({kind!r}, {name})\n"
        )
        for name in names
        if not name.split(".")[-1].startswith("_")
        for kind in KINDS
    ]


# --- scoring -------------------------------------------------------------------------------------------------------
def score_answers(course: Course, ps: str, answers: Sequence[Answer], *, seconds: float = 60.0) -> list[Verdict]:
    """Score answers as nbgrader would, each as if every other question were answered by the reference.

    Run are the given cells, the answer cells and the question's own checks: what another question's checks leave behind
    must not matter, and neither must cells that a student may delete.

    Args:
        course: the course.
        ps: the set's name.
        answers: what to score.
        seconds: time limit of one answer.

    Returns:
        A verdict for each, in the same order.
    """
    nb = read(course.source(ps))
    jobs: list[Job] = []
    checks: dict[str, list[NotebookNode]] = {}
    for q in dict.fromkeys(answer.question for answer in answers):
        cells = [c for c in nb.cells if c.cell_type == "code"]
        at = next(i for i, c in enumerate(cells) if is_answer(c) and question(c) == q)
        checks[q] = [c for c in cells if is_check(c) and question(c) == q]
        after = cells[at + 1 : cells.index(checks[q][-1]) + 1]
        rest = [c for c in after if c in checks[q] or is_given(c) or is_answer(c)]
        own = [_source(nb, c) for c in rest]
        variants = {a.name: [a.source, *own] for a in answers if a.question == q}
        before = [_source(nb, c) for c in cells[:at] if is_given(c) or is_answer(c)]
        jobs.append({"name": q, "before": before, "variants": variants})
        checks[q] = [c if c in checks[q] else None for c in [cells[at], *rest]]
    ran = {(r["job"], r["variant"]): r for r in run(jobs, seconds=seconds, cwd=course.root)}
    return [_verdict(a, checks[a.question], ran[a.question, a.name]) for a in answers]


def _source(nb: NotebookNode, cell: NotebookNode) -> str:
    return reference(nb, question(cell)).source if is_answer(cell) else cell.source


def _verdict(answer: Answer, cells: list[NotebookNode | None], ran: dict) -> Verdict:
    marks, out_of, message = {}, {}, ""
    for cell, output in zip(cells, ran["outputs"], strict=True):
        if cell is None:
            if "error" in output and not message:
                message = f"{output['error']}: {output['message']}"
            continue
        name = grade_id(cell)
        marks[name], out_of[name] = mark(cell, output), points(cell)
        if marks[name] < out_of[name] and not message:
            error = output.get("error", "")
            text = output.get("message") or ("" if error else f"gave {output.get('value')}")
            message = text if error in ("", "AssertionError") and text else f"{error}: {text}".rstrip(": ")
    return Verdict(answer, marks, out_of, message, ran["spoiled"], ran["seconds"])


def mark(cell: NotebookNode, output: dict[str, str]) -> float:
    """Return the points nbgrader gives a check with this output."""
    done = NotebookNode({**cell, "outputs": []})
    if "error" in output:
        done.outputs.append(new_output("error", ename=output["error"], evalue=output["message"]))
    elif "value" in output:
        done.outputs.append(new_output("execute_result", data={"text/plain": output["value"]}, execution_count=1))
    return float(determine_grade(done)[0])


def score_notebook(course: Course, ps: str, nb: NotebookNode, *, seconds: float = 120.0) -> dict[str, float]:
    """Score a whole notebook's checks in one run, cells in order.

    Args:
        course: the course.
        ps: the set's name; its checks replace the notebook's, hidden tests included.
        nb: a submission in which no check is missing.
        seconds: time limit.

    Returns:
        Points by check.
    """
    checks = {grade_id(c): c for c in read(course.source(ps)).cells if is_check(c)}
    cells = [c for c in nb.cells if c.cell_type == "code"]
    sources = [checks[grade_id(c)].source if is_check(c) else c.source for c in cells]
    (ran,) = run([{"name": ps, "before": [], "variants": {"it": sources}}], seconds=seconds, cwd=course.root)
    return {
        grade_id(c): mark(checks[grade_id(c)], out) for c, out in zip(cells, ran["outputs"], strict=True) if is_check(c)
    }


def complaints(verdicts: Sequence[Verdict]) -> list[str]:
    """Return what is wrong with a set's checks, or its corpus, one line each.

    Args:
        verdicts: from :func:`score_answers`.
    """
    found = []
    for v in verdicts:
        a = v.answer
        got = f"{sum(v.marks.values()):g} of {sum(v.out_of.values()):g} points"
        if a.name.startswith(("right_", "reference")) and not v.full:
            found.append(f"{a.question} {a.name} is right and got {got}: {v.message}")
        if (a.name.startswith("wrong_") or (a.name.startswith("auto_") and v.spoiled)) and v.full:
            found.append(f"{a.question} {a.name} is wrong and got {got}.")
        if a.name == "untouched" and any(v.marks.values()):
            found.append(f"{a.question} untouched got {got}.")
    return found


def examine(course: Course, ps: str, only: Sequence[str] = ()) -> list[Verdict]:
    """Score everything that is known about a set's questions: reference, untouched, corpus, automatic answers.

    Args:
        course: the course.
        ps: the set's name.
        only: questions; by default all.

    Raises:
        GradingError: a question that is not in the set.
    """
    nb = read(course.source(ps))
    asked = code_questions(nb)
    for q in only:
        if q not in asked:
            raise GradingError(f"{ps} has no coded question {q}: it has {', '.join(asked)}.")
    answers = []
    for q in only or asked:
        untouched = Answer(q, "untouched", answer_cell(read(course.released(ps)), q).source)
        answers += [reference(nb, q), untouched, *written(course, ps, q), *automatic(nb, q)]
    return score_answers(course, ps, answers)


def report(verdicts: Sequence[Verdict]) -> str:
    """Return verdicts as text to read in a terminal."""
    lines = []
    for v in verdicts:
        if v.answer.name.startswith("auto_") and not v.spoiled:
            continue
        got = " ".join(f"{v.marks[name]:g}/{v.out_of[name]:g}" for name in v.marks)
        said = " ".join(v.message.split())
        lines.append(f"{v.answer.question}  {v.answer.name:<42} {got:<16} {v.seconds:5.1f} s  {said[:110]}".rstrip())
    return "\n".join(lines)
