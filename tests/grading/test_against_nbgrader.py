"""The engine against plain nbgrader, which runs everything in one kernel: the same points for every check.

Three notebooks a set as a rule: all right, all wrong, untouched. With ``CORPORA=all`` in the environment every answer
of the corpora is handed in, a notebook for each row of answers.
"""

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
    """Return notebooks by name; the answers of the corpus stand side by side, one to a question."""
    release = read(course.released(ps))
    asked = code_questions(read(course.source(ps)))
    found = {}
    for kind in ("right", "wrong"):
        answers = {q: [a.source for a in written(course, ps, q) if a.name.startswith(f"{kind}_")] for q in asked}
        for i in range(max(map(len, answers.values())) if ALL else 1):
            nb = copy.deepcopy(release)
            for q, sources in answers.items():
                answer_cell(nb, q).source = sources[i % len(sources)]
            found[f"{kind}-{i}"] = nb
    return found | {"untouched": release}


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
    notebooks = submissions(course, ps)
    ours = graded(course, tmp_path / "ours", ps, notebooks, "kernels")
    plain = graded(course, tmp_path / "plain", ps, notebooks, "nbgrader")
    assert ours == plain
    right, wrong, untouched = (sum(v or 0 for v in ours[name].values()) for name in ("right-0", "wrong-0", "untouched"))
    assert untouched == 0 < wrong < right
