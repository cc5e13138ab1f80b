"""Answers whose worth is known: right ones that must get full marks, wrong ones that must lose some.

A question's corpus is ``tests/grading/corpus/<set>/<question>/{right,wrong}_<name>.py``: each file takes the place of
the student's answer cell, and its first line says what the answer does, or misunderstands. To these come wrong answers
that are made from the reference solution: NaN, nothing, another shape, zeros, the input.
"""

import ast
import copy
from collections.abc import Sequence
from dataclasses import dataclass

from nbformat import NotebookNode, reads, writes
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.utils import determine_grade

from .course import Course, GradingError
from .notebook import answer_cell, code_questions, grade_id, is_answer, is_check, is_given, question, read


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
_LAST = "was-it-spoiled"  # the cell that tells whether an automatic answer ever changed a result


def score_answers(course: Course, ps: str, answers: Sequence[Answer], *, seconds: int = 60) -> list[Verdict]:
    """Score answers through the engine, each as if every other question were answered by the reference.

    Run are the given cells, the answer cells and the question's own checks: what another question's checks leave behind
    must not matter, and neither must cells that a student may delete.

    Args:
        course: the course.
        ps: the set's name.
        answers: what to score.
        seconds: time limit of one cell.

    Returns:
        A verdict for each, in the same order.

    Raises:
        GradingError: a given cell or the reference solution fails.
    """
    from . import sandbox
    from .kernels.task import Task
    from .pool import cores, run_all
    from .rehearsal import settle
    from .student_version import own_files

    contract = settle(course, ps)
    nb, boxed, given = read(course.source(ps)), sandbox.unavailable() is None, own_files(course, ps)
    tasks = (
        Task(
            str(i), ps, writes(_with(nb, answer)), contract.remote, contract.handles, contract.forbidden,
            hidden=[str(course.root)], given=given, cell_seconds=seconds, notebook_seconds=10 * seconds, sandbox=boxed,
        )
        for i, answer in enumerate(answers)
    )  # fmt: skip
    verdicts: dict[int, Verdict] = {}
    for task, done in run_all(tasks, workers=min(cores(), 1 + len(answers) // 8)):
        if isinstance(done, Exception):
            raise GradingError(f"{ps} {answers[int(task.student)].name}: {done}") from done
        verdicts[int(task.student)] = _verdict(answers[int(task.student)], reads(done.notebook, 4), done.seconds)
    return [verdicts[i] for i in range(len(answers))]


def _with(nb: NotebookNode, answer: Answer) -> NotebookNode:
    """Return the notebook that one answer is scored in."""
    cells, mine = [], None
    for cell in nb.cells:
        if cell.cell_type != "code" or not (is_given(cell) or is_answer(cell) or is_check(cell)):
            continue
        if is_check(cell) and question(cell) != answer.question:
            continue
        new = copy.deepcopy(cell)
        if is_answer(cell):
            mine = mine or question(cell) == answer.question
            new.source = answer.source if question(cell) == answer.question else reference(nb, question(cell)).source
        cells.append(new)
        if mine and is_check(cell):
            last = len(cells)
    asks = new_code_cell("globals().get('__spoiled__', False)", id=_LAST)
    return new_notebook(cells=[*cells[:last], asks])


def _verdict(answer: Answer, nb: NotebookNode, seconds: float) -> Verdict:
    marks, out_of, message = {}, {}, ""
    for cell in nb.cells[:-1]:
        error = next((out for out in cell.outputs if out.output_type == "error"), None)
        said = "" if error is None else f"{error.ename}: {error.evalue}".removeprefix("AssertionError: ") or error.ename
        if is_check(cell):
            name = grade_id(cell)
            marks[name], out_of[name] = map(float, determine_grade(cell))
            if marks[name] < out_of[name] and not said:
                given = (out.data["text/plain"] for out in cell.outputs if out.output_type == "execute_result")
                said = next((f"gave {value}" for value in given), "")
        if said and not message and question(cell) == answer.question:
            message = said.rstrip(": ")
    spoiled = [out for out in nb.cells[-1].outputs if out.get("data", {}).get("text/plain") == "True"]
    return Verdict(answer, marks, out_of, message, bool(spoiled), seconds)


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
