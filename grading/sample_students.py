"""Five students who never lived: one sample submission each of what a grader meets.

They are made from the release and the corpus of right and wrong answers, and so change when these do.
"""

import copy
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from .corpus import reference, written
from .course import SAMPLE, Course, GradingError
from .notebook import answer_cell, code_questions, is_manual, question, questions, read

_CRASH = "import os\nimport signal\n\nos.kill(os.getpid(), signal.SIGKILL)  # as when the machine runs out of memory\n"
_ENDLESS = "total = 0.0\nwhile total < 1.0:\n    total += 0.0  # meant: 0.1\n"


def build(course: Course, ps: str) -> dict[str, NotebookNode]:
    """Return the sample submissions of a set by the student's name.

    Args:
        course: the course.
        ps: the set's name.

    Raises:
        GradingError: not released, or a question has no right or no wrong answer in its corpus.
    """
    source, release = read(course.source(ps)), read(course.released(ps))
    coded = code_questions(source)
    right, wrong = {}, {}
    for q in coded:
        answers = written(course, ps, q)
        for kind, chosen in (("right", right), ("wrong", wrong)):
            found = [a for a in answers if a.name.startswith(f"{kind}_")]
            if not found:
                where = course.corpus(ps).relative_to(course.root)
                raise GradingError(f"no samples for {ps}: {where}/{q}/ holds no {kind}_*.py.")
            chosen[q] = _as_a_student(found[0].source)
    opened = [q for q in questions(source) if any(is_manual(c) and question(c) == q for c in source.cells)]
    # Of the instructor's answer to an open question, the rubric is not a student's to write.
    full = right | {q: reference(source, q).source.partition("\n**Marks")[0] for q in opened}
    crash = coded[len(coded) // 2]
    return {
        f"{SAMPLE}perfect": _answered(release, full),
        # Right, wrong, right, wrong, ...; the open question is left.
        f"{SAMPLE}half": _answered(release, {q: (wrong if i % 2 else right)[q] for i, q in enumerate(coded)}),
        f"{SAMPLE}untouched": _answered(release, {}),
        f"{SAMPLE}crashing": _answered(release, full | {crash: f"{full[crash]}\n\n{_CRASH}"}),
        f"{SAMPLE}slow": _answered(release, full | {coded[-1]: f"{_ENDLESS}\n\n{full[coded[-1]]}"}),
    }


def _answered(release: NotebookNode, answers: dict[str, str]) -> NotebookNode:
    nb = copy.deepcopy(release)
    for q, source in answers.items():
        answer_cell(nb, q).source = source.strip()
    return nb


def _as_a_student(source: str) -> str:
    """Drop the corpus's verdict on its first line."""
    lines = source.strip().splitlines()
    return "\n".join(lines[1:] if lines[0].startswith(("#", '"""')) else lines).strip()


def samples(ps: str, *, course: Course | None = None) -> list[Path]:
    """Write the sample submissions of a set into ``submitted/sample-*/``.

    Args:
        ps: the set's name.
        course: the course; by default the one around the working directory.

    Returns:
        The notebooks.

    Raises:
        GradingError: unknown set, not released, or without a corpus.
    """
    course = course or Course.find()
    paths = []
    for student, nb in build(course, ps).items():
        path = course.submitted / student / ps / f"{ps}.ipynb"
        text = nbformat.writes(nb) + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def own_submissions(course: Course) -> list[str]:
    """Return the students in ``submitted/`` who are not samples."""
    folders = (p for p in course.submitted.glob("*") if p.is_dir() and not p.name.startswith("."))
    return sorted(p.name for p in folders if not p.name.startswith(SAMPLE))
