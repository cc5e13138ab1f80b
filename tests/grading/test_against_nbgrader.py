"""The engine against plain nbgrader, which runs everything in one kernel: the same points for every check.

Three notebooks a set as a rule: all right, all wrong, untouched. With ``CORPORA=all`` in the environment every answer
of the corpora is handed in, a notebook for each row of answers.

Two things differ by design, both times to the student's loss in plain nbgrader. An answer that changes its caller's
data (``wrong_…_the_callers_…`` in the corpora) has the test's own data there and a copy in the engine, where it loses
the check that asks for it, but not those that go on with the changed data. And a helper of an answer is overwritten
there by a check's variable of the same name.
"""

import ast
import copy
import os
import shutil

import nbformat
import pytest

from grading import sandbox
from grading.corpus import written
from grading.course import Course
from grading.gradebook import gradebook
from grading.notebook import answer_cell, code_questions, read
from grading.run import grade

ALL = os.environ.get("CORPORA") == "all"


def submissions(course, ps):
    """Return notebooks by name, and the answer to each question in each; those of the corpus stand side by side."""
    release = read(course.released(ps))
    asked = code_questions(read(course.source(ps)))
    found, stands = {}, {}
    for kind in ("right", "wrong"):
        answers = {q: [a for a in written(course, ps, q) if a.name.startswith(f"{kind}_")] for q in asked}
        for i in range(max(map(len, answers.values())) if ALL else 1):
            nb = copy.deepcopy(release)
            for q, ours in answers.items():
                answer = ours[i % len(ours)]
                answer_cell(nb, q).source = answer.source
                stands[f"{kind}-{i}", q] = answer
            found[f"{kind}-{i}"] = nb
    return found | {"untouched": release}, stands


def assigned(source):
    """Return the names that a cell leaves behind: what it assigns outside functions, and the functions themselves."""
    found, left = set(), list(ast.parse(source).body)
    while left:
        node = left.pop()
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        else:
            found |= {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()
            left += ast.iter_child_nodes(node)
    return found


def graded(course, root, ps, notebooks, engine):
    """Return the points by student and check, as the gradebook of a copy of the course holds them."""
    for name in ("solutions", "exercises"):  # the contract lies beside the source
        shutil.copytree(course.root / name / ps, root / name / ps)
    shutil.copy(course.root / "nbgrader_config.py", root)
    mine = Course(root)
    for student, nb in notebooks.items():
        path = mine.submitted / student / ps / f"{ps}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(nb, path)
    outcomes = grade(ps, course=mine, engine=engine, sandbox=sandbox.unavailable() is None)
    assert {o.state for o in outcomes} <= {"graded", "timed out"}, outcomes
    with gradebook(mine) as book:
        return {
            student: {g.name: g.auto_score for g in book.find_submission_notebook(ps, ps, student).grades}
            for student in notebooks
        }


@pytest.mark.timeout(7200 if ALL else 600)
def test_every_check_gets_the_same_points(course, ps, tmp_path):
    notebooks, stands = submissions(course, ps)
    ours = graded(course, tmp_path / "ours", ps, notebooks, "kernels")
    plain = graded(course, tmp_path / "plain", ps, notebooks, "nbgrader")
    checks_of_set = [c for c in read(course.source(ps)).cells if c.metadata.get("nbgrader", {}).get("grade")]
    overwritten = set().union(*(assigned(c.source) for c in checks_of_set if not c.metadata.nbgrader.solution))
    for (name, q), answer in stands.items():
        changes = "_the_callers_" in answer.name
        if ALL and (changes or assigned(answer.source) & overwritten):  # the three as a rule must agree wholly
            checks = [check for check in ours[name] if check.startswith(f"{q}_")]
            mine, theirs = ([points[name].pop(check) for check in checks] for points in (ours, plain))
            assert all(t in (0.0, m) for m, t in zip(mine, theirs, strict=True)), (name, answer.name)
            assert not changes or 0.0 in mine, (name, answer.name)
    assert ours == plain
    right, wrong, untouched = (sum(v or 0 for v in ours[name].values()) for name in ("right-0", "wrong-0", "untouched"))
    assert untouched == 0 < wrong < right
